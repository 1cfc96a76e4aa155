"""Leases kept and runs taken over, with the clock turned by hand."""

from collections.abc import AsyncIterator

import pytest

from tertulia.domain.ids import new_id
from tertulia.domain.runs import EventKind, Run, RunEvent, RunStatus
from tertulia.storage.database import Database
from tertulia.storage.statements import statement
from tests.kit.pair import script
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.scripted_provider import ScriptedProvider
from tests.kit.waiting import until
from tests.runs.room import MODEL, Room, open_room
from tests.storage.running import EXPIRED, store_run, texts, write

_EXPIRE = statement("UPDATE runs SET lease_until = now() - interval '1 second' WHERE id = :id")


@pytest.fixture
async def room(database: Database) -> AsyncIterator[Room]:
    async with ScriptedProvider() as provider, open_room(database, provider) as room:
        yield room


async def orphan(room: Room, said: list[RunEvent], *, max_attempts: int = 3) -> Run:
    """Store a run of a process that died having said something."""
    dead = new_id()
    run = await store_run(room.database, owner=dead, model=MODEL, max_attempts=max_attempts)
    if said:
        await write(room.database, run, said, owner=dead)
    async with room.database.reading() as work:
        await work.connection.run(_EXPIRE, id=run.id)
    return run


async def test_a_run_that_said_nothing_is_taken_over_without_a_word(room: Room) -> None:
    run = await orphan(room, [])
    await room.keeper.look_round()
    ended = await room.ended(run)
    assert (ended.status, ended.attempt) == (RunStatus.COMPLETED, 2)
    assert await room.text(run) == DEFAULT_TEXT
    async with room.database.reading() as work:
        replay = await work.runs.find_replay(run.id, user_id=run.user_id)
    assert replay is not None
    assert replay.restart_attempt is None


async def test_an_answer_that_cannot_be_continued_starts_again_and_says_so(room: Room) -> None:
    run = await orphan(room, texts("A ter", "tul"))
    with room.feeds.followed(run.id) as feed:
        feed.push(texts("A ter"), None)
        await room.keeper.look_round()
        assert feed.since(1) is None, "a follower here would miss what others stored"
    await room.ended(run)
    assert await room.text(run) == DEFAULT_TEXT
    async with room.database.reading() as work:
        replay = await work.runs.find_replay(run.id, user_id=run.user_id)
    assert replay is not None
    assert (replay.restart_seq, replay.restart_attempt) == (3, 2)


async def test_a_run_out_of_attempts_fails_with_what_it_has(room: Room) -> None:
    run = await orphan(room, texts("A ter", "tul"), max_attempts=1)
    await room.keeper.look_round()
    ended = await room.ended(run)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (RunStatus.FAILED, "attempts_exhausted")
    assert await room.text(run) == "A tertul"
    assert not room.provider.calls


async def test_a_waiting_run_is_started(room: Room) -> None:
    run = await store_run(room.database, owner=None, model=MODEL)
    await room.keeper.look_round()
    ended = await room.ended(run)
    assert (ended.status, ended.attempt) == (RunStatus.COMPLETED, 1)


async def test_a_process_that_slept_through_a_lease_keeps_its_runs(room: Room) -> None:
    content = script("slept", pace_ms=20)
    run = await store_run(room.database, owner=None, model=MODEL, content=content)
    await room.keeper.look_round()
    await until(lambda: bool(room.provider.calls), "the model to be asked")
    for _ in range(3):
        # Whatever the keeper does first when it wakes, it must not take its own run over.
        async with room.database.reading() as work:
            await work.connection.run(_EXPIRE, id=run.id)
        room.keeper._extended_at = -100.0  # pyright: ignore[reportPrivateUsage]  the sleep
        await room.keeper.look_round()
    ended = await room.ended(run)
    assert (ended.status, ended.attempt) == (RunStatus.COMPLETED, 1)
    assert len(room.provider.calls) == 1


async def test_taking_over_from_oneself_ends_the_former_attempt(room: Room) -> None:
    content = script("self", pace_ms=20)
    run = await store_run(room.database, owner=None, model=MODEL, content=content)
    await room.keeper.look_round()
    former = room.executor.live[run.id]
    await until(lambda: former.answer.seq > 0, "the first words")
    async with room.database.reading() as work:
        await work.connection.run(_EXPIRE, id=run.id)
    await room.keeper._claim()  # pyright: ignore[reportPrivateUsage]  without extending first
    assert room.executor.live[run.id] is not former
    assert former.is_lost
    ended = await room.ended(run)
    assert (ended.status, ended.attempt) == (RunStatus.COMPLETED, 2)
    assert await room.text(run) == DEFAULT_TEXT
    await until(lambda: room.provider.calls[0].disconnected, "the first call to be cut")
    await until(lambda: not room.executor.live, "nothing to be left")


async def test_a_claim_is_over_before_the_answers_are_read(room: Room) -> None:
    long = texts(*("word " for _ in range(3_000)))
    runs = [await orphan(room, long) for _ in range(3)]
    await room.keeper._claim()  # pyright: ignore[reportPrivateUsage]  without the rest of a round
    async with room.database.reading() as work:
        held = await work.leases.still_held([run.id for run in runs], owner=room.keeper.process_id)
    assert len(held) == len(runs)
    assert all(live.answer.is_empty for live in room.executor.live.values())
    for run in runs:
        assert (await room.ended(run)).status is RunStatus.COMPLETED
        assert await room.text(run) == DEFAULT_TEXT


async def test_a_keeper_that_hands_over_takes_nothing_on(room: Room) -> None:
    await room.keeper.hand_over(patience_s=0)
    run = await orphan(room, [])
    await room.keeper.look_round()
    assert run.id not in room.executor.live


async def test_a_run_that_was_taken_away_stops_its_model(room: Room) -> None:
    content = script("taken", endless=True, pace_ms=10)
    run = await store_run(room.database, owner=None, model=MODEL, content=content)
    await room.keeper.look_round()
    await until(lambda: bool(room.provider.calls), "the model to be asked")
    async with room.database.reading() as work:
        await work.connection.run(_EXPIRE, id=run.id)
    async with room.database.transaction() as work:
        await work.leases.claim(owner=new_id(), lease=-EXPIRED, limit=1)
    await room.keeper._extend()  # pyright: ignore[reportPrivateUsage]  one step of its loop
    await until(lambda: room.provider.calls[0].disconnected, "the call to be cut")
    assert not room.executor.live


async def test_no_more_runs_are_taken_than_there_is_room_for(database: Database) -> None:
    async with (
        ScriptedProvider() as provider,
        open_room(database, provider, max_runs=3) as room,
    ):
        content = script("room", pace_ms=50)
        for _ in range(3):
            await store_run(database, owner=None, model=MODEL, content=content)
            await orphan(room, [])
        await room.keeper._claim()  # pyright: ignore[reportPrivateUsage]  one step of its loop
        assert len(room.executor.live) == 3
        await room.keeper._claim()  # pyright: ignore[reportPrivateUsage]  one step of its loop
        assert len(room.executor.live) == 3


async def test_a_run_that_takes_too_long_fails_with_what_it_has(database: Database) -> None:
    async with (
        ScriptedProvider() as provider,
        open_room(database, provider, deadline_s=0.5) as room,
    ):
        content = script("slow", text="one two", stall_after=1)
        run = await store_run(database, owner=None, model=MODEL, content=content)
        await room.keeper.look_round()
        ended = await room.ended(run)
        assert ended.error is not None
        assert (ended.status, ended.error.code) == (RunStatus.FAILED, "deadline_exceeded")
        assert await room.text(run) == "one"
        await until(lambda: provider.calls[0].disconnected, "the call to be cut")


async def test_a_model_that_is_gone_fails_its_runs(room: Room) -> None:
    run = await store_run(room.database, owner=None, model="nobody:knows")
    await room.keeper.look_round()
    ended = await room.ended(run)
    assert ended.error is not None
    assert ended.error.code == "model_not_found"


async def test_handing_over_lets_others_go_on_at_once(room: Room) -> None:
    content = script("handed", pace_ms=50)
    run = await store_run(room.database, owner=None, model=MODEL, content=content)
    await room.keeper.look_round()
    await until(lambda: bool(room.provider.calls), "the model to be asked")
    await room.keeper.hand_over(patience_s=0.2)
    assert not room.executor.live
    async with room.database.transaction() as work:
        (taken,), _ = await work.leases.claim(owner=new_id(), lease=-EXPIRED, limit=1)
        said = await work.run_events.list(run.id, user_id=run.user_id, after=0, limit=500)
    assert (taken.id, taken.attempt, taken.max_attempts) == (run.id, 2, 4)
    assert {event.kind for event in said} <= {EventKind.TEXT}
    assert DEFAULT_TEXT.startswith("".join(event.data["delta"] for event in said))
