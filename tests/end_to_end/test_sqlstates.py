"""Promise G-26: whatever error PostgreSQL raises, it has its status, and never 500."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.kit.chance import say
from tests.kit.pair import Pair
from tests.kit.person import Person
from tests.kit.stage import fetch_number

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

TRIGGER = """
    CREATE SEQUENCE fault_tries;
    CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        -- A sequence does not go back with its transaction, so it counts the tries.
        tries bigint := nextval('fault_tries');
    BEGIN
        IF NEW.title LIKE 'twice %' AND tries > 2 THEN RETURN NEW; END IF;
        RAISE EXCEPTION 'caused for a test' USING ERRCODE = right(NEW.title, 5);
    END $$;
    CREATE TRIGGER fault BEFORE INSERT ON conversations FOR EACH ROW
        WHEN (NEW.title LIKE 'always %' OR NEW.title LIKE 'twice %') EXECUTE FUNCTION fault();
"""
NO_TRIGGER = """
    DROP TRIGGER fault ON conversations; DROP FUNCTION fault; DROP SEQUENCE fault_tries
"""
EXPECTED = {
    409: ["23505"],
    404: ["23503"],
    422: ["22021", "22P02", "22P05", "22003", "22001", "22007", "22008", "23502", "23514", "23P01"],
    503: [
        *("40001", "40P01", "08000", "08001", "08003", "08006", "25006", "53000", "53100", "53200"),
        *("53300", "55P03", "57014", "57P01", "57P02", "57P03", "58000", "58030", "42P01", "42501"),
        "XX000",
    ],
}
TRIES = 4
"""One, and three more."""


@pytest.fixture
async def person(pair: Pair) -> AsyncIterator[Person]:
    """Somebody whose new conversations can be an error: their title says which."""
    admin: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(pair.dsn)
    await admin.execute(TRIGGER)
    async with Person([pair.one.url]) as somebody:
        yield somebody
    await admin.execute(NO_TRIGGER)
    await admin.close()


async def test_every_sqlstate_has_its_status(person: Person) -> None:
    wrong: dict[str, int] = {}
    for status, codes in EXPECTED.items():
        for code in codes:
            made = await person.call("POST", "/conversations", json={"title": f"always {code}"})
            assert "caused for a test" not in made.text
            assert set(made.json()) >= {"detail", "code"}
            if made.status_code != status or (status == 503 and "retry-after" not in made.headers):
                wrong[code] = made.status_code
    say(f"G-26: {sum(map(len, EXPECTED.values()))} SQLSTATEs, wrong: {wrong}")
    assert not wrong
    assert (await person.call("GET", "/conversations")).json() == []


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_transaction_that_postgresql_gives_up_twice_is_repeated(
    person: Person, code: str
) -> None:
    made = await person.call("POST", "/conversations", json={"title": f"twice {code}"})
    assert made.status_code == 201
    listed = (await person.call("GET", "/conversations")).json()
    assert [each["title"] for each in listed] == [f"twice {code}"]


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_a_transaction_that_postgresql_always_gives_up_is_repeated_three_times(
    pair: Pair, person: Person, code: str
) -> None:
    made = await person.call("POST", "/conversations", json={"title": f"always {code}"})
    assert made.status_code == 503
    assert await fetch_number(pair.dsn, "SELECT last_value FROM fault_tries") == TRIES
