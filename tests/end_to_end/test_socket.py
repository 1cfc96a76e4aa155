"""Promise G-40: the WebSocket promises what the event stream does."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.kit.chance import seeded
from tests.kit.client import Client, Reading, Seen
from tests.kit.pair import Pair, script

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

_WAIT_S = 20.0


class Socket:
    """One connection to `/ws`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **frame: object) -> None:
        await self.connection.send(json.dumps(frame))

    async def any(self) -> dict[str, Any]:
        """Return the next frame."""
        async with asyncio.timeout(_WAIT_S):
            return json.loads(await self.connection.recv())

    async def next(self, kind: str) -> dict[str, Any]:
        """Return the next frame of that type; others are passed over."""
        async with asyncio.timeout(_WAIT_S):
            while (frame := await self.any())["type"] != kind:
                pass
        return frame

    async def read(self, reading: Reading, *, stop_after: int | None = None) -> None:
        """Follow a run from where the reading stands."""
        await self.send(type="follow", run_id=reading.run_id, after=reading.cursor)
        count = 0
        while reading.run is None and count != stop_after:
            frame = await self.next("event")
            assert frame["run_id"] == reading.run_id
            data = json.dumps(frame["data"], ensure_ascii=False, separators=(",", ":"))
            reading.add(Seen(frame["id"], frame["event"], data))
            count += 1

    async def close_code(self) -> int:
        async with asyncio.timeout(_WAIT_S):
            # Iterating ends with the connection.
            with suppress(ConnectionClosed):
                async for _ in self.connection:
                    pass
        assert self.connection.close_code is not None
        return self.connection.close_code


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncGenerator[Socket]:
    async with connect(url.replace("http", "ws", 1) + "/ws", proxy=None) as connection:
        socket = Socket(connection)
        if token is not None:
            await socket.send(type="auth", token=token)
        yield socket


async def test_a_run_is_followed_and_resumed_over_both_replicas(pair: Pair) -> None:
    chance = seeded()
    content = script("ws", chunks=40, pace_ms=10, reasoning="well, well")
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation(title="Socket")
        operation = await client.send(conversation_id, content)
        reading, connections = Reading(operation.run_id), 0
        while reading.run is None:
            connections += 1
            async with connected(chance.choice(pair.urls), client.token) as socket:
                assert (await socket.next("ready"))["user_id"] == client.id
                await socket.read(reading, stop_after=chance.randint(1, 6))
        assert connections > 1
        by_stream = await client.read(operation.run_id)
        assert [(e.id, e.event, e.fields) for e in reading.events] == [
            (e.id, e.event, e.fields) for e in by_stream.events
        ]
        await client.history.judge(pair.dsn)


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
