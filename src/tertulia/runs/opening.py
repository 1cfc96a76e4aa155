"""Where a send goes: a conversation that is there, or one that begins with it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.errors import (
    ConversationNotFound,
    Invalid,
    ToolCallNotFound,
    ToolCallSettled,
)
from tertulia.domain.ids import new_id
from tertulia.domain.parts import Part, ToolCallPart, ToolResultPart
from tertulia.runs.calls import find_open_calls
from tertulia.runs.send import Branch, Decision, NewConversation, Send
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.repositories.messages import ROOT, Place
from tertulia.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Opened:
    """A locked conversation, and the message in it that is to be answered."""

    conversation: LockedConversation
    prompt: Place
    new: Sequence[Message]
    """What was stored for it."""


async def lock_or_create(
    work: UnitOfWork,
    where: UUID | NewConversation,
    *,
    user_id: UUID,
    model_type: str,
    copied_max: int,
) -> LockedConversation:
    """Return the conversation that a send goes to, made first if it is new.

    Args:
        work: The transaction.
        where: Its id, or what it shall be like. One whose id a client chose may be there already.
        user_id: Whose.
        model_type: Of a new one that names none.
        copied_max: At most so many messages of the history that a new one repeats, the newest.

    Raises:
        ConversationNotFound: No such conversation, or it is another user's.
        MessageNotFound: There is no such history.
    """
    if isinstance(where, UUID):
        return await work.conversations.lock(where, user_id=user_id)
    if where.id is not None:
        # First: a conversation is made once and sent to many times.
        with suppress(ConversationNotFound):
            return await work.conversations.lock(where.id, user_id=user_id)
    id_ = where.id or new_id()
    # Another request may be making it, too; then this one waits for that, and joins it.
    await work.conversations.create_if_missing(
        id_,
        user_id=user_id,
        model_type=where.model_type or model_type,
        metadata=where.metadata,
        retention=where.retention,
    )
    conversation = await work.conversations.lock(id_, user_id=user_id)
    if where.history is None:
        return conversation
    repeated = await _repeated(work, where.history, user_id=user_id, copied_max=copied_max)
    place = work.messages.head(conversation)
    _, conversation = await work.messages.append_all(conversation, repeated, parent=place)
    return conversation


async def open_for(work: UnitOfWork, conversation: LockedConversation, send: Send) -> Opened:
    """Store what is new, and return the place of the message to answer.

    Raises:
        MessageNotFound: The conversation has no message `send.parent_id`.
        Invalid: There is nothing to answer, or no call that waits for a result.
        ToolCallNotFound: There is no such call to be decided about.
        ToolCallSettled: It waits for no decision.
    """
    if send.decision is not None:
        return await _open_decision(work, conversation, send.decision)
    results = [NewMessage(Role.TOOL, tuple(send.tool_results))] if send.tool_results else []
    messages = [*results, *send.messages]
    place = ROOT if send.begins else work.messages.head(conversation)
    if send.parent_id is not None or (not messages and place.id is not None):
        place = await work.messages.place(conversation, send.parent_id or place.id)
    if results:
        await _check_results(work, conversation, send.tool_results, tip_id=place.id)
    if messages:
        new, conversation = await work.messages.append_all(conversation, messages, parent=place)
        tip = replace(work.messages.head(conversation), role=new[-1].role)
        return Opened(conversation, tip, new)
    if place.role is None or place.role is Role.ASSISTANT:
        wrong = "body.content" if send.parent_id is None else "body.parent_id"
        raise Invalid("There is no user's message to answer there", field=wrong)
    return Opened(conversation, place, ())


async def _open_decision(
    work: UnitOfWork, conversation: LockedConversation, decision: Decision
) -> Opened:
    owner = conversation.user_id
    asking = await work.messages.get(
        decision.message_id, conversation_id=conversation.id, user_id=owner
    )
    if decision.call_id not in [call.call_id for call in _ours(asking.parts)]:
        raise ToolCallNotFound
    calls = await find_open_calls(work, conversation.id, tip_id=conversation.head_id, user_id=owner)
    if decision.call_id not in [call.call_id for call in calls]:
        raise ToolCallSettled
    place = await work.messages.place(conversation, conversation.head_id)
    return Opened(conversation, place, ())


async def _check_results(
    work: UnitOfWork,
    conversation: LockedConversation,
    results: Sequence[ToolResultPart],
    *,
    tip_id: UUID | None,
) -> None:
    calls = await find_open_calls(
        work, conversation.id, tip_id=tip_id, user_id=conversation.user_id
    )
    if _ours(calls):
        wrong = "body.tool_results"
        raise Invalid("A call of the server's waits to be approved or refused first", field=wrong)
    waiting = [call.call_id for call in calls]
    for at, result in enumerate(results):
        if result.call_id not in waiting:
            wrong = f"body.tool_results[{at}].call_id"
            raise Invalid("No such call waits for a result there", field=wrong)
        waiting.remove(result.call_id)


def _ours(parts: Sequence[Part]) -> Sequence[ToolCallPart]:
    """Return the calls that this server makes."""
    return [part for part in parts if isinstance(part, ToolCallPart) and part.server is not None]


async def _repeated(
    work: UnitOfWork, history: Branch, *, user_id: UUID, copied_max: int
) -> list[NewMessage]:
    # Asked for itself: a foreign one is missing, and an empty list would not say so.
    await work.messages.get(
        history.tip_id, conversation_id=history.conversation_id, user_id=user_id
    )
    newest = await work.messages.list_branch(
        history.conversation_id,
        tip_id=history.tip_id,
        user_id=user_id,
        limit=copied_max,
        newest_first=True,
    )
    return [NewMessage(message.role, message.parts) for message in reversed(newest)]
