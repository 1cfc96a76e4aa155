from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import pytest

from tertulia.domain.conversations import Conversation
from tertulia.domain.errors import ConversationNotFound, NotFound
from tertulia.domain.ids import new_id
from tertulia.storage.database import Database
from tests.storage.rows import MODEL, new_conversation, new_user

ROWS_LEFT = """
    SELECT 'conversations' FROM conversations UNION ALL SELECT 'branches' FROM branches
    UNION ALL SELECT 'messages' FROM messages UNION ALL SELECT 'runs' FROM runs
    UNION ALL SELECT 'run_events' FROM run_events
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """A user, and a connection that sees all tables."""

    database: Database
    id: UUID
    raw: "asyncpg.Connection[asyncpg.Record]"

    async def add(self) -> Conversation:
        return await new_conversation(self.database, self.id)

    async def list(
        self,
        *,
        limit: int = 1000,
        skip: int = 0,
        archived: bool | None = None,
        model_type: str | None = None,
        after: tuple[datetime, UUID] | None = None,
    ) -> list[UUID]:
        async with self.database.reading() as work:
            found = await work.conversations.list(
                user_id=self.id,
                limit=limit,
                skip=skip,
                archived=archived,
                model_type=model_type,
                after=after,
            )
        return [conversation.id for conversation in found]


@pytest.fixture
async def owner(dsn: str, database: Database) -> AsyncIterator[Owner]:
    raw = await asyncpg.connect(dsn)
    yield Owner(database, await new_user(database), raw)
    await raw.close()


class TestCreate:
    async def test_begins_empty(self, owner: Owner) -> None:
        made = await owner.add()
        assert (made.title, made.model_type, made.is_archived) == (None, MODEL, False)
        assert (made.message_count, made.head_id) == (0, None)
        assert made.created_at == made.updated_at
        assert made.created_at.tzinfo is not None

    async def test_for_a_user_that_is_gone_is_not_found(self, database: Database) -> None:
        with pytest.raises(NotFound):
            await new_conversation(database, new_id())


class TestGet:
    async def test_of_another_user_is_not_found(self, owner: Owner) -> None:
        made = await owner.add()
        other = await new_user(owner.database)
        async with owner.database.reading() as work:
            assert await work.conversations.get(made.id, user_id=owner.id) == made
            with pytest.raises(ConversationNotFound):
                await work.conversations.get(made.id, user_id=other)
            with pytest.raises(ConversationNotFound):
                await work.conversations.lock(made.id, user_id=other)


class TestList:
    async def test_shows_the_newest_first(self, owner: Owner) -> None:
        made = [(await owner.add()).id for _ in range(5)]
        assert await owner.list() == made[::-1]

    async def test_keeps_those_of_one_moment_in_one_order_across_pages(self, owner: Owner) -> None:
        made = [await owner.add() for _ in range(12)]
        await owner.raw.execute("UPDATE conversations SET created_at = $1", made[0].created_at)
        found = await owner.list(limit=5)
        for _ in range(2):
            found += await owner.list(limit=5, after=(made[0].created_at, found[-1]))
        assert found == sorted((each.id for each in made), reverse=True)

    async def test_filters_by_archive_and_model(self, owner: Owner) -> None:
        plain, archived, other = [(await owner.add()).id for _ in range(3)]
        async with owner.database.transaction() as work:
            await work.conversations.update(archived, user_id=owner.id, is_archived=True)
            await work.conversations.update(other, user_id=owner.id, model_type="other:model")
        assert await owner.list(archived=True) == [archived]
        assert await owner.list(archived=False) == [other, plain]
        assert await owner.list(model_type=MODEL) == [archived, plain]
        assert await owner.list(model_type="other:model", archived=False) == [other]
        assert await owner.list(model_type="other:model", archived=True) == []

    async def test_skips(self, owner: Owner) -> None:
        made = [(await owner.add()).id for _ in range(5)]
        assert await owner.list(skip=1, limit=2) == made[::-1][1:3]
        assert await owner.list(skip=5) == []

    async def test_shows_nothing_of_others(self, owner: Owner) -> None:
        await new_conversation(owner.database, await new_user(owner.database))
        assert await owner.list() == []


class TestUpdate:
    async def test_changes_what_is_given_and_keeps_the_rest(self, owner: Owner) -> None:
        made = await owner.add()
        async with owner.database.transaction() as work:
            titled = await work.conversations.update(made.id, user_id=owner.id, title="New")
        assert (titled.title, titled.model_type, titled.is_archived) == ("New", MODEL, False)
        assert titled.updated_at > made.updated_at
        async with owner.database.transaction() as work:
            archived = await work.conversations.update(made.id, user_id=owner.id, is_archived=True)
        assert (archived.title, archived.is_archived) == ("New", True)

    async def test_with_an_empty_title_makes_it_untitled(self, owner: Owner) -> None:
        made = await owner.add()
        async with owner.database.transaction() as work:
            await work.conversations.update(made.id, user_id=owner.id, title="New")
            untitled = await work.conversations.update(made.id, user_id=owner.id, title="")
        assert untitled.title is None

    async def test_of_another_user_is_not_found(self, owner: Owner) -> None:
        made = await owner.add()
        other = await new_user(owner.database)
        with pytest.raises(ConversationNotFound):
            async with owner.database.transaction() as work:
                await work.conversations.update(made.id, user_id=other, is_archived=True)

    async def test_titles_only_what_is_untitled(self, owner: Owner) -> None:
        made = await owner.add()
        async with owner.database.transaction() as work:
            assert await work.conversations.set_title_if_untitled(
                made.id, "First", user_id=made.user_id
            )
            assert not await work.conversations.set_title_if_untitled(
                made.id, "Second", user_id=made.user_id
            )
            found = await work.conversations.get(made.id, user_id=owner.id)
        assert found.title == "First"


class TestDelete:
    async def test_of_another_user_is_not_found(self, owner: Owner) -> None:
        made = await owner.add()
        other = await new_user(owner.database)
        with pytest.raises(ConversationNotFound):
            async with owner.database.transaction() as work:
                await work.conversations.delete(made.id, user_id=other)
        assert await owner.list() == [made.id]

    async def test_leaves_nothing_in_any_table(self, owner: Owner) -> None:
        made = await owner.add()
        await _grow_everything(owner, made.id)
        async with owner.database.transaction() as work:
            await work.conversations.delete(made.id, user_id=owner.id)
        assert await owner.raw.fetch(ROWS_LEFT) == []

    async def test_of_the_user_leaves_nothing_either(self, owner: Owner) -> None:
        made = await owner.add()
        await _grow_everything(owner, made.id)
        await owner.raw.execute("DELETE FROM users")
        assert await owner.raw.fetch(ROWS_LEFT) == []


async def _grow_everything(owner: Owner, conversation_id: UUID) -> None:
    """Put a row under the conversation into every table that has such rows."""
    await owner.raw.execute(
        """
        WITH message AS (
            INSERT INTO messages (id, conversation_id, seq, branch, role, content)
            VALUES (gen_random_uuid(), $1, 1, 0, 'assistant', '') RETURNING id
        ), branch AS (
            INSERT INTO branches (conversation_id, number, forked_at_seq) VALUES ($1, 1, 0)
        ), run AS (
            INSERT INTO runs (id, user_id, conversation_id, message_id, seq, status, model_type,
                max_attempts)
            SELECT gen_random_uuid(), $2, $1, id, 1, 'running', 'm', 3 FROM message RETURNING id
        )
        INSERT INTO run_events (run_id, seq, attempt, kind, data)
        SELECT id, 1, 1, 'text', 'x' FROM run
        """,
        conversation_id,
        owner.id,
    )
