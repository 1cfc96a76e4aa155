import asyncio
import sys
from collections.abc import AsyncIterator
from typing import cast
from uuid import uuid1

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection as SyncConnection

from tertulia.storage import migrations
from tertulia.storage.embedded import EmbeddedPostgres
from tertulia.storage.tables import metadata
from tests.conftest import database_dsn

RUN = """
    WITH person AS (
        INSERT INTO users (id, email, email_key, username, username_key, password_hash)
        VALUES (gen_random_uuid(), 'e', 'e', 'u', 'u', 'none') RETURNING id
    ), talk AS (
        INSERT INTO conversations (id, user_id, model_type)
        SELECT gen_random_uuid(), id, 'm' FROM person RETURNING id, user_id
    ), message AS (
        INSERT INTO messages (id, conversation_id, seq, branch, role, content)
        SELECT gen_random_uuid(), id, 1, 0, 'assistant', '' FROM talk RETURNING id
    )
    INSERT INTO runs (id, user_id, conversation_id, message_id, seq, status, model_type,
        max_attempts)
    SELECT gen_random_uuid(), user_id, talk.id, message.id, 1, 'running', 'm', 3 FROM talk, message
"""


@pytest.fixture
async def empty(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A database without a schema."""
    name = f"empty_{uuid1().hex}"
    admin = await asyncpg.connect(postgres.dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield database_dsn(postgres.dsn, name)
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def raw(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def tables(dsn: str) -> set[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = 'public'::regnamespace"
        )
    finally:
        await connection.close()
    return {row["relname"] for row in rows}


class TestHistory:
    async def test_goes_up_and_down_and_up_again(self, empty: str) -> None:
        await asyncio.to_thread(migrations.upgrade, empty)
        full = await tables(empty)
        assert full == {*metadata.tables, "alembic_version"}
        await asyncio.to_thread(migrations.downgrade, empty, "base")
        assert await tables(empty) == {"alembic_version"}
        await asyncio.to_thread(migrations.upgrade, empty)
        assert await tables(empty) == full

    async def test_leaves_no_function_behind(self, empty: str) -> None:
        await asyncio.to_thread(migrations.upgrade, empty)
        await asyncio.to_thread(migrations.downgrade, empty, "base")
        connection = await asyncpg.connect(empty)
        count = await connection.fetchval(
            "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        )
        await connection.close()
        assert count == 0

    async def test_may_be_gone_through_by_two_processes_at_once(self, empty: str) -> None:
        upgrade = "import sys; from tertulia.storage import migrations as m; m.upgrade(sys.argv[1])"
        processes = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", upgrade, empty)
            for _ in range(2)
        ]
        async with asyncio.timeout(60):
            assert [await process.wait() for process in processes] == [0, 0]
        connection = await asyncpg.connect(empty)
        versions = await connection.fetch("SELECT version_num FROM alembic_version")
        await connection.close()
        assert [row["version_num"] for row in versions] == [migrations.head()]

    async def test_takes_every_parameter_that_the_driver_takes(self, empty: str) -> None:
        dsn = f"{empty}&sslmode=prefer&application_name=migrating"
        await asyncio.to_thread(migrations.upgrade, dsn)
        assert await tables(dsn)

    async def test_is_done_once(self, empty: str) -> None:
        await asyncio.to_thread(migrations.upgrade, empty)
        await asyncio.to_thread(migrations.upgrade, empty)
        assert "conversations" in await tables(empty)

    async def test_ends_in_the_schema_that_the_code_describes(self, dsn: str) -> None:
        def difference(connection: SyncConnection) -> list[object]:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            return cast("list[object]", compare_metadata(context, metadata))

        engine = migrations.engine_of(dsn)
        async with engine.connect() as connection:
            assert await connection.run_sync(difference) == []
        await engine.dispose()


class TestTriggers:
    @pytest.mark.parametrize("end", ["completed", "cancelled", "failed"])
    @pytest.mark.parametrize("then", ["queued", "running", "completed", "cancelled", "failed"])
    async def test_an_ended_run_never_changes_its_state(
        self, raw: "asyncpg.Connection[asyncpg.Record]", end: str, then: str
    ) -> None:
        await raw.execute(RUN)
        await raw.execute("UPDATE runs SET status = $1, ended_at = now(), error_code = 'x'", end)
        if then == end:
            await raw.execute("UPDATE runs SET status = $1, marks = '{1}'", then)
            return
        with pytest.raises(asyncpg.CheckViolationError):
            await raw.execute("UPDATE runs SET status = $1", then)

    async def test_a_running_run_never_waits_again(
        self, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        await raw.execute(RUN)
        with pytest.raises(asyncpg.CheckViolationError):
            await raw.execute("UPDATE runs SET status = 'queued'")

    async def test_a_run_that_ends_says_when(
        self, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        await raw.execute(RUN)
        with pytest.raises(asyncpg.CheckViolationError):
            await raw.execute("UPDATE runs SET status = 'completed'")

    async def test_a_run_that_fails_says_why(
        self, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        await raw.execute(RUN)
        with pytest.raises(asyncpg.CheckViolationError):
            await raw.execute("UPDATE runs SET status = 'failed', ended_at = now()")

    async def test_a_conversation_has_one_running_run(
        self, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        await raw.execute(RUN)
        again = """
            WITH message AS (
                INSERT INTO messages (id, conversation_id, seq, branch, role, content)
                SELECT gen_random_uuid(), id, 2, 0, 'assistant', '' FROM conversations
                RETURNING id, conversation_id
            )
            INSERT INTO runs (id, user_id, conversation_id, message_id, seq, status, model_type,
                max_attempts)
            SELECT gen_random_uuid(), user_id, conversations.id, message.id, 2, 'running', 'm', 3
            FROM conversations, message
        """
        with pytest.raises(asyncpg.UniqueViolationError):
            await raw.execute(again)

    @pytest.mark.parametrize("gone", ["runs", "messages", "conversations", "users"])
    async def test_events_go_with_their_run(
        self, raw: "asyncpg.Connection[asyncpg.Record]", gone: str
    ) -> None:
        await raw.execute(RUN)
        await raw.execute(
            "INSERT INTO run_events (run_id, seq, attempt, kind, data) "
            "SELECT id, n, 1, 'text', 'x' FROM runs, generate_series(1, 5) n"
        )
        await raw.execute(f"DELETE FROM {gone}")  # noqa: S608  one of four words
        assert await raw.fetchval("SELECT count(*) FROM run_events") == 0
