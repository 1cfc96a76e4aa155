"""Jobs are done at least once, again after a failure, and given up at last."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from uuid import UUID

from tertulia.domain.ids import new_id
from tertulia.jobs.worker import JobWorker
from tertulia.storage.database import Database
from tertulia.storage.repositories.jobs import Job
from tertulia.storage.statements import statement

_COUNT = statement("SELECT count(*) AS n FROM jobs")


async def leave(database: Database, kind: str = "note", **payload: str) -> UUID:
    id_ = new_id()
    async with database.transaction() as work:
        await work.jobs.enqueue(id_, kind, payload)
    return id_


async def left(database: Database) -> int:
    async with database.reading() as work:
        return (await work.connection.one(_COUNT)).n


async def eventually_nothing_left(database: Database) -> None:
    for _ in range(500):
        if not await left(database):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the job is still there")


@asynccontextmanager
async def working(
    database: Database, handler: Callable[[Job], Awaitable[None]]
) -> AsyncGenerator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(JobWorker(database, {"note": handler}).run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_job_that_was_left_behind_is_done_and_forgotten(database: Database) -> None:
    await leave(database, said="hello")
    done = asyncio.Queue[Job]()
    async with working(database, done.put):
        async with asyncio.timeout(10):
            job = await done.get()
        await eventually_nothing_left(database)
    assert job.payload == {"said": "hello"}


async def test_a_job_that_is_cut_off_is_done_by_the_next_worker_at_once(database: Database) -> None:
    await leave(database)
    begun, done = asyncio.Event(), asyncio.Event()

    async def never_done(_job: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def do(_job: Job) -> None:
        done.set()

    async with working(database, never_done):
        await begun.wait()
    async with working(database, do), asyncio.timeout(10):
        await done.wait()
        await eventually_nothing_left(database)


async def test_a_worker_that_stops_takes_nothing_on(database: Database) -> None:
    await leave(database)
    worker = JobWorker(database, {"note": asyncio.Queue[Job]().put})
    worker.stop()
    await worker.run()
    assert await left(database) == 1


async def test_a_job_that_fails_is_tried_again_later(database: Database) -> None:
    await leave(database)
    tries = asyncio.Queue[int]()

    async def fail_once(job: Job) -> None:
        tries.put_nowait(job.attempts)
        if job.attempts == 1:
            raise RuntimeError("not today")

    async with working(database, fail_once):
        async with asyncio.timeout(20):
            seen = [await tries.get() for _ in range(2)]
    assert seen == [1, 2]


async def test_two_workers_do_not_claim_the_same_job(database: Database) -> None:
    for _ in range(20):
        await leave(database)

    async def claim() -> list[UUID]:
        async with database.reading() as work:
            jobs = await work.jobs.claim(["note"], lease=timedelta(seconds=60), limit=15)
        return [job.id for job in jobs]

    claims = await asyncio.gather(*(claim() for _ in range(4)))
    claimed = [id_ for claim_ in claims for id_ in claim_]
    assert len(claimed) == len(set(claimed)) == 20


async def test_a_job_of_a_dead_worker_is_due_again(database: Database) -> None:
    id_ = await leave(database)
    async with database.reading() as work:
        assert len(await work.jobs.claim(["note"], lease=timedelta(seconds=0), limit=1)) == 1
        again = await work.jobs.claim(["note"], lease=timedelta(seconds=60), limit=1)
    assert [(job.id, job.attempts) for job in again] == [(id_, 2)]


async def test_a_worker_that_lost_its_claim_cannot_end_the_job(database: Database) -> None:
    await leave(database)
    async with database.reading() as work:
        (late,) = await work.jobs.claim(["note"], lease=timedelta(seconds=0), limit=1)
        await work.jobs.claim(["note"], lease=timedelta(seconds=60), limit=1)
        await work.jobs.done(late)
    assert await left(database) == 1
