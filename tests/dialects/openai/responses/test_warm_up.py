"""Turns of a WebSocket that are prepared and not answered."""

import json

from tests.dialects.conftest import Server
from tests.dialects.openai.responses.test_sdk import strict
from tests.dialects.openai.responses.test_socket import connected, events, response, turn
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT


async def test_a_turn_that_is_only_prepared_can_be_gone_on_from(
    ana: Person, server: Server
) -> None:
    tag = f"Prepared by {ana.name}"
    for store in (True, False):
        async with connected(ana) as socket:
            told = await turn(socket, tag, generate=False, store=store)
            kinds = ["response.created", "response.in_progress", "response.completed"]
            assert [each["type"] for each in told] == kinds
            prepared = response(told)
            assert prepared["output"] == []
            assert prepared["usage"]["total_tokens"] == 0
            calls = len(server.calls(tag))

            answered = response(
                await turn(socket, f"{tag}, now", store=store, previous_response_id=prepared["id"])
            )

            assert answered["output"][0]["content"][0]["text"] == DEFAULT_TEXT
            assert len(server.calls(tag)) == calls + 1
            said = [message["content"] for message in server.calls(tag)[-1]["messages"]]
            assert said == [tag, f"{tag}, now"]


async def test_nothing_but_a_turn_to_come_can_be_prepared(ana: Person) -> None:
    async with connected(ana) as socket:
        frame = {"type": "response.create", "model": "openai:scripted", "generate": False}
        await socket.send(json.dumps(frame))
        prepared = response(await events(socket))
        assert response(await turn(socket, "Now", previous_response_id=prepared["id"]))["output"]
        again = await turn(socket, [], generate=False, previous_response_id=prepared["id"])
        assert response(again)["output"] == []
    async with strict(ana) as sdk:
        assert (await sdk.responses.retrieve(prepared["id"])).output == []
