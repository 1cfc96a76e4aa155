"""Runs as rows: held by a process that there is not, or waiting."""

from datetime import timedelta
from uuid import UUID

from tertulia.domain.conversations import Conversation, Role
from tertulia.domain.ids import new_id
from tertulia.domain.parts import TextPart
from tertulia.domain.runs import EventKind, Run, RunEvent
from tertulia.storage.database import Database
from tertulia.storage.repositories.leases import HeldRun
from tertulia.storage.repositories.run_events import RunEvents
from tertulia.storage.unit_of_work import UnitOfWork
from tests.storage.rows import MODEL, new_conversation, new_user

LEASE = timedelta(minutes=1)
EXPIRED = timedelta(seconds=-1)


async def store_run(
    database: Database,
    *,
    owner: UUID | None,
    lease: timedelta = LEASE,
    beside: Run | None = None,
    model: str = MODEL,
    content: str = "why?",
    max_attempts: int = 3,
) -> Run:
    """Store a question and the run that answers it; without an owner the run is queued.

    Args:
        database: Where to.
        owner: The process that holds it.
        lease: For how long from now; negative for a process that is dead.
        beside: A run into whose conversation it goes; else it gets a new user's.
        model: Its name.
        content: The question.
        max_attempts: Of the run.
    """
    async with database.reading() as work:
        conversation = beside and await work.conversations.get(
            beside.conversation_id, user_id=beside.user_id
        )
    if conversation is None:
        conversation = await new_conversation(database, await new_user(database))
    async with database.transaction() as work:
        return await append_run(
            work,
            conversation,
            owner=owner,
            lease=lease,
            model=model,
            content=content,
            max_attempts=max_attempts,
        )


async def append_run(
    work: UnitOfWork,
    conversation: Conversation,
    *,
    owner: UUID | None,
    lease: timedelta,
    model: str = MODEL,
    content: str = "why?",
    max_attempts: int = 3,
) -> Run:
    """Store a question and its run at the end of a conversation; see `store_run`."""
    user_id, run_id, answer_id = conversation.user_id, new_id(), new_id()
    locked = await work.conversations.lock(conversation.id, user_id=user_id)
    _, locked = await work.messages.append(
        locked,
        new_id(),
        parent=work.messages.head(locked),
        role=Role.USER,
        parts=[TextPart(content)],
    )
    _, locked = await work.messages.append(
        locked,
        answer_id,
        parent=work.messages.head(locked),
        role=Role.ASSISTANT,
        parts=[],
        run_id=run_id,
        model_type=model,
    )
    return await work.runs.create(
        run_id,
        user_id=user_id,
        conversation_id=conversation.id,
        message_id=answer_id,
        seq=locked.last_seq,
        model_type=model,
        settings={},
        max_attempts=max_attempts,
        owner=owner,
        lease=lease,
    )


def held(run: Run, *, max_attempts: int = 3) -> HeldRun:
    """Return the run as whoever holds it knows it."""
    return HeldRun(
        id=run.id,
        user_id=run.user_id,
        conversation_id=run.conversation_id,
        message_id=run.message_id,
        prompt_id=None,
        attempt=run.attempt,
        max_attempts=max_attempts,
        model_type=run.model_type,
        settings=run.settings,
        age_s=0.0,
    )


def texts(*words: str, after: int = 0) -> list[RunEvent]:
    """Return text events, numbered from the one behind `after`."""
    return [
        RunEvent(seq, EventKind.TEXT, {"delta": word}) for seq, word in enumerate(words, after + 1)
    ]


async def write(
    database: Database, run: Run, events: list[RunEvent], *, owner: UUID, attempt: int | None = None
) -> set[UUID]:
    """Store events of the run as its holder does; return the runs that are still held."""
    async with database.reading() as work:
        share = RunEvents(run.id, run.attempt if attempt is None else attempt, events)
        return await work.run_events.write([share], owner=owner)
