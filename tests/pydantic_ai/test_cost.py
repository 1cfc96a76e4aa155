"""The cost of a history does not grow with what is not asked for."""

import asyncio
from uuid import UUID

import asyncpg
import pytest
from asyncpg.connection import LoggedQuery
from pydantic_ai.conversation import Conversation

from tertulia.pydantic_ai import PostgresConversationStore
from tertulia.storage.database import Database
from tertulia.storage.repositories import agent_statements as sql
from tests.pydantic_ai.native import Native, record_of
from tests.pydantic_ai.saying import asks, talk
from tests.storage.rows import explain

LONG = 20_000
LENGTHEN = """
    WITH new AS (
        INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content)
        SELECT gen_random_uuid(), id, head_id, last_seq + n, head_branch, 'user', 'filler'
        FROM conversations, generate_series(1, $1) n RETURNING id, conversation_id, seq
    ), known AS (
        INSERT INTO agent_messages (message_id, conversation_id, entry_id, is_first)
        SELECT id, conversation_id, id::text, true FROM new
    )
    UPDATE conversations SET last_seq = last_seq + $1, head_seq = last_seq + $1,
        message_count = message_count + $1,
        head_id = (SELECT id FROM new ORDER BY seq DESC LIMIT 1)
"""


class TestStatements:
    @pytest.mark.parametrize("turns", [1, 40])
    async def test_a_history_is_one_and_a_save_is_seven(
        self, dsn: str, user_id: UUID, turns: int
    ) -> None:
        statements: list[str] = []

        async def asked() -> int:
            await asyncio.sleep(0)  # the driver tells of a statement in the loop's next round
            return len(statements)

        def note(query: LoggedQuery) -> None:
            if query.query not in {"BEGIN;", "COMMIT;"}:
                statements.append(query.query)

        async with PostgresConversationStore.open(dsn, user=user_id) as store:
            conversation = Conversation(conversation_id="c", messages=talk(turns))
            await store.save(conversation)
            # It has one connection yet.
            async with store._database.reading() as work:  # pyright: ignore[reportPrivateUsage]
                work.connection.driver.add_query_logger(note)
            head = (await record_of(store, "c")).head_id
            assert await asked() == 1
            for limit, length in ((None, 2 * turns), (2, 2)):
                statements.clear()
                assert len(await store.read_history(head, limit=limit)) == length
                assert await asked() == 1
            statements.clear()
            conversation.messages += talk(3)
            await store.save(conversation)
            # To find and to lock the record, to look at it, to add messages and what is kept of
            # them, to save the record, to tell those who listen.
            assert await asked() == 7
            statements.clear()
            assert len(await store.list_conversations()) == 1
            assert await asked() == 1


class TestRows:
    @pytest.mark.parametrize("generic", [False, True])
    async def test_the_end_of_a_long_history_is_found_without_the_rest(
        self,
        postgres_store: PostgresConversationStore,
        native: Native,
        database: Database,
        dsn: str,
        *,
        generic: bool,
    ) -> None:
        conversation = Conversation(conversation_id="c", messages=talk(1))
        await postgres_store.save(conversation)
        connection = await asyncpg.connect(dsn)
        await connection.execute(LENGTHEN, LONG)
        await connection.execute("ANALYZE")
        await connection.close()
        head = (await record_of(postgres_store, "c")).head_id
        assert head is not None
        plan = await explain(
            database,
            sql.HISTORY_TAIL,
            generic=generic,
            entry_id=head,
            base=None,
            message_id=UUID(head),
            base_message_id=None,
            user_id=native.user_id,
            conversation_id=None,
            limit=10,
        )
        assert plan.rows_read < 100
        assert plan.blocks < 500
        window = await postgres_store.load("c", limit=10)
        assert window is not None
        window.messages.append(asks("on"))
        await postgres_store.save(window)
        assert (
            len(await postgres_store.read_history((await record_of(postgres_store, "c")).head_id))
            == LONG + 3
        )
