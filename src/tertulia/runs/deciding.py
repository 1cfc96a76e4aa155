"""What users decide about calls that this server makes only with their consent."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from tertulia.conversations.tool_calls import Tip, find_open_calls
from tertulia.domain.conversations import Message
from tertulia.domain.errors import ToolCallNotFound, ToolCallSettled
from tertulia.domain.parts import ToolCallPart
from tertulia.domain.runs import OnBusy, Run
from tertulia.runs.send import Decision, Instructions, Send, Verdict
from tertulia.runs.settings import settings_from_json
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.unit_of_work import UnitOfWork

_RUNS_SOUGHT = 200
"""After the one that asked, among which the one must be that heeded the user's word."""
NOT_ALLOWED = "The user did not allow this call, so it was not made."


def decisions_about(answer: Message, verdicts: Mapping[str, Verdict]) -> Sequence[Decision]:
    """Return what is decided about calls of an answer, in the order in which it makes them.

    Args:
        answer: Which asks for the calls.
        verdicts: The user's words, by the ids of the calls.

    Raises:
        ToolCallNotFound: It makes no such call, or one that is the client's to make.
    """
    calls = {
        part.call_id: part
        for part in answer.parts
        if isinstance(part, ToolCallPart) and part.server is not None
    }
    if not verdicts or not verdicts.keys() <= calls.keys():
        raise ToolCallNotFound
    decided = (call for call_id, call in calls.items() if call_id in verdicts)
    return [Decision(answer.id, call, verdicts[call.call_id]) for call in decided]


def as_asked(run: Run) -> Send:
    """Return how a run was asked for."""
    return Send(
        settings=settings_from_json(run.settings),
        instructions=Instructions.stored_in(run.settings),
    )


def going_on(run: Run, send: Send, decisions: Sequence[Decision]) -> Send:
    """Return a send as one that goes on from the run that waits, as was decided."""
    servers = dict.fromkeys((*send.mcp, *run.settings.get("mcp", ())))
    return replace(
        send,
        model_type=send.model_type or run.model_type,
        mcp=list(servers),
        decisions=decisions,
        # One that waited for its turn would find the calls settled.
        on_busy=OnBusy.REJECT,
    )


def refusal(decision: Decision) -> str:
    """Return what a model is told of a call that its user did not allow."""
    reason = decision.verdict.reason
    return f"{NOT_ALLOWED} The user says: {reason}" if reason else NOT_ALLOWED


async def heeded_before(
    work: UnitOfWork, conversation: LockedConversation, send: Send
) -> tuple[Run | None, Send]:
    """Return the run that was told all of these decisions before, else the send with the others.

    Raises:
        MessageNotFound: The answer that asks for the calls is gone.
        ToolCallSettled: One was decided before, in another way.
    """
    owner = conversation.user_id
    if not send.decisions:
        return None, send
    asking = await work.messages.get(
        send.decisions[0].message_id, conversation_id=conversation.id, user_id=owner
    )
    earlier = await work.runs.list_decisions(
        conversation.id, user_id=owner, after_seq=asking.seq, limit=_RUNS_SOUGHT
    )
    left = {each.call.call_id: each for each in send.decisions}
    heeded_by: UUID | None = None
    for run_id, told in earlier:
        for each in map(Decision.from_json, told):
            if each.message_id != asking.id or each.call.call_id not in left:
                continue
            said = left.pop(each.call.call_id)
            if said.verdict.is_approved != each.verdict.is_approved:
                raise ToolCallSettled
            heeded_by = run_id
    if heeded_by is not None and not left:
        return await work.runs.get(heeded_by, user_id=owner), send
    return None, replace(send, decisions=list(left.values()))


async def check_open(work: UnitOfWork, decisions: Sequence[Decision], tip: Tip) -> None:
    """Accept decisions about calls that wait for them where the conversation ends.

    Raises:
        ToolCallSettled: The conversation went on without one of them.
    """
    waiting = {call.call_id for call in await find_open_calls(work, tip)}
    if any(each.call.call_id not in waiting for each in decisions):
        raise ToolCallSettled
