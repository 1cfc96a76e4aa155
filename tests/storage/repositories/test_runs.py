from decimal import Decimal

import asyncpg
import pytest

from tertulia.domain.errors import RunNotFound
from tertulia.domain.ids import new_id
from tertulia.domain.models import Usage
from tertulia.domain.parts import TextPart
from tertulia.domain.runs import RunError, RunStatus
from tertulia.storage.database import Database
from tertulia.storage.repositories.runs import Finished, Outcome
from tests.storage.rows import new_user
from tests.storage.running import store_run


async def finish(database: Database, outcome: Outcome) -> tuple[Finished, Finished | None]:
    """End a new run, twice; return what came of each."""
    run = await store_run(database, owner=new_id())
    async with database.transaction() as work:
        first = await work.runs.finish(run.id, attempt=1, outcome=outcome, title_job_id=new_id())
        again = await work.runs.finish(run.id, attempt=1, outcome=outcome, title_job_id=new_id())
    assert first is not None
    return first, again


async def test_a_run_ends_once(database: Database) -> None:
    first, again = await finish(database, Outcome(status=RunStatus.COMPLETED))
    assert first.run.status is RunStatus.COMPLETED
    assert again is None


async def test_the_database_itself_refuses_a_second_end(dsn: str, database: Database) -> None:
    first, _ = await finish(database, Outcome(status=RunStatus.COMPLETED))
    connection = await asyncpg.connect(dsn)
    try:
        for status in ("failed", "cancelled", "running", "queued"):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(
                    "UPDATE runs SET status = $2, error_code = 'x' WHERE id = $1",
                    first.run.id,
                    status,
                )
    finally:
        await connection.close()


async def test_what_the_end_returns_is_what_is_stored(database: Database) -> None:
    usage = Usage(3, 4, 1, 2, Decimal("0.00000123456789"))
    outcome = Outcome(
        status=RunStatus.FAILED,
        parts=(TextPart("so far"),),
        marks=(2, 6),
        error=RunError("provider_error", "It broke"),
        status_code=502,
        usage=usage,
    )
    ended, _ = await finish(database, outcome)
    async with database.reading() as work:
        stored = await work.runs.get(ended.run.id, user_id=ended.run.user_id)
        replay = await work.runs.find_replay(ended.run.id, user_id=ended.run.user_id)
    assert stored == ended.run
    assert replay is not None
    assert (replay.parts, replay.marks) == ((TextPart("so far"),), (2, 6))


async def test_the_end_says_whether_another_run_waits(database: Database) -> None:
    run = await store_run(database, owner=new_id())
    await store_run(database, owner=None, beside=run)
    async with database.transaction() as work:
        ended = await work.runs.finish(
            run.id, attempt=1, outcome=Outcome(status=RunStatus.COMPLETED), title_job_id=new_id()
        )
    assert ended is not None
    assert ended.another_waits


async def test_a_run_is_nobody_elses(database: Database) -> None:
    run = await store_run(database, owner=new_id())
    stranger = await new_user(database)
    async with database.transaction() as work:
        with pytest.raises(RunNotFound):
            await work.runs.get(run.id, user_id=stranger)
        with pytest.raises(RunNotFound):
            await work.runs.lock(run.id, user_id=stranger)
        assert not await work.runs.list(run.conversation_id, user_id=stranger, limit=9)


async def test_a_run_that_goes_on_has_nothing_to_replay(database: Database) -> None:
    run = await store_run(database, owner=new_id())
    async with database.reading() as work:
        assert await work.runs.find_replay(run.id, user_id=run.user_id) is None
        assert await work.runs.statuses([run.id, new_id()]) == {run.id: RunStatus.RUNNING}


async def test_received_tokens_are_noted_where_nobody_knew_better(database: Database) -> None:
    cancelled, _ = await finish(database, Outcome(status=RunStatus.CANCELLED))
    known, _ = await finish(
        database, Outcome(status=RunStatus.CANCELLED, usage=Usage(response_tokens=7))
    )
    elsewhere, _ = await finish(
        database, Outcome(status=RunStatus.COMPLETED, usage=Usage(response_tokens=3))
    )
    ended = [cancelled.run, known.run, elsewhere.run]
    async with database.reading() as work:
        for run in ended:
            await work.runs.settle(run.id, attempt=run.attempt, response_tokens=5, first_token_ms=1)
        usages = [(await work.runs.get(run.id, user_id=run.user_id)).usage for run in ended]
    assert [usage and usage.response_tokens for usage in usages] == [5, 7, 3]
