import asyncio
import random
from uuid import UUID

import pytest

from tertulia.domain.ids import new_id
from tertulia.domain.runs import EventKind, Run, RunEvent, RunStatus
from tertulia.storage.database import Database
from tertulia.storage.repositories.run_events import RunEvents
from tertulia.storage.repositories.runs import Outcome
from tests.kit.chance import seeded
from tests.storage.running import EXPIRED, LEASE, store_run, texts, write

ROUNDS = 200


@pytest.fixture
def owner() -> UUID:
    return new_id()


async def stored(database: Database, run: Run, *, after: int = 0) -> list[RunEvent]:
    async with database.reading() as work:
        return list(
            await work.run_events.list(run.id, user_id=run.user_id, after=after, limit=1_000)
        )


async def test_events_come_back_as_they_were_written(database: Database, owner: UUID) -> None:
    run = await store_run(database, owner=owner)
    events = [
        RunEvent(1, EventKind.REASONING, {"delta": "hm \u2028 \U0001f9d1\u200d\U0001f680"}),
        RunEvent(2, EventKind.TEXT, {"delta": '{"no": "json"}\r\n'}),
        RunEvent(3, EventKind.TOOL_CALL, {"call_id": "1", "name": "f", "arguments": '{"a": "\\"'}),
        RunEvent(4, EventKind.TOOL_RESULT, {"call_id": "1", "content": "é"}),
    ]
    assert await write(database, run, events, owner=owner) == {run.id}
    assert await stored(database, run) == events
    assert await stored(database, run, after=2) == events[2:]
    async with database.reading() as work:
        assert await work.run_events.latest(run.id) == 4
        assert await work.run_events.list_many({run.id: 3}, limit=9) == {run.id: events[3:]}


async def test_a_repeated_batch_changes_nothing(database: Database, owner: UUID) -> None:
    run = await store_run(database, owner=owner)
    events = texts("one", " two")
    for _ in range(2):
        assert await write(database, run, events, owner=owner) == {run.id}
    assert await stored(database, run) == events


async def test_runs_that_are_not_held_keep_the_others_from_nothing(
    database: Database, owner: UUID
) -> None:
    mine, theirs = [await store_run(database, owner=each) for each in (owner, new_id())]
    async with database.reading() as work:
        held = await work.run_events.write(
            [RunEvents(run.id, 1, texts("x")) for run in (mine, theirs)], owner=owner
        )
    assert held == {mine.id}
    assert await stored(database, theirs) == []
    assert len(await stored(database, mine)) == 1


async def test_an_ended_run_takes_no_events(database: Database, owner: UUID) -> None:
    run = await store_run(database, owner=owner)
    async with database.transaction() as work:
        outcome = Outcome(status=RunStatus.CANCELLED)
        await work.runs.finish(run.id, attempt=1, outcome=outcome, title_job_id=new_id())
    assert await write(database, run, texts("late"), owner=owner) == set()
    assert await stored(database, run) == []


async def test_events_go_when_their_run_goes(database: Database, owner: UUID) -> None:
    run = await store_run(database, owner=owner)
    await write(database, run, texts("one"), owner=owner)
    async with database.transaction() as work:
        await work.conversations.delete(run.conversation_id, user_id=run.user_id)
    assert await stored(database, run) == []


async def test_no_event_of_an_old_attempt_gets_in_while_a_run_is_taken_over(
    database: Database,
) -> None:
    chance = seeded()
    old, new = new_id(), new_id()
    admitted = refused = 0
    for _ in range(ROUNDS // 10):
        runs = [await store_run(database, owner=old, lease=EXPIRED) for _ in range(10)]
        claiming = asyncio.ensure_future(_claim_all(database, new))
        late = await asyncio.gather(*(_write_late(database, run, old, chance) for run in runs))
        found = await claiming
        for run, held in zip(runs, late, strict=True):
            events = await stored(database, run)
            # If it came first, the taker, who read after its claim, has seen it.
            assert found[run.id] == events
            assert len(events) == len(held)
            admitted += len(held)
            refused += not held
    assert admitted + refused == ROUNDS
    assert admitted
    assert refused


async def _write_late(
    database: Database, run: Run, owner: UUID, chance: random.Random
) -> set[UUID]:
    await asyncio.sleep(chance.uniform(0, 0.006))
    return await write(database, run, texts("late"), owner=owner, attempt=1)


async def _claim_all(database: Database, owner: UUID) -> dict[UUID, list[RunEvent]]:
    """Take every run over, however often it takes, and read what it has said."""
    found: dict[UUID, list[RunEvent]] = {}
    while len(found) < 10:
        async with database.transaction() as work:
            expired, _ = await work.leases.claim(owner=owner, lease=LEASE, limit=3)
            for run in expired:
                found[run.id] = list(
                    await work.run_events.list(run.id, user_id=run.user_id, after=0, limit=9)
                )
    return found
