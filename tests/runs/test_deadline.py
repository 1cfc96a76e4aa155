"""Promise G-10: no run is open longer than its deadline and 15 seconds, whatever happens to it."""

from collections.abc import AsyncIterator

import pytest

from tertulia.domain.ids import new_id
from tertulia.domain.runs import Run, RunStatus
from tertulia.storage.database import Database
from tertulia.storage.statements import statement
from tests.kit.pair import script
from tests.kit.scripted_provider import ScriptedProvider
from tests.runs.room import MODEL, Room, open_room
from tests.storage.running import EXPIRED, store_run, texts, write

DEADLINE_S = 1.0
_OPEN_LONGER = statement(
    """
    SELECT count(*) AS runs FROM runs
    WHERE COALESCE(ended_at, clock_timestamp()) - started_at
        > CAST(:deadline_s AS double precision) * interval '1 second' + interval '15 seconds'
    """
)
_BEGAN_BEFORE = statement(
    "UPDATE runs SET started_at = clock_timestamp() - interval '1 second' WHERE id = :id"
)

ENDLESS = {
    "words without end": {"endless": True, "pace_ms": 20},
    "silence": {"stall_after": 0},
    "silence after some words": {"stall_after": 3},
    "silence after a thought": {"reasoning": "Well", "stall_after": 0},
    "not even a status": {"accept_stall": True},
    "no end after the last word": {"linger": True, "no_finish": True, "no_done": True},
    "try again later": {"status": 429, "retry_after": 20},
}


@pytest.fixture
async def room(database: Database) -> AsyncIterator[Room]:
    async with (
        ScriptedProvider() as provider,
        open_room(database, provider, deadline_s=DEADLINE_S) as room,
    ):
        yield room


async def all_ended(room: Room, runs: list[Run]) -> list[Run]:
    """Wait for the runs, and make sure that none was open for too long."""
    ended = [await room.ended(run, within_s=60) for run in runs]
    async with room.database.reading() as work:
        late = await work.connection.one(_OPEN_LONGER, deadline_s=DEADLINE_S)
    assert late.runs == 0
    return ended


def code(run: Run) -> str | None:
    assert run.status is RunStatus.FAILED
    return run.error and run.error.code


async def test_a_model_that_does_not_end_is_given_up(room: Room) -> None:
    runs = [
        await store_run(room.database, owner=None, model=MODEL, content=script(name, **does))
        for name, does in ENDLESS.items()
    ]
    await room.keeper.look_round()

    ended = await all_ended(room, runs)

    assert {code(run) for run in ended} == {"deadline_exceeded"}
    assert (await room.text(runs[0])).startswith("A tertulia")


async def test_a_run_that_waits_has_its_time_from_its_start(room: Room) -> None:
    content = script("first", endless=True, pace_ms=20)
    first = await store_run(room.database, owner=None, model=MODEL, content=content)
    await room.keeper.look_round()
    second = await store_run(
        room.database, owner=None, model=MODEL, beside=first, content=script("next", stall_after=1)
    )
    await all_ended(room, [first])
    await room.keeper.look_round()

    ended = await all_ended(room, [second])

    assert code(ended[0]) == "deadline_exceeded"
    assert await room.text(second)


@pytest.mark.parametrize("said", [(), ("A ter", "tul")], ids=["nothing", "some words"])
async def test_time_goes_on_while_nobody_executes_a_run(room: Room, said: tuple[str, ...]) -> None:
    dead = new_id()
    run = await store_run(room.database, owner=dead, model=MODEL, content="Go on")
    if said:
        await write(room.database, run, texts(*said), owner=dead)
    async with room.database.reading() as work:
        await work.leases.extend([run.id], owner=dead, lease=EXPIRED)
        await work.connection.run(_BEGAN_BEFORE, id=run.id)
    await room.keeper.look_round()

    (ended,) = await all_ended(room, [run])

    assert (code(ended), ended.attempt) == ("deadline_exceeded", 2)
    assert await room.text(run) == "".join(said)
    assert not room.provider.calls
