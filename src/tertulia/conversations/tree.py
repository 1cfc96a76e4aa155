"""The steps on a conversation's tree that several use cases take, inside their transactions."""

from collections.abc import Sequence
from uuid import UUID

from tertulia.domain.errors import RunActive
from tertulia.storage.repositories.conversations import LockedConversation
from tertulia.storage.repositories.runs import LockedRun
from tertulia.storage.unit_of_work import UnitOfWork

WRITTEN = "This message is being written; wait, or cancel the run"
_ANSWERED = "This message is being answered; wait, or cancel the run"


async def lock_idle(
    work: UnitOfWork, conversation_id: UUID, *, user_id: UUID
) -> LockedConversation:
    """Lock a conversation that is not being answered.

    Raises:
        ConversationNotFound: No such conversation, or it is another user's.
        RunActive: It is being answered, or an answer waits for its turn.
    """
    locked = await work.conversations.lock(conversation_id, user_id=user_id)
    if await work.runs.count_active(conversation_id, limit=1):
        raise RunActive
    return locked


async def move_head(work: UnitOfWork, locked: LockedConversation, head_id: UUID | None) -> None:
    """Let a locked conversation end at one of its messages (None: before its first).

    Raises:
        MessageNotFound: It has no such message.
    """
    place = await work.messages.place(locked, head_id)
    await work.conversations.set_head(
        locked, head_id=place.id, seq=place.seq, branch=place.branch, is_tip=place.is_tip
    )


async def refuse_if_in_use(work: UnitOfWork, active: Sequence[LockedRun], message_id: UUID) -> None:
    """Refuse a change of a message that one of the active runs writes or answers.

    Raises:
        RunActive: One of them does.
    """
    if not active:
        return
    prompts = await work.messages.parents([run.message_id for run in active])
    if message_id in prompts:
        raise RunActive(WRITTEN)
    if message_id in prompts.values():
        raise RunActive(_ANSWERED)
