import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from uuid import UUID

import asyncpg
import pytest

from tertulia.domain.errors import (
    Conflict,
    ConversationNotFound,
    DatabaseUnavailable,
    OutcomeUnknown,
    Overloaded,
)
from tertulia.domain.ids import new_id
from tertulia.storage.database import Database, DatabaseLimits
from tertulia.storage.statements import statement
from tertulia.storage.unit_of_work import UnitOfWork
from tests.storage.rows import MODEL, new_conversation, new_user, works

SLEEP = statement("SELECT pg_sleep(:seconds)")
PID = statement("SELECT pg_backend_pid() AS pid")
KILL_SLEEPING = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event = 'PgSleep'
"""


async def add_conversation(database: Database, user_id: UUID) -> UUID:
    return (await new_conversation(database, user_id)).id


async def exists(database: Database, conversation_id: UUID, user_id: UUID) -> bool:
    async with database.reading() as work:
        try:
            await work.conversations.get(conversation_id, user_id=user_id)
        except ConversationNotFound:
            return False
    return True


async def eventually(
    connection: "asyncpg.Connection[asyncpg.Record]", query: str, *values: object
) -> None:
    """Ask until the answer is true."""
    async with asyncio.timeout(30):
        while not await connection.fetchval(query, *values):  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.01)


class TestTransaction:
    async def test_commits_when_the_block_ends(self, database: Database) -> None:
        user_id = await new_user(database)
        id_ = await add_conversation(database, user_id)
        assert await exists(database, id_, user_id)

    async def test_rolls_back_when_the_block_raises(self, database: Database) -> None:
        user_id, id_ = await new_user(database), new_id()

        async def fail() -> None:
            async with database.transaction() as work:
                await work.conversations.create(id_, user_id=user_id, title=None, model_type=MODEL)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert not await exists(database, id_, user_id)

    async def test_shows_nothing_to_others_before_it_commits(self, database: Database) -> None:
        user_id, id_ = await new_user(database), new_id()
        stored, looked = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            async with database.transaction() as work:
                await work.conversations.create(id_, user_id=user_id, title=None, model_type=MODEL)
                stored.set()
                await looked.wait()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            await stored.wait()
            assert not await exists(database, id_, user_id)
            looked.set()
        assert await exists(database, id_, user_id)

    async def test_of_two_writers_loses_nothing(self, database: Database) -> None:
        user_id = await new_user(database)
        id_ = await add_conversation(database, user_id)

        async def add_to_title() -> None:
            for _ in range(20):
                async with database.transaction() as work:
                    locked = await work.conversations.lock(id_, user_id=user_id)
                    await work.conversations.update(
                        id_, user_id=user_id, title=f"{locked.title or ''}x"
                    )

        await asyncio.gather(add_to_title(), add_to_title())
        async with database.reading() as work:
            assert (await work.conversations.get(id_, user_id=user_id)).title == "x" * 40

    async def test_is_never_nested(self, database: Database) -> None:
        async with database.transaction():
            with pytest.raises(AssertionError, match="already open"):
                async with database.transaction():
                    pass
            with pytest.raises(AssertionError, match="already open"):
                async with database.reading():
                    pass
        assert await works(database, 5)

    async def test_can_follow_one_that_failed_in_the_same_task(self, database: Database) -> None:
        user_id = await new_user(database)
        id_ = await add_conversation(database, user_id)
        with pytest.raises(Conflict):
            async with database.transaction() as work:
                await work.conversations.create(id_, user_id=user_id, title=None, model_type=MODEL)
        assert await works(database, 5)


class TestLostConnection:
    async def test_fails_its_transaction_and_no_other(
        self, database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        user_id, id_ = await new_user(database), new_id()

        async def lose() -> None:
            async with database.transaction() as work:
                await work.conversations.create(id_, user_id=user_id, title=None, model_type=MODEL)
                await _kill(admin, work)
                await work.conversations.get(id_, user_id=user_id)

        with pytest.raises(DatabaseUnavailable):
            await lose()
        assert await works(database, 5)
        assert not await exists(database, id_, user_id)

    async def test_of_every_idle_connection_is_noticed_once_at_most(
        self, database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        assert await works(database, 5)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for _ in range(5):
            with suppress(DatabaseUnavailable):
                await works(database, 1)
        assert await works(database, 5)

    async def test_at_an_error_of_the_block_lets_the_error_through(
        self, database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        async def lose_and_fail() -> None:
            async with database.transaction() as work:
                await _kill(admin, work)
                await asyncio.sleep(0.05)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await lose_and_fail()
        assert await works(database, 5)

    @pytest.mark.parametrize("form", [Database.transaction, Database.writing])
    async def test_during_the_commit_leaves_the_outcome_unknown(
        self,
        database: Database,
        admin: "asyncpg.Connection[asyncpg.Record]",
        form: Callable[[Database], AbstractAsyncContextManager[UnitOfWork]],
    ) -> None:
        await admin.execute(
            """
            CREATE TABLE slow (id int);
            CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle();
            """
        )

        async def commit() -> None:
            async with form(database) as work:
                await work.connection.run(statement("INSERT INTO slow VALUES (1)"))

        async with asyncio.timeout(10):
            committed, _ = await asyncio.gather(
                commit(), eventually(admin, KILL_SLEEPING), return_exceptions=True
            )
        assert isinstance(committed, OutcomeUnknown)
        assert await works(database, 5)

    async def test_before_the_first_is_unavailable(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
        with pytest.raises(DatabaseUnavailable):
            await Database.open(f"postgresql://nobody@127.0.0.1:{port}/none")

    async def test_to_a_server_that_never_answers_is_given_up(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            port = silent.getsockname()[1]
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                await Database.open(
                    f"postgresql://nobody@127.0.0.1:{port}/none", DatabaseLimits(connect_s=0.3)
                )
            assert time.monotonic() - started < 15


async def _kill(admin: "asyncpg.Connection[asyncpg.Record]", work: UnitOfWork) -> None:
    pid = (await work.connection.one(PID)).pid
    await admin.execute("SELECT pg_terminate_backend($1)", pid)
    gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
    await eventually(admin, gone, pid)


class TestCancelledTask:
    async def test_is_cancelled_and_leaves_nothing_behind(
        self, database: Database, admin: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        user_id = await new_user(database)

        async def write(title: str) -> str:
            async with database.transaction() as work:
                for _ in range(3):
                    await work.conversations.create(
                        new_id(), user_id=user_id, title=title, model_type=MODEL
                    )
                    await work.connection.all(SLEEP, seconds=0.002)
            return title

        outcomes: list[str | BaseException] = []
        for turn in range(25):
            async with asyncio.timeout(10):
                running = [asyncio.ensure_future(write(f"{turn}.{n}")) for n in range(8)]
                for task in running:
                    await asyncio.sleep(random.uniform(0, 0.006))
                    task.cancel()
                outcomes += await asyncio.gather(*running, return_exceptions=True)
        stored = {each for each in outcomes if isinstance(each, str)}
        cancelled = [each for each in outcomes if isinstance(each, asyncio.CancelledError)]
        assert len(stored) + len(cancelled) == 200
        assert cancelled
        assert await works(database, 5)
        async with database.reading() as work:
            found = await work.conversations.list(user_id=user_id, limit=1000)
        # One that was cancelled in its commit may be stored: whole, as everything.
        rows = Counter(conversation.title for conversation in found)
        assert set(rows.values()) <= {3}
        assert stored <= set(rows)
        nothing_open = (
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE state <> 'idle' "
            "AND datname = current_database() AND pid <> pg_backend_pid())"
        )
        await eventually(admin, nothing_open)

    async def test_while_waiting_for_a_connection_takes_none(self, database: Database) -> None:
        async with AsyncExitStack() as stack:
            held = [asyncio.Event() for _ in range(5)]
            done = asyncio.Event()

            async def hold(event: asyncio.Event) -> None:
                async with database.transaction():
                    event.set()
                    await done.wait()

            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            for event in held:
                tasks.create_task(hold(event))
                await event.wait()
            waiting = [asyncio.ensure_future(works(database, 1)) for _ in range(20)]
            await asyncio.sleep(0.05)
            for task in waiting:
                task.cancel()
            outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in outcomes)
            done.set()
        assert await works(database, 5)


class TestLimits:
    async def test_no_free_connection_is_an_overload_soon(self, database: Database) -> None:
        async with AsyncExitStack() as stack:
            done = asyncio.Event()
            tasks = await stack.enter_async_context(asyncio.TaskGroup())

            async def hold() -> None:
                async with database.reading():
                    await done.wait()

            for _ in range(5):
                tasks.create_task(hold())
            await asyncio.sleep(0.05)
            started = time.monotonic()
            with pytest.raises(Overloaded):
                async with database.reading():
                    pass
            assert time.monotonic() - started < 15
            done.set()
        assert await works(database, 5)

    async def test_a_long_statement_is_ended(self, dsn: str) -> None:
        database = await Database.open(dsn, DatabaseLimits(pool_size=1, statement_s=0.2))
        with pytest.raises(DatabaseUnavailable):
            async with database.transaction() as work:
                await work.connection.all(SLEEP, seconds=30)
        assert await works(database, 1)
        await database.close()

    async def test_a_long_wait_for_a_lock_is_ended(self, dsn: str, database: Database) -> None:
        user_id = await new_user(database)
        id_ = await add_conversation(database, user_id)
        hasty = await Database.open(dsn, DatabaseLimits(pool_size=1, lock_s=0.1))
        locked, done = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with database.transaction() as work:
                await work.conversations.lock(id_, user_id=user_id)
                locked.set()
                await done.wait()

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(hold())
            await locked.wait()
            with pytest.raises(DatabaseUnavailable):
                async with hasty.transaction() as work:
                    await work.conversations.lock(id_, user_id=user_id)
            done.set()
        assert await works(hasty, 1)
        await hasty.close()

    async def test_a_transaction_of_a_process_that_hangs_is_ended(self, dsn: str) -> None:
        limits = DatabaseLimits(pool_size=1, idle_in_transaction_s=0.5)
        database = await Database.open(dsn, limits)
        user_id = await new_user(database)
        id_ = await add_conversation(database, user_id)

        async def hang() -> None:
            async with database.transaction() as work:
                await work.conversations.lock(id_, user_id=user_id)
                await asyncio.sleep(1.5)

        with pytest.raises(DatabaseUnavailable):
            await hang()
        assert await works(database, 1)
        await database.close()

    async def test_a_connection_in_use_does_not_keep_the_database_open(self, dsn: str) -> None:
        database = await Database.open(dsn, DatabaseLimits(pool_size=1))

        async def use_for_ever() -> None:
            async with database.transaction() as work:
                await work.connection.all(SLEEP, seconds=60)

        using = asyncio.ensure_future(use_for_ever())
        await asyncio.sleep(0.1)
        async with asyncio.timeout(15):
            await database.close()
        with pytest.raises(DatabaseUnavailable):
            await using
