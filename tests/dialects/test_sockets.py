"""How many WebSockets one user may have open, of both kinds together."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tertulia.config import Settings
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.waiting import until
from tests.kit.web_socket import Socket, connected

MAX_SOCKETS = Settings.model_fields["max_sockets"].default
_WAIT_S = 30.0


@asynccontextmanager
async def responding(person: Person) -> AsyncGenerator[ClientConnection]:
    url = f"{person.urls[0].replace('http', 'ws')}/v1/responses"
    async with connect(url, additional_headers=person.headers, proxy=None) as socket:
        yield socket


async def listening(stack: AsyncExitStack, person: Person) -> Socket:
    socket = await stack.enter_async_context(connected(person.urls[0], person.token))
    await socket.next("ready")
    return socket


async def is_refused(person: Person) -> bool:
    try:
        async with responding(person):
            return False
    except InvalidStatus as refused:
        answer = refused.response
        assert answer.status_code == 429
        error = json.loads(answer.body or b"")["error"]
        assert (error["code"], error["type"]) == ("too_many_connections", "rate_limit_error")
        assert "close one first" in error["message"]
        return True


async def test_one_more_than_a_user_may_have_is_refused_until_another_ends(
    ana: Person, bob: Person
) -> None:
    async with AsyncExitStack() as stack:
        rude = await listening(stack, ana)
        polite = await stack.enter_async_context(responding(ana))
        for _ in range(MAX_SOCKETS - 2):
            await listening(stack, ana)

        assert await is_refused(ana)
        async with connected(ana.urls[0], ana.token) as one_more:
            assert (await one_more.next("error"))["code"] == "too_many_connections"
            assert await one_more.close_code() == 1013
        assert not await is_refused(bob)

        for end in (rude.cut("rst"), polite.close()):
            await end

            async def there_is_room() -> bool:
                return not await is_refused(ana)

            await until(there_is_room, "the room that one has left", within_s=_WAIT_S)
            await listening(stack, ana)


async def test_a_turn_takes_room_until_it_has_ended(ana: Person) -> None:
    words = script("Go", endless=True, pace_ms=20) + " " * 900_000
    frame = json.dumps({"type": "response.create", "model": "openai:scripted", "input": words})
    async with responding(ana) as socket:

        async def hear(kind: str) -> dict[str, Any]:
            async with asyncio.timeout(_WAIT_S):
                while (event := json.loads(await socket.recv()))["type"] != kind:
                    assert event["type"] != "error"
            return event

        async def begin_the_next(told: dict[str, Any]) -> dict[str, Any]:
            run_id = told["response"]["id"].removeprefix("resp_")
            await ana.call("POST", f"/runs/{run_id}/cancel")
            return await hear("response.created")

        await socket.send(frame)
        first = await hear("response.created")
        for _ in range(2):
            await socket.send(frame)
        assert (await hear("error"))["error"]["code"] == "overloaded"
        second = await begin_the_next(first)
        await socket.send(frame)
        await begin_the_next(second)
