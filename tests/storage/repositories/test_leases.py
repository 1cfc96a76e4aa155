import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from tertulia.domain.errors import Conflict
from tertulia.domain.ids import new_id
from tertulia.domain.runs import Run, RunStatus
from tertulia.storage.database import Database
from tertulia.storage.repositories.leases import HeldRun
from tertulia.storage.repositories.runs import Outcome
from tertulia.storage.statements import statement
from tests.storage.rows import new_conversation, new_user
from tests.storage.running import EXPIRED, LEASE, append_run, store_run

_SIX_SECONDS = timedelta(seconds=6)
_SLEEP = statement("SELECT pg_sleep(:seconds)")
_LEASE_LEFT = statement(
    """
    SELECT CAST(EXTRACT(epoch FROM lease_until - clock_timestamp()) AS double precision) AS seconds
    FROM runs WHERE id = :id
    """
)


@pytest.fixture
def owner() -> UUID:
    return new_id()


async def claim(
    database: Database, owner: UUID, limit: int = 50
) -> tuple[list[HeldRun], list[HeldRun]]:
    async with database.transaction() as work:
        expired, started = await work.leases.claim(owner=owner, lease=LEASE, limit=limit)
    return list(expired), list(started)


async def end(database: Database, run: Run, *, attempt: int = 1) -> bool:
    async with database.transaction() as work:
        outcome = Outcome(status=RunStatus.COMPLETED)
        finished = await work.runs.finish(
            run.id, attempt=attempt, outcome=outcome, title_job_id=new_id()
        )
        return finished is not None


async def test_only_a_run_whose_lease_has_ended_is_taken_over(
    database: Database, owner: UUID
) -> None:
    await store_run(database, owner=new_id())
    dead = await store_run(database, owner=new_id(), lease=EXPIRED)
    expired, started = await claim(database, owner)
    assert [(run.id, run.attempt) for run in expired] == [(dead.id, 2)]
    assert started == []
    assert await claim(database, owner) == ([], [])


async def test_no_two_processes_get_the_same_run(database: Database) -> None:
    waiting = [await store_run(database, owner=None) for _ in range(10)]
    dead = [await store_run(database, owner=new_id(), lease=EXPIRED) for _ in range(10)]
    claimed = await asyncio.gather(*(claim(database, new_id(), 4) for _ in range(5)))
    expired = [run.id for each, _ in claimed for run in each]
    started = [run.id for _, each in claimed for run in each]
    assert len(expired) == len(set(expired))
    assert len(started) == len(set(started))
    assert set(expired) <= {run.id for run in dead}
    assert set(started) <= {run.id for run in waiting}
    assert len(expired) + len(started) >= 10


async def test_a_process_takes_no_more_than_it_has_room_for(
    database: Database, owner: UUID
) -> None:
    for _ in range(3):
        await store_run(database, owner=None)
        await store_run(database, owner=new_id(), lease=EXPIRED)
    expired, started = await claim(database, owner, 4)
    assert (len(expired), len(started)) == (3, 1)


async def test_waiting_runs_of_a_conversation_take_turns_in_order(
    database: Database, owner: UUID
) -> None:
    running = await store_run(database, owner=owner)
    waiting = [await store_run(database, owner=None, beside=running) for _ in range(3)]
    turns: list[UUID] = []
    assert await claim(database, owner) == ([], [])
    await end(database, running)
    for _ in waiting:
        _, (started,) = await claim(database, owner)
        assert await claim(database, owner) == ([], [])
        turns.append(started.id)
        async with database.transaction() as work:
            outcome = Outcome(status=RunStatus.COMPLETED)
            assert await work.runs.finish(
                started.id, attempt=1, outcome=outcome, title_job_id=new_id()
            )
    assert turns == [run.id for run in waiting]


async def test_a_conversation_never_has_two_running_runs(database: Database, owner: UUID) -> None:
    running = await store_run(database, owner=owner)
    with pytest.raises(Conflict):
        await store_run(database, owner=owner, beside=running)


async def test_only_the_holder_extends_a_lease(database: Database, owner: UUID) -> None:
    mine, theirs = [await store_run(database, owner=each) for each in (owner, new_id())]
    async with database.reading() as work:
        kept = await work.leases.extend([mine.id, theirs.id, new_id()], owner=owner, lease=LEASE)
    assert kept == {mine.id: 1}


async def test_a_holder_that_slept_keeps_what_nobody_took(database: Database, owner: UUID) -> None:
    run = await store_run(database, owner=owner, lease=EXPIRED)
    async with database.reading() as work:
        assert await work.leases.extend([run.id], owner=owner, lease=LEASE) == {run.id: 1}
    assert await claim(database, new_id()) == ([], [])


async def test_a_released_run_is_taken_at_once_and_costs_no_attempt(
    database: Database, owner: UUID
) -> None:
    run = await store_run(database, owner=owner)
    async with database.reading() as work:
        await work.leases.release([run.id], owner=owner)
    (taken,), _ = await claim(database, new_id())
    assert (taken.id, taken.attempt, taken.max_attempts) == (run.id, 2, 4)


async def test_a_former_holder_cannot_end_a_run(database: Database, owner: UUID) -> None:
    run = await store_run(database, owner=owner, lease=EXPIRED)
    await claim(database, new_id())
    assert not await end(database, run, attempt=1)
    assert await end(database, run, attempt=2)
    assert not await end(database, run, attempt=2)


async def test_a_lease_is_whole_however_long_its_transaction_waited(
    database: Database, owner: UUID
) -> None:
    conversation = await new_conversation(database, await new_user(database))
    async with database.transaction() as work:
        await work.connection.one(_SLEEP, seconds=1.1)
        run = await append_run(work, conversation, owner=owner, lease=_SIX_SECONDS)
        left = await work.connection.one(_LEASE_LEFT, id=run.id)
    assert left.seconds > 5.5
    assert run.started_at is not None
    assert run.started_at - run.created_at > timedelta(seconds=1)


async def test_a_claim_that_waited_gives_a_whole_lease(database: Database, owner: UUID) -> None:
    run = await store_run(database, owner=None)
    async with database.transaction() as work:
        await work.connection.one(_SLEEP, seconds=1.1)
        await work.leases.claim(owner=owner, lease=_SIX_SECONDS, limit=1)
        left = await work.connection.one(_LEASE_LEFT, id=run.id)
    assert left.seconds > 5.5
