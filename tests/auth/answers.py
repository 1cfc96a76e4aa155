"""Answers that are being written for somebody, by nothing but rows."""

from uuid import UUID

from tertulia.domain.ids import new_id
from tertulia.domain.runs import Run, RunStatus
from tertulia.storage.database import Database
from tests.storage.rows import new_conversation
from tests.storage.running import LEASE, append_run, texts, write


async def begin_answer(database: Database, user_id: UUID) -> Run:
    """Store a conversation of the user's and a running answer to it that has said "one two"."""
    conversation, owner = await new_conversation(database, user_id), new_id()
    async with database.transaction() as work:
        run = await append_run(work, conversation, owner=owner, lease=LEASE)
    assert await write(database, run, texts("one", " two"), owner=owner)
    return run


async def queue_answer(database: Database, beside: Run) -> Run:
    """Store a run that waits for another of the same conversation."""
    async with database.transaction() as work:
        conversation = await work.conversations.get(beside.conversation_id, user_id=beside.user_id)
        return await append_run(work, conversation, owner=None, lease=LEASE)


async def answer_of(database: Database, run: Run) -> tuple[RunStatus, str, bool | None]:
    """Return how the run stands, and its answer's text and success."""
    async with database.reading() as work:
        status = (await work.runs.get(run.id, user_id=run.user_id)).status
        message = await work.messages.get(
            run.message_id, conversation_id=run.conversation_id, user_id=run.user_id
        )
    generation = message.generation
    return status, message.content, None if generation is None else generation.is_success
