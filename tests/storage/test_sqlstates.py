"""Every error of PostgreSQL, raised for real by a trigger, and what a caller is told about it."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from tertulia.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    Invalid,
    NotFound,
    Overloaded,
    TertuliaError,
    TransactionConflict,
)
from tertulia.domain.ids import new_id
from tertulia.storage.database import Database, retried
from tertulia.storage.statements import statement
from tests.storage.rows import MODEL, new_conversation, new_user, works

RAISE = statement("INSERT INTO faults (code) VALUES (:code)")
SQLSTATES: dict[type[TertuliaError], str] = {
    TransactionConflict: "40001 40P01",
    Conflict: "23505",
    NotFound: "23503",
    Invalid: "23502 23514 23P01 22021 22P02 22P05 22003 22001 22007 22008",
    Overloaded: "53300",
    DatabaseUnavailable: (
        "08000 08003 08006 25006 25P03 42501 42P01 53000 53100 53200 53400 54000 55P03 "
        "57000 57014 57P01 57P02 57P03 57P04 58030 XX000 ZZZZZ"
    ),
}


@dataclass(frozen=True, slots=True)
class Faults:
    """A table whose trigger raises any SQLSTATE that is inserted."""

    database: Database

    async def cause(self, code: str) -> None:
        async with self.database.transaction() as work:
            await work.connection.run(RAISE, code=code)


@pytest.fixture
async def faults(database: Database, admin: "asyncpg.Connection[asyncpg.Record]") -> Faults:
    await admin.execute(
        """
        CREATE TABLE faults (code text);
        CREATE SEQUENCE tries;
        CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            -- A sequence does not go back with its transaction, so it counts the tries.
            IF NEW.code LIKE '%*%' THEN
                IF nextval('tries') > right(NEW.code, 1)::int THEN RETURN NEW; END IF;
            END IF;
            RAISE EXCEPTION 'caused for a test' USING ERRCODE = left(NEW.code, 5);
        END $$;
        CREATE TRIGGER fault BEFORE INSERT ON faults FOR EACH ROW EXECUTE FUNCTION fault();
        """
    )
    return Faults(database)


class TestSqlStates:
    async def test_none_leaks_untranslated(self, faults: Faults) -> None:
        for kind, codes in SQLSTATES.items():
            for code in codes.split():
                with pytest.raises(TertuliaError) as caught:
                    await faults.cause(code)
                assert type(caught.value) is kind, code
                assert "caused" not in caught.value.detail
        assert await works(faults.database, 5)

    @pytest.mark.parametrize("title", ["\x00", "a\x00b", "\ud800", "a\udfffb"])
    async def test_text_that_cannot_be_stored_is_invalid(
        self, database: Database, title: str
    ) -> None:
        user_id = await new_user(database)
        with pytest.raises(Invalid):
            async with database.transaction() as work:
                await work.conversations.create(
                    new_id(), user_id=user_id, title=title, model_type=MODEL
                )
        assert await works(database, 5)

    async def test_a_number_beyond_its_column_is_invalid(self, database: Database) -> None:
        user_id = await new_user(database)
        with pytest.raises(Invalid):
            async with database.reading() as work:
                await work.conversations.list(user_id=user_id, limit=2**70)
        assert await works(database, 5)


@dataclass(frozen=True, slots=True)
class Inserting:
    """A use case that a trigger may refuse."""

    database: Database

    @retried
    async def insert(self, code: str) -> str:
        async with self.database.transaction() as work:
            await work.connection.run(RAISE, code=code)
        return "stored"


class TestRetried:
    @pytest.mark.parametrize("code", ["40001*1", "40P01*1", "40001*3"])
    async def test_repeats_what_postgresql_gave_up(self, faults: Faults, code: str) -> None:
        assert await Inserting(faults.database).insert(code) == "stored"

    async def test_gives_up_after_four_tries(
        self, faults: Faults, admin: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        with pytest.raises(TransactionConflict) as caught:
            await Inserting(faults.database).insert("40001*9")
        assert caught.value.retry_after_s == 1
        assert await admin.fetchval("SELECT last_value FROM tries") == 4

    async def test_repeats_nothing_else(
        self, faults: Faults, admin: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        with pytest.raises(Conflict):
            await Inserting(faults.database).insert("23505*9")
        assert await admin.fetchval("SELECT last_value FROM tries") == 1

    async def test_lets_both_sides_of_a_deadlock_succeed(self, database: Database) -> None:
        user_id = await new_user(database)
        ids = [await _add_conversation(database, user_id) for _ in range(2)]
        met = asyncio.Barrier(2)

        @dataclass(frozen=True, slots=True)
        class Archiving:
            first_time: list[bool]

            @retried
            async def archive(self, order: list[UUID]) -> None:
                async with database.transaction() as work:
                    await work.conversations.lock(order[0], user_id=user_id)
                    if self.first_time:
                        self.first_time.clear()
                        await met.wait()
                    for id_ in order:
                        await work.conversations.update(id_, user_id=user_id, is_archived=True)

        async with asyncio.timeout(15):
            await asyncio.gather(
                Archiving([True]).archive(ids), Archiving([True]).archive(ids[::-1])
            )


async def _add_conversation(database: Database, user_id: UUID) -> UUID:
    return (await new_conversation(database, user_id)).id
