"""Following, with the database and every process that could write to it played by hand."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tertulia.domain.ids import new_id
from tertulia.domain.parts import TextPart
from tertulia.domain.runs import EventKind, Run, RunEvent, RunStatus
from tertulia.runs.feeds import Feeds
from tertulia.runs.follower import Followed, Follower, Reconnect
from tertulia.runs.live import RunEnded
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.runs import Outcome
from tertulia.telemetry.tasks import TaskSet
from tests.storage.running import store_run, texts, write

PATIENCE_S = 30.0


class Here:
    """A process that follows; the runs are executed by another."""

    def __init__(self, database: Database, tasks: TaskSet) -> None:
        self.database = database
        self.feeds = Feeds()
        self.executed: set[UUID] = set()
        self.follower = Follower(
            database, self.feeds, self.executed.__contains__, Notifier(database)
        )
        self.owner = new_id()
        self.tasks = tasks
        tasks.spawn(self.follower.watch(), name="watch")

    def read(self, run: Run, *, after: int = 0) -> "asyncio.Task[list[Followed]]":
        """Follow to the end in the background."""

        async def all_of_it() -> list[Followed]:
            async with asyncio.timeout(PATIENCE_S):
                following = self.follower.follow(run.id, user_id=run.user_id, after=after)
                return [item async for item in following]

        return self.tasks.spawn(all_of_it(), name="read")

    async def say(self, run: Run, events: list[RunEvent], *, tell: bool = True) -> None:
        """Store events as the other process does; the notice may get lost."""
        assert await write(self.database, run, events, owner=self.owner) == {run.id}
        if tell:
            self.feeds.look(run.id)

    async def end(self, run: Run, text: str, *marks: int) -> RunEnded:
        """End the run as the other process does."""
        async with self.database.transaction() as work:
            outcome = Outcome(status=RunStatus.COMPLETED, parts=(TextPart(text),), marks=marks)
            ended = await work.runs.finish(
                run.id, attempt=run.attempt, outcome=outcome, title_job_id=new_id()
            )
        assert ended is not None
        self.feeds.look(run.id)
        return RunEnded(len(marks) + 1, ended.run)

    async def new_run(self) -> Run:
        return await store_run(self.database, owner=self.owner)


@pytest.fixture
async def here(database: Database) -> AsyncIterator[Here]:
    tasks = TaskSet()
    yield Here(database, tasks)
    await tasks.cancel_all(2)


async def test_events_of_a_run_elsewhere_arrive_in_order_and_then_its_end(here: Here) -> None:
    run = await here.new_run()
    reading = here.read(run)
    await here.say(run, texts("one"))
    await asyncio.sleep(0.1)
    await here.say(run, texts(" two", after=1))
    end = await here.end(run, "one two", 3, 7)
    assert await reading == [*texts("one", " two"), end]


async def test_a_lost_notice_costs_a_second_and_no_event(here: Here) -> None:
    run = await here.new_run()
    reading = here.read(run)
    await asyncio.sleep(0.1)
    await here.say(run, texts("one"), tell=False)
    await here.say(run, texts(" two", after=1), tell=False)
    await asyncio.sleep(1.5)
    end = await here.end(run, "one two", 3, 7)
    assert await reading == [*texts("one", " two"), end]


async def test_notices_about_others_do_not_stand_in_for_a_lost_one(here: Here) -> None:
    quiet, busy = [await here.new_run() for _ in range(2)]
    here.read(busy)
    first = here.follower.follow(quiet.id, user_id=quiet.user_id, after=0)
    got = here.tasks.spawn(anext(first), name="first")
    await asyncio.sleep(0.1)
    await here.say(quiet, texts("one"), tell=False)
    async with asyncio.timeout(PATIENCE_S):
        while not got.done():
            here.feeds.look(busy.id)
            await asyncio.sleep(0.05)
    assert got.result() == texts("one")[0]
    await first.aclose()


async def test_a_late_follower_of_a_long_and_silent_run_gets_all_of_it(here: Here) -> None:
    run = await here.new_run()
    words = ["x"] * 1_234
    await here.say(run, texts(*words), tell=False)
    # The run says nothing more, and nobody rings a bell.
    here.executed.add(run.id)
    following = here.follower.follow(run.id, user_id=run.user_id, after=0)
    async with asyncio.timeout(PATIENCE_S):
        got = [await anext(following) for _ in words]
    assert got == texts(*words)
    await following.aclose()


async def test_a_reader_far_behind_the_tail_catches_up(here: Here) -> None:
    run = await here.new_run()
    following = here.follower.follow(run.id, user_id=run.user_id, after=0)
    await here.say(run, texts("x"))
    async with asyncio.timeout(PATIENCE_S):
        got = [await anext(following)]
        for begin in range(1, 901, 100):
            await here.say(run, texts(*("x" * 100), after=begin))
            await asyncio.sleep(0.02)
        got += [await anext(following) for _ in range(900)]
    assert got == texts(*("x" * 901))
    await following.aclose()


async def test_followers_here_see_the_restart_of_a_run_that_came_here(here: Here) -> None:
    run = await here.new_run()
    reading = here.read(run)
    await asyncio.sleep(0.1)
    await here.say(run, texts("one"))
    await asyncio.sleep(0.1)
    # What the dying process stored last, it told nobody.
    await here.say(run, texts(" two", after=1), tell=False)
    await here.say(run, [RunEvent(3, EventKind.RESTART, {"attempt": 2})], tell=False)
    here.executed.add(run.id)
    here.feeds.publish(run.id, texts("again", after=3), None)
    await here.say(run, texts("again", after=3), tell=False)
    async with here.database.transaction() as work:
        ended = await work.runs.finish(
            run.id,
            attempt=1,
            outcome=Outcome(
                status=RunStatus.COMPLETED,
                parts=(TextPart("again"),),
                restart_seq=3,
                restart_attempt=2,
                marks=(5,),
            ),
            title_job_id=new_id(),
        )
    assert ended is not None
    end = RunEnded(5, ended.run)
    here.feeds.publish(run.id, [], end)
    restart = RunEvent(3, EventKind.RESTART, {"attempt": 2})
    got = await reading
    assert got[0] == texts("one")[0]
    assert got[-3:] == [restart, *texts("again", after=3), end]


async def test_a_cursor_after_the_end_gets_nothing(here: Here) -> None:
    run = await here.new_run()
    end = await here.end(run, "one", 3)
    assert await here.read(run, after=end.seq) == []
    assert await here.read(run, after=1) == [end]
    assert await here.read(run, after=2**31 - 1) == []


async def test_a_cursor_ahead_of_a_running_run_waits_for_its_end(here: Here) -> None:
    run = await here.new_run()
    reading = here.read(run, after=50)
    await here.say(run, texts("one"))
    await asyncio.sleep(0.1)
    await here.end(run, "one", 3)
    assert await reading == []


async def test_following_a_deleted_run_ends_without_a_word(here: Here) -> None:
    run = await here.new_run()
    reading = here.read(run)
    await asyncio.sleep(0.1)
    async with here.database.transaction() as work:
        await work.conversations.delete(run.conversation_id, user_id=run.user_id)
    here.feeds.look(run.id)
    assert await reading == []


async def test_a_stopping_process_sends_its_followers_elsewhere(here: Here) -> None:
    run = await here.new_run()
    reading = here.read(run)
    await here.say(run, texts("one"))
    await asyncio.sleep(0.5)
    here.feeds.drain()
    assert await reading == [*texts("one"), Reconnect()]
