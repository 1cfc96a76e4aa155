"""The event writer on a real database: all runs in one commit, and each fails alone."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from tertulia.domain.ids import new_id
from tertulia.domain.models import Finish, TextDelta, Usage
from tertulia.domain.parts import TextPart
from tertulia.domain.runs import Run, RunEvent, RunStatus
from tertulia.runs.feeds import Feeds
from tertulia.runs.live import LiveRun
from tertulia.runs.writer import EventWriter
from tertulia.storage.answer import Answer
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tertulia.storage.statements import statement
from tertulia.telemetry.tasks import TaskSet
from tests.storage.running import EXPIRED, LEASE, held, store_run, texts

_COMMITS = statement("SELECT count(DISTINCT CAST(xmin AS text)) AS count FROM run_events")
_POISON = "\0"


@pytest.fixture
def owner() -> UUID:
    return new_id()


@pytest.fixture
def feeds() -> Feeds:
    return Feeds()


@pytest.fixture
async def writer(database: Database, feeds: Feeds, owner: UUID) -> AsyncIterator[EventWriter]:
    tasks = TaskSet()
    writer = EventWriter(database, feeds, Notifier(database), owner)
    tasks.spawn(writer.run(), name="writer")
    yield writer
    await tasks.cancel_all(2)


def say(writer: EventWriter, live: LiveRun, text: str) -> None:
    live.hear(TextDelta(text))
    writer.heard(live)


async def stored(database: Database, run: Run) -> list[RunEvent]:
    async with database.reading() as work:
        return list(await work.run_events.list(run.id, user_id=run.user_id, after=0, limit=10_000))


async def settle(writer: EventWriter, *runs: LiveRun) -> None:
    async with asyncio.timeout(20):
        await writer.flush(runs)


async def test_what_is_said_is_stored_before_it_is_shown(
    database: Database, writer: EventWriter, feeds: Feeds, owner: UUID
) -> None:
    run = await store_run(database, owner=owner)
    live = LiveRun(held(run), Answer())
    with feeds.followed(run.id) as feed:
        bell = feed.changed
        say(writer, live, "one")
        say(writer, live, " two")
        async with asyncio.timeout(30):
            await bell.wait()
        assert feed.since(0) is not None
        assert list(feed.since(0) or ()) == await stored(database, run) == texts("one two")


async def test_the_end_folds_everything_into_the_message(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    run = await store_run(database, owner=owner)
    live = LiveRun(held(run), Answer())
    say(writer, live, "one")
    await settle(writer, live)
    live.hear(TextDelta(" two"))
    live.hear(Finish("stop", Usage(1, 2), "req"))
    live.end(RunStatus.COMPLETED)
    writer.heard(live)
    async with asyncio.timeout(30):
        await live.ended.wait()
    assert await stored(database, run) == []
    async with database.reading() as work:
        replay = await work.runs.find_replay(run.id, user_id=run.user_id)
        ended = await work.runs.get(run.id, user_id=run.user_id)
    assert replay is not None
    assert (replay.parts, replay.marks) == ((TextPart("one two"),), (3, 7))
    assert ended.usage == Usage(1, 2)
    assert not live.is_lost


async def test_a_run_that_cannot_be_stored_fails_alone(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    runs = [await store_run(database, owner=owner) for _ in range(5)]
    lives = [LiveRun(held(run), Answer()) for run in runs]
    for number, live in enumerate(lives):
        say(writer, live, _POISON if number == 2 else "fine")
    await settle(writer, *lives)
    assert [live.is_lost for live in lives] == [number == 2 for number in range(5)]
    for number, run in enumerate(runs):
        assert await stored(database, run) == ([] if number == 2 else texts("fine"))
    say(writer, lives[0], " again")
    say(writer, lives[2], "never")
    await settle(writer, *lives)
    assert await stored(database, runs[0]) == texts("fine", " again")


async def test_an_end_that_cannot_be_stored_does_not_keep_others_from_ending(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    runs = [await store_run(database, owner=owner) for _ in range(3)]
    lives = [LiveRun(held(run), Answer()) for run in runs]
    for number, live in enumerate(lives):
        live.hear(TextDelta(_POISON if number == 1 else "fine"))
        live.end(RunStatus.COMPLETED)
        writer.heard(live)
    await settle(writer, *lives)
    async with database.reading() as work:
        statuses = await work.runs.statuses([run.id for run in runs])
    assert [statuses[run.id] for run in runs] == [
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.COMPLETED,
    ]


async def test_a_run_that_somebody_else_has_is_lost_here(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    run = await store_run(database, owner=owner, lease=EXPIRED)
    live = LiveRun(held(run), Answer())
    async with database.transaction() as work:
        await work.leases.claim(owner=new_id(), lease=LEASE, limit=1)
    say(writer, live, "too late")
    await settle(writer, live)
    assert live.is_lost
    assert await stored(database, run) == []


async def test_a_run_is_flushed_while_others_go_on_talking(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    talker, quiet = [
        LiveRun(held(await store_run(database, owner=owner)), Answer()) for _ in range(2)
    ]

    async def talk() -> None:
        while True:
            say(writer, talker, "on and ")
            await asyncio.sleep(0)

    talking = asyncio.ensure_future(talk())
    say(writer, quiet, "done")
    await settle(writer, quiet)
    assert not talking.done()
    talking.cancel()
    async with database.reading() as work:
        assert await work.run_events.latest(quiet.held.id) == 1


async def test_many_streams_cost_at_most_fifty_commits_a_second(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    runs = [await store_run(database, owner=owner) for _ in range(20)]
    lives = [LiveRun(held(run), Answer()) for run in runs]
    began = time.monotonic()
    for _ in range(200):
        for live in lives:
            say(writer, live, "x")
        await asyncio.sleep(0.003)
    await settle(writer, *lives)
    took_s = time.monotonic() - began
    async with database.reading() as work:
        commits = (await work.connection.one(_COMMITS)).count
    assert 1 < commits <= 50 * took_s + 2
    for run in runs:
        events = await stored(database, run)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert "".join(event.data["delta"] for event in events) == "x" * 200


async def test_a_model_that_is_faster_than_the_database_is_held_back(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    run = await store_run(database, owner=owner)
    live = LiveRun(held(run), Answer())
    say(writer, live, "x" * 300_000)
    assert live.waiting_chars == 300_000
    async with asyncio.timeout(5):
        await writer.room(live)
    assert live.waiting_chars == 0
    live.lose()
    say(writer, live, "x" * 300_000)
    async with asyncio.timeout(5):
        await writer.room(live)


async def test_a_crowd_is_read_once_a_batch_and_nobody_waits_for_ever(
    database: Database, writer: EventWriter, owner: UUID
) -> None:
    runs = [LiveRun(held(await store_run(database, owner=owner)), Answer()) for _ in range(20)]
    rounds = 8

    async def speak(live: LiveRun) -> None:
        for _ in range(rounds):
            say(writer, live, "x")
            if (turn := writer.breathe()) is not None:
                await turn

    for live in runs:
        say(writer, live, "x")
    await settle(writer, *runs)
    await asyncio.sleep(0.01)  # Now they are known to be many.
    async with asyncio.timeout(30):
        await asyncio.gather(*map(speak, runs))
    await settle(writer, *runs)
    for live in runs:
        assert live.answer.parts == (TextPart("x" * (rounds + 1)),)
        assert live.answer.seq >= rounds


async def test_a_few_are_read_at_once(writer: EventWriter) -> None:
    assert [writer.breathe() for _ in range(100)] == [None] * 100
