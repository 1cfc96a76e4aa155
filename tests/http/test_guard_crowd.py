"""The guard's limit of how many requests may wait for their answers."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from tertulia.domain.errors import Overloaded
from tertulia.http.guard import Guard, GuardLimits

from .serving import client_of


@pytest.fixture
def door() -> asyncio.Event:
    """What all requests wait for."""
    return asyncio.Event()


@pytest.fixture
def app(door: asyncio.Event) -> Guard:
    return Guard(waiting_api(door), limits=GuardLimits(waiting_requests=3))


def waiting_api(door: asyncio.Event) -> FastAPI:
    api = FastAPI()

    @api.get("/wait")
    async def wait() -> str:
        await door.wait()
        return "served"

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncGenerator[str]:
            await door.wait()
            yield "piece"

        return StreamingResponse(pieces())

    @api.get("/health")
    async def health() -> str:
        return "alive"

    assert all(map(callable, (wait, stream, health)))
    return api


async def test_one_more_than_may_wait_is_turned_away_on_the_spot(
    app: Guard, door: asyncio.Event
) -> None:
    async with client_of(app) as client:
        waiting = [asyncio.ensure_future(client.get("/wait")) for _ in range(3)]
        await asyncio.sleep(0.05)
        refused = await client.get("/wait")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert "retry-after" in refused.headers
        assert (await client.get("/health")).status_code == 200
        door.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 3
        assert (await client.get("/wait")).status_code == 200


async def test_a_client_that_leaves_makes_room(app: Guard, door: asyncio.Event) -> None:
    async with client_of(app) as client:
        waiting = [asyncio.ensure_future(client.get("/wait")) for _ in range(3)]
        await asyncio.sleep(0.05)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        door.set()
        assert (await client.get("/wait")).status_code == 200


async def test_a_stream_that_has_begun_waits_no_more(app: Guard, door: asyncio.Event) -> None:
    async with client_of(app) as client:
        # This client gives an answer back only when it is whole.
        streams = [asyncio.ensure_future(client.get("/stream")) for _ in range(3)]
        await asyncio.sleep(0.05)
        late = asyncio.ensure_future(client.get("/wait"))
        await asyncio.sleep(0.05)
        door.set()
        answers = await asyncio.gather(*streams, late)
    assert [answer.status_code for answer in answers] == [200] * 4


async def test_a_request_begins_when_what_stands_behind_is_ready_for_it(
    door: asyncio.Event,
) -> None:
    ready = asyncio.Event()
    door.set()

    async def until_ready() -> None:
        await ready.wait()

    async with client_of(Guard(waiting_api(door), until_ready=until_ready)) as client:
        waiting = asyncio.ensure_future(client.get("/wait"))
        assert (await client.get("/health")).status_code == 200
        assert not waiting.done()
        ready.set()
        assert (await waiting).status_code == 200


async def test_a_request_that_nothing_will_be_ready_for_is_turned_away(
    door: asyncio.Event,
) -> None:
    async def until_ready() -> None:
        raise Overloaded

    async with client_of(Guard(waiting_api(door), until_ready=until_ready)) as client:
        refused = await client.get("/wait")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert (await client.get("/health")).status_code == 200
