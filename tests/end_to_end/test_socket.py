"""Promise G-40: the WebSocket promises what the event stream does."""

import json
from collections import Counter
from typing import get_args

import pytest

from tests.kit.chance import say, seeded
from tests.kit.client import Client, Ending, Reading, Seen
from tests.kit.crowd import crowd
from tests.kit.pair import Pair, asked, calls_of, script
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.size import sized
from tests.kit.web_socket import connected

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

RUNS = sized(1, full=600)
CUTS = sized(12, full=500)
AT_ONCE = 20
ENDINGS: tuple[Ending, ...] = get_args(Ending)
LATE = sized(4, full=16)
"""Resumes of each run after its end."""
MIN_RESUMES = sized(8, full=10_000)


async def test_runs_are_followed_and_resumed_over_both_replicas(pair: Pair) -> None:
    chance = seeded()
    resumes = 0

    async def read_in_pieces(client: Client, run_id: str) -> Reading:
        nonlocal resumes
        reading = Reading(run_id)
        while reading.run is None:
            resumes += 1
            async with connected(chance.choice(pair.urls), client.token) as socket:
                assert (await socket.next("ready"))["user_id"] == client.id
                await socket.read(reading, stop_after=chance.randint(1, 6))
        return reading

    async def one_run(client: Client, number: int) -> None:
        nonlocal resumes
        content = script(f"ws-{number}", chunks=40, pace_ms=10, reasoning="well, well")
        conversation_id = await client.new_conversation(title="Socket")
        operation = await client.send(conversation_id, content)
        reading = await read_in_pieces(client, operation.run_id)
        by_stream = await client.read(operation.run_id)
        whole = [(e.id, e.event, e.fields) for e in by_stream.events]
        assert [(e.id, e.event, e.fields) for e in reading.events] == whole
        for _ in range(LATE):
            after = chance.randint(0, len(whole) - 1)
            late = Reading(operation.run_id, str(after))
            async with connected(chance.choice(pair.urls), client.token) as socket:
                await socket.read(late)
            assert [(e.id, e.event, e.fields) for e in late.events] == whole[after:]
            resumes += 1

    async with Client(pair.urls) as client:
        await crowd(lambda number: one_run(client, number), count=RUNS, at_once=AT_ONCE)
        await client.history.judge(pair.dsn)
    say(f"{resumes} resumes of {RUNS} runs over sockets, each exact")
    assert resumes >= MIN_RESUMES


async def test_an_answer_survives_sockets_that_are_cut(pair: Pair) -> None:
    chance = seeded()
    contents: list[str] = []

    async def one_socket(client: Client, number: int) -> None:
        content = script(f"ws-cut-{number}", chunks=30, pace_ms=15)
        contents.append(content)
        conversation_id = await client.new_conversation(title="Cut")
        operation = await client.send(conversation_id, content, url=chance.choice(pair.urls))
        reading = Reading(operation.run_id)
        async with connected(chance.choice(pair.urls), client.token) as socket:
            await socket.read(reading, stop_after=chance.randint(1, 6), client=client)
            await socket.cut(ENDINGS[number % len(ENDINGS)])
            run = await client.end_of(operation.run_id)
            # What is silent would wait for the server's goodbye.
            await socket.cut("rst")
        assert (run["status"], run["attempt"]) == ("completed", 1)
        assert (await client.message(run))["content"] == DEFAULT_TEXT

    async with Client(pair.urls) as client:
        await crowd(lambda number: one_socket(client, number), count=CUTS, at_once=AT_ONCE)
        await client.history.judge(pair.dsn)
    asked_of = Counter(asked(call) for call in calls_of(pair.provider_url))
    assert {asked_of[content] for content in contents} == {1}
    say(f"{CUTS} sockets cut; {CUTS} answers completed, with one call each")


async def test_one_connection_follows_many_runs(pair: Pair) -> None:
    async with Client(pair.urls) as client, connected(pair.two.url, client.token) as socket:
        await socket.next("ready")
        readings: dict[str, Reading] = {}
        for number in range(8):
            conversation_id = await client.new_conversation(title="Many")
            operation = await client.send(
                conversation_id, script(f"many-{number}", pace_ms=5), url=pair.one.url
            )
            readings[operation.run_id] = Reading(operation.run_id)
            await socket.send(type="follow", run_id=operation.run_id)
        while any(reading.run is None for reading in readings.values()):
            frame = await socket.next("event")
            seen = Seen(frame["id"], frame["event"], json.dumps(frame["data"]))
            readings[frame["run_id"]].add(seen)
        for run_id, reading in readings.items():
            assert reading.text == (await client.read(run_id)).text


async def test_a_run_that_is_no_longer_followed_sends_nothing_more(pair: Pair) -> None:
    async with Client(pair.urls) as client, connected(pair.one.url, client.token) as socket:
        await socket.next("ready")
        conversation_id = await client.new_conversation(title="Enough")
        content = script("enough", text="word " * 400, chunks=400, pace_ms=3)
        run_id = await client.start_run(conversation_id, content)
        await client.read(run_id)
        for _ in range(5):
            await socket.send(type="follow", run_id=run_id)
            await socket.next("event")
            await socket.send(type="unfollow", run_id=run_id)
            await socket.send(type="ping")
            await socket.next("pong")
            await socket.send(type="ping")
            while (frame := await socket.any())["type"] != "pong":
                assert frame["type"] != "event"


async def test_a_run_that_is_followed_again_is_followed_once(pair: Pair) -> None:
    async with Client(pair.urls) as client, connected(pair.one.url, client.token) as socket:
        await socket.next("ready")
        conversation_id = await client.new_conversation(title="Again")
        content = script("again", text="word " * 40, chunks=40, pace_ms=3, stall_after=30)
        run_id = await client.start_run(conversation_id, content)
        await socket.send(type="follow", run_id=run_id)
        seen = [await socket.next("event")]
        await socket.send(type="follow", run_id=run_id)
        await client.cancel(run_id)
        while seen[-1]["event"] != "done":
            seen.append(await socket.next("event"))
        await socket.send(type="ping")
        while (frame := await socket.any())["type"] != "pong":
            assert frame["type"] != "event"
        numbers = [int(frame["id"]) for frame in seen]
        before = numbers.index(1, 1)
        assert numbers == [*range(1, before + 1), *range(1, len(numbers) - before + 1)]


async def test_whoever_follows_a_run_is_told_when_it_is_deleted(pair: Pair) -> None:
    async with Client(pair.urls) as client, connected(pair.one.url, client.token) as socket:
        await socket.next("ready")
        conversation_id = await client.new_conversation(title="Gone")
        run_id = await client.start_run(conversation_id, script("gone", stall_after=2))
        await socket.send(type="follow", run_id=run_id)
        await socket.next("event")
        await client.insist("DELETE", f"/conversations/{conversation_id}")
        # It is stopped first, and then deleted: whoever looks in between sees its end.
        while (frame := await socket.any())["type"] != "error" and frame.get("event") != "done":
            pass
        assert frame["run_id"] == run_id
        assert frame.get("code") in (None, "run_not_found")


async def test_changes_reach_every_connection_of_the_user_and_nobody_else(pair: Pair) -> None:
    async with (
        Client(pair.urls) as ana,
        Client(pair.urls) as bob,
        connected(pair.one.url, ana.token) as here,
        connected(pair.two.url, ana.token) as there,
        connected(pair.two.url, bob.token) as elsewhere,
    ):
        for socket in (here, there, elsewhere):
            await socket.next("ready")
        conversation_id = await ana.new_conversation(title="Watched")
        run_id = await ana.start_run(conversation_id, "Hello")
        for socket in (here, there):
            told = [await socket.next("changed") for _ in range(4)]
            assert {change["conversation_id"] for change in told} == {conversation_id}
            assert {change["what"] for change in told} == {
                "conversation.created",
                "message.created",
                "run.started",
                "run.ended",
            }
            (ended,) = (change for change in told if change["what"] == "run.ended")
            assert ended["run_id"] == run_id
        await elsewhere.send(type="ping")
        assert json.loads(await elsewhere.connection.recv()) == {"type": "pong"}


@pytest.mark.parametrize("token", ["nonsense", ""])
async def test_a_connection_without_a_good_token_is_closed(pair: Pair, token: str) -> None:
    async with connected(pair.one.url, token) as socket:
        assert (await socket.next("error"))["code"] == "unauthenticated"
        assert await socket.close_code() == 1008


async def test_a_revoked_token_closes_the_connection(pair: Pair) -> None:
    async with Client(pair.urls) as client, connected(pair.two.url, client.token) as socket:
        await socket.next("ready")
        assert (await client.call("POST", "/auth/logout")).status_code == 204
        assert await socket.close_code() == 1008


async def test_frames_that_are_wrong_are_refused_and_the_connection_lives(pair: Pair) -> None:
    async with (
        Client(pair.urls) as ana,
        Client(pair.urls) as bob,
        connected(pair.one.url, ana.token) as socket,
    ):
        await socket.next("ready")
        his = await bob.start_run(await bob.new_conversation(title="His"), "A secret")
        for frame in (
            "not JSON",
            '{"type": "sing"}',
            '{"type": "ping", "and": 1}',
            b"\x00\xff",
            json.dumps({"type": "follow", "run_id": his}),
            json.dumps({"type": "follow", "run_id": his, "after": "x"}),
            json.dumps({"type": "auth", "token": "again"}),
            '{"type": "ping", "x": "\\ud800"}',
            "[" * 5_000,
        ):
            await socket.connection.send(frame)
            error = await socket.next("error")
            assert error["code"] in ("invalid_request", "run_not_found"), frame
        await socket.send(type="ping")
        await socket.next("pong")
