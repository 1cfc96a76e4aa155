import asyncio
import gc

import structlog

from tertulia.telemetry.tasks import TaskSet


async def fail() -> None:
    raise LookupError("gone")


async def test_a_task_gives_its_result_and_is_let_go() -> None:
    tasks = TaskSet()

    async def answer() -> int:
        return 42

    task = tasks.spawn(answer(), name="answer")
    assert len(tasks) == 1
    assert await task == 42
    assert len(tasks) == 0


async def test_a_task_that_nobody_else_holds_is_held() -> None:
    tasks = TaskSet()
    done: list[int] = []

    async def wait() -> None:
        await asyncio.sleep(0.01)
        done.append(1)

    tasks.spawn(wait(), name="held")
    gc.collect()
    await asyncio.sleep(0.05)
    assert done == [1]


async def test_an_exception_is_logged_with_the_name_of_its_task() -> None:
    tasks = TaskSet()
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait([tasks.spawn(fail(), name="follower")])
    assert (logs[0]["event"], logs[0]["task"]) == ("task failed", "follower")
    assert isinstance(logs[0]["exc_info"], LookupError)


async def test_a_cancelled_task_is_no_failure() -> None:
    tasks = TaskSet()
    with structlog.testing.capture_logs() as logs:
        tasks.spawn(asyncio.sleep(60), name="sleeper")
        await tasks.cancel_all(timeout_s=1)
    assert (len(tasks), logs) == (0, [])


async def test_tasks_started_while_others_end_are_ended_too() -> None:
    tasks = TaskSet()

    async def start_another() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            tasks.spawn(asyncio.sleep(60), name="late")

    tasks.spawn(start_another(), name="first")
    await asyncio.sleep(0)
    await tasks.cancel_all(timeout_s=1)
    assert len(tasks) == 0


async def test_a_task_that_does_not_end_is_named_and_left() -> None:
    tasks = TaskSet()
    release = asyncio.Event()

    async def ignore() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = tasks.spawn(ignore(), name="stubborn")
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as logs:
        await tasks.cancel_all(timeout_s=0.05)
    assert (logs[0]["event"], logs[0]["tasks"]) == ("tasks ignore their end", ["stubborn"])
    release.set()
    await task


async def test_the_task_that_ends_the_others_is_spared() -> None:
    tasks = TaskSet()

    async def end_all() -> str:
        await tasks.cancel_all(timeout_s=1)
        return "alive"

    sleeper = tasks.spawn(asyncio.sleep(60), name="sleeper")
    assert await tasks.spawn(end_all(), name="ender") == "alive"
    assert sleeper.cancelled()
