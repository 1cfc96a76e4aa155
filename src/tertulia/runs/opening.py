"""Where a send goes: a conversation that is there, or one that begins with it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID

from tertulia.conversations.tool_calls import Tip, check_results, find_open_calls
from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.errors import ConversationNotFound, Invalid
from tertulia.domain.ids import new_id
from tertulia.domain.runs import Run
from tertulia.runs.deciding import check_open
from tertulia.runs.keeper import LEASE
from tertulia.runs.prompt import (
    CONTENT_BYTES_MAX,
    PARTS_BYTES_MAX,
    WHOLE_MESSAGES_MAX,
    more_than_can_be_told,
)
from tertulia.runs.send import Branch, NewConversation, Send
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.repositories.leases import HeldRun
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
    also_temporary: bool = False,
) -> LockedConversation:
    """Return the conversation that a send goes to, made first if it is new.

    Args:
        work: The transaction.
        where: Its id, or what it shall be like. One whose id a client chose may be there already.
        user_id: Whose.
        model_type: Of a new one that names none.
        copied_max: At most so many messages of the history that a new one repeats, the newest.
        also_temporary: Whether one that is named may be temporary.

    Raises:
        ConversationNotFound: No such conversation, or it is another user's.
        MessageNotFound: There is no such history.
        ContextTooLong: All of it is needed, and it is more than any model is told.
    """
    if isinstance(where, UUID):
        return await work.conversations.lock(where, user_id=user_id, also_temporary=also_temporary)
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
    conversation = await work.conversations.lock(
        id_, user_id=user_id, also_temporary=where.id is None
    )
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
        ToolCallSettled: A call waits for no decision.
    """
    results = [NewMessage(Role.TOOL, tuple(send.tool_results))] if send.tool_results else []
    messages: Sequence[NewMessage] = [*results, *send.messages]
    place = ROOT if send.begins else work.messages.head(conversation)
    # What was decided is done once: never again below the answer that asked for it.
    parent_id = None if send.decisions else send.parent_id
    if parent_id is not None or (not messages and place.id is not None):
        place = await work.messages.place(conversation, parent_id or place.id)
    tip = Tip(conversation.id, place.id, conversation.user_id)
    messages, sent = await _check_calls(work, messages, send, tip), messages
    if messages:
        new, conversation = await work.messages.append_all(conversation, messages, parent=place)
        prompt = replace(work.messages.head(conversation), role=new[-1].role)
        return Opened(conversation, prompt, new)
    if sent and place.id is not None:
        # All of it was there already; then what it was said to is the question.
        place = await work.messages.place(conversation, place.id)
    goes_on = send.prepares or send.decisions
    if not goes_on and (place.role is None or place.role is Role.ASSISTANT):
        wrong = "body.content" if send.parent_id is None else "body.parent_id"
        raise Invalid("There is no user's message to answer there", field=wrong)
    return Opened(conversation, place, ())


async def store_run(
    work: UnitOfWork,
    run_id: UUID,
    *,
    opened: Opened,
    model_type: str,
    send: Send,
    owner: UUID | None,
    max_attempts: int,
) -> Run:
    """Store an answer that is still empty, and the run that will write it.

    Args:
        work: The transaction.
        run_id: Of the run.
        opened: Where.
        model_type: Which answers.
        send: What was asked for.
        owner: The process that executes it; None: it waits.
        max_attempts: How often it may be begun.
    """
    conversation = opened.conversation
    if send.keeps:
        await work.conversations.keep(conversation)
    if send.title is not None and conversation.title is None:
        await work.conversations.set_title_if_untitled(
            conversation.id, send.title, user_id=conversation.user_id
        )
    answer, _ = await work.messages.append(
        conversation,
        new_id(),
        parent=opened.prompt,
        role=Role.ASSISTANT,
        parts=(),
        run_id=run_id,
        model_type=model_type,
    )
    return await work.runs.create(
        run_id,
        user_id=conversation.user_id,
        conversation_id=conversation.id,
        message_id=answer.id,
        seq=answer.seq,
        model_type=model_type,
        settings=send.stored_settings(inputs=len(opened.new)),
        max_attempts=max_attempts,
        owner=owner,
        lease=LEASE,
    )


def held(run: Run, *, prompt_id: UUID | None, max_attempts: int) -> HeldRun:
    """Return a run that was just stored, as this process holds it."""
    return HeldRun(
        id=run.id,
        user_id=run.user_id,
        conversation_id=run.conversation_id,
        message_id=run.message_id,
        prompt_id=prompt_id,
        attempt=run.attempt,
        max_attempts=max_attempts,
        model_type=run.model_type,
        settings=run.settings,
        age_s=0.0,
    )


async def _check_calls(
    work: UnitOfWork, new: Sequence[NewMessage], send: Send, tip: Tip
) -> Sequence[NewMessage]:
    """Accept what is said of tool calls: results that are the client's to tell, and decisions.

    Return what is to be stored; see `check_results`.
    """
    if send.decisions:
        await check_open(work, send.decisions, tip)
    new = await check_results(work, new, tip)
    if new and all(message.role is Role.TOOL for message in new):
        # Whoever says more goes on without the calls that wait; results alone say nothing of them.
        decided = {each.call.call_id for each in send.decisions}
        for call in await find_open_calls(work, tip):
            if call.server is not None and call.call_id not in decided:
                raise Invalid(
                    "A call of the server's waits to be approved or refused first",
                    field="body.tool_results",
                )
    return new


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
        limit=WHOLE_MESSAGES_MAX if history.is_whole else copied_max,
        newest_first=True,
        content_bytes=CONTENT_BYTES_MAX,
        parts_bytes=PARTS_BYTES_MAX,
    )
    if history.is_whole and not newest.is_last:
        raise more_than_can_be_told()
    return [NewMessage(message.role, message.parts) for message in reversed(newest)]


def is_new(where: UUID | NewConversation, conversation: LockedConversation) -> bool:
    """Return whether a conversation was made for a send; it is as it was before that."""
    return not isinstance(where, UUID) and (where.id is None or conversation.last_seq == 0)
