import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from tertulia.domain.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.ids import new_id
from tertulia.storage.database import Database, DatabaseLimits
from tests.storage.rows import new_user

ASKED, ASKED_OTHERWISE = b"a" * 32, b"b" * 32


@pytest.fixture
async def user_id(database: Database) -> UUID:
    return await new_user(database)


@pytest.fixture
async def later(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that can make keys older."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def claim(
    database: Database, user_id: UUID, *, fingerprint: bytes = ASKED, resource_id: UUID
) -> UUID | None:
    async with database.transaction() as work:
        return await work.idempotency.claim(
            IdempotentRequest("key", fingerprint), user_id=user_id, resource_id=resource_id
        )


class TestClaim:
    async def test_takes_a_key_that_is_free(self, database: Database, user_id: UUID) -> None:
        assert await claim(database, user_id, resource_id=new_id()) is None

    async def test_says_what_the_key_was_used_for(self, database: Database, user_id: UUID) -> None:
        first = new_id()
        await claim(database, user_id, resource_id=first)
        assert await claim(database, user_id, resource_id=new_id()) == first

    async def test_refuses_another_request_with_the_key(
        self, database: Database, user_id: UUID
    ) -> None:
        await claim(database, user_id, resource_id=new_id())
        with pytest.raises(IdempotencyKeyReused):
            await claim(database, user_id, fingerprint=ASKED_OTHERWISE, resource_id=new_id())

    async def test_of_another_user_is_unrelated(self, database: Database, user_id: UUID) -> None:
        await claim(database, user_id, resource_id=new_id())
        other = await new_user(database)
        assert (
            await claim(database, other, fingerprint=ASKED_OTHERWISE, resource_id=new_id()) is None
        )

    async def test_is_undone_with_its_transaction(self, database: Database, user_id: UUID) -> None:
        async def fail() -> None:
            async with database.transaction() as work:
                await work.idempotency.claim(
                    IdempotentRequest("key", ASKED), user_id=user_id, resource_id=new_id()
                )
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await claim(database, user_id, resource_id=new_id()) is None

    async def test_of_fifty_at_once_lets_one_make_the_thing(
        self, database: Database, user_id: UUID
    ) -> None:
        ids = [new_id() for _ in range(50)]
        claims = await asyncio.gather(*(claim(database, user_id, resource_id=id_) for id_ in ids))
        (winner,) = [id_ for id_, made in zip(ids, claims, strict=True) if made is None]
        assert set(claims) == {None, winner}

    async def test_waits_for_a_request_in_flight_and_then_says_so(
        self, dsn: str, database: Database, user_id: UUID
    ) -> None:
        hasty = await Database.open(dsn, DatabaseLimits(pool_size=1, lock_s=0.1))
        claimed, done = asyncio.Event(), asyncio.Event()

        async def claim_and_think() -> None:
            async with database.transaction() as work:
                await work.idempotency.claim(
                    IdempotentRequest("key", ASKED), user_id=user_id, resource_id=new_id()
                )
                claimed.set()
                await done.wait()

        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(claim_and_think())
            await claimed.wait()
            with pytest.raises(IdempotencyKeyInFlight):
                await claim(hasty, user_id, resource_id=new_id())
            done.set()
        await hasty.close()

    async def test_takes_a_key_again_after_a_day(
        self,
        database: Database,
        user_id: UUID,
        later: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        await claim(database, user_id, resource_id=new_id())
        await later.execute("UPDATE idempotency_keys SET created_at = now() - interval '23h 59m'")
        assert await claim(database, user_id, resource_id=new_id()) is not None
        await later.execute("UPDATE idempotency_keys SET created_at = now() - interval '24h 1m'")
        second = new_id()
        assert (
            await claim(database, user_id, fingerprint=ASKED_OTHERWISE, resource_id=second) is None
        )
        assert (
            await claim(database, user_id, fingerprint=ASKED_OTHERWISE, resource_id=new_id())
            == second
        )


class TestSweep:
    async def test_deletes_what_is_older_than_a_day_in_portions(
        self,
        database: Database,
        user_id: UUID,
        later: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        await later.execute(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, resource_id, created_at) "
            "SELECT $1, n::text, ''::bytea, gen_random_uuid(), now() - n * interval '1h' "
            "FROM generate_series(1, 30) n",
            user_id,
        )
        async with database.transaction() as work:
            assert await work.idempotency.sweep(limit=4) == 4
            assert await work.idempotency.sweep(limit=100) == 3
        oldest = await later.fetchval("SELECT now() - min(created_at) FROM idempotency_keys")
        assert oldest < timedelta(hours=24, minutes=5)
