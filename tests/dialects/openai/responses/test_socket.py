"""Turns over a WebSocket, one after the other."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.dialects.conftest import Server
from tests.dialects.openai.responses.test_sdk import MODEL, strict
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.stage import fetch_number
from tests.kit.waiting import until

_LAST = ("response.completed", "response.failed", "response.incomplete", "error")


@asynccontextmanager
async def connected(person: Person, token: str | None = None) -> AsyncGenerator[ClientConnection]:
    url = f"{person.urls[0].replace('http', 'ws')}/v1/responses"
    headers = {"Authorization": f"Bearer {token or person.token}"}
    async with connect(url, additional_headers=headers, proxy=None) as socket:
        yield socket


async def turn(socket: ClientConnection, input_: Any, **asked: Any) -> list[dict[str, Any]]:  # noqa: ANN401  as JSON
    frame = {"type": "response.create", "model": MODEL, "input": input_, **asked}
    await socket.send(json.dumps(frame))
    return await events(socket)


async def events(socket: ClientConnection) -> list[dict[str, Any]]:
    """Return the events up to the last of a turn."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] not in _LAST:
        found.append(json.loads(await socket.recv()))
    return found


def response(told: list[dict[str, Any]]) -> dict[str, Any]:
    assert told[-1]["type"] == "response.completed", told[-1]
    return told[-1]["response"]


def code(told: list[dict[str, Any]]) -> str:
    assert told[-1]["type"] == "error", told[-1]
    assert told[-1]["status"] >= 400
    return told[-1]["error"]["code"]


async def test_a_turn_has_the_events_of_a_stream(ana: Person) -> None:
    async with connected(ana) as socket:
        told = await turn(socket, "Hello", stream_id="lane")
        assert [each["sequence_number"] for each in told] == list(range(len(told)))
        assert response(told)["output"][0]["content"][0]["text"] == DEFAULT_TEXT
        assert {each["stream_id"] for each in told} == {"lane"}
        assert response(await turn(socket, "Again"))


async def test_turns_that_are_sent_at_once_come_one_after_the_other(ana: Person) -> None:
    async with connected(ana) as socket:
        for number in range(3):
            frame = {"type": "response.create", "model": MODEL, "input": f"Turn {number}"}
            await socket.send(json.dumps(frame))
        for _ in range(3):
            assert response(await events(socket))


async def test_what_is_not_stored_can_be_gone_on_from_on_this_connection_only(
    ana: Person, server: Server
) -> None:
    async with connected(ana) as socket:
        one = response(await turn(socket, "One", store=False))
        two = response(await turn(socket, "Two", store=False, previous_response_id=one["id"]))
        assert two["previous_response_id"] == one["id"]
        assert two["conversation"] == one["conversation"]
    async with connected(ana) as socket:
        told = await turn(socket, "Three", store=False, previous_response_id=two["id"])
        assert code(told) == "previous_response_not_found"
        assert response(await turn(socket, "Anew", store=False))

    async def nothing_is_left() -> bool:
        kept = "SELECT count(*) FROM conversations WHERE user_id = $1"
        return await fetch_number(server.dsn, kept, ana.id) == 0

    await until(nothing_is_left, "everything to be deleted", within_s=30)


async def test_a_turn_that_failed_cannot_be_gone_on_from(ana: Person) -> None:
    async with connected(ana) as socket:
        one = response(await turn(socket, "One", store=False))
        stray = [{"type": "function_call_output", "call_id": "nobody", "output": "x"}]
        told = await turn(socket, stray, store=False, previous_response_id=one["id"])
        assert told[-1]["error"]["param"] == "input[0].call_id"
        told = await turn(socket, "Stale", store=False, previous_response_id=one["id"])
        assert code(told) == "previous_response_not_found"


async def test_a_clients_fault_is_told_and_not_logged_as_ours(
    ana: Person, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stray = [{"type": "function_call_output", "call_id": "nobody", "output": "x"}]
    async with connected(ana) as socket:
        assert code(await turn(socket, "x", model="nobody:x")) == "model_not_found"
        gone = await turn(socket, "x", previous_response_id="resp_1")
        assert gone[-1]["error"]["message"] == "Previous response 'resp_1' not found"
        assert code(await turn(socket, stray)) == "invalid_value"
        assert response(await turn(socket, "Hello"))
    logs = [each.read_text() for each in tmp_path_factory.getbasetemp().glob("*/log")]
    assert logs
    assert not any("start a turn" in each for each in logs)


async def test_stored_and_unstored_responses_go_on_from_each_other(ana: Person) -> None:
    async with connected(ana) as socket:
        kept = response(await turn(socket, "Kept"))
        aside = response(await turn(socket, "x", store=False, previous_response_id=kept["id"]))
        assert aside["conversation"] != kept["conversation"]
        back = response(await turn(socket, "y", store=True, previous_response_id=aside["id"]))
        assert back["conversation"] not in (kept["conversation"], aside["conversation"])
    async with strict(ana) as sdk:
        assert (await sdk.responses.retrieve(back["id"])).status == "completed"
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(aside["id"])


async def test_a_connection_that_closes_ends_its_turn(ana: Person) -> None:
    async with connected(ana) as socket:
        frame = {
            "type": "response.create",
            "model": MODEL,
            "input": script("Go", endless=True, pace_ms=20),
        }
        await socket.send(json.dumps(frame))
        first = json.loads(await socket.recv())
    path = f"/runs/{first['response']['id'].removeprefix('resp_')}"

    async def is_cancelled() -> bool:
        return (await ana.call("GET", path)).json()["status"] == "cancelled"

    await until(is_cancelled, "the run to be cancelled", within_s=30)


async def test_turns_that_wait_are_not_begun_for_a_client_that_has_left(
    ana: Person, server: Server
) -> None:
    async with connected(ana) as socket:
        for number in range(12):
            words = script(f"Turn {number}", endless=True, pace_ms=20)
            frame = {"type": "response.create", "model": MODEL, "input": words, "store": False}
            await socket.send(json.dumps(frame))
        await socket.recv()
    active = "SELECT count(*) FROM runs WHERE user_id = $1 AND status IN ('queued', 'running')"
    kept = "SELECT count(*) FROM conversations WHERE user_id = $1"

    async def nothing_is_left() -> bool:
        runs = await fetch_number(server.dsn, active, ana.id)
        return runs + await fetch_number(server.dsn, kept, ana.id) == 0

    await until(nothing_is_left, "everything to be over", within_s=30)


async def test_more_turns_than_may_wait_are_refused(ana: Person) -> None:
    async with connected(ana) as socket:
        words = script("Go", endless=True, pace_ms=20)
        frame = json.dumps({"type": "response.create", "model": MODEL, "input": words})
        for _ in range(20):
            await socket.send(frame)
        while (event := json.loads(await socket.recv()))["type"] != "error":
            pass
        assert (event["status"], event["error"]["code"]) == (503, "overloaded")


async def test_the_sdk_connects(ana: Person) -> None:
    async with strict(ana) as sdk, sdk.responses.connect() as connection:
        await connection.response.create(model=MODEL, input="Hello")
        async for event in connection:
            if event.type == "response.completed":
                assert event.response.output_text == DEFAULT_TEXT
                break


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('{"type":', "invalid_json"),
        ('{"type":"response.create","input":NaN}', "invalid_json"),
        ('{"type":"response.steer"}', "invalid_value"),
        ("[]", "invalid_value"),
        (b"bytes", "invalid_value"),
        ('{"type":"response.create","input":"x","surprise":1}', "unknown_parameter"),
        ('{"type":"response.create","input":"x","background":true}', "invalid_value"),
        ('{"type":"response.create","input":"x","generate":"no"}', "invalid_value"),
        ('{"type":"response.create","input":"x","model":"no:body"}', "model_not_found"),
    ],
)
async def test_a_bad_frame_is_answered_and_changes_nothing(
    ana: Person, frame: str | bytes, expected: str
) -> None:
    async with connected(ana) as socket:
        await socket.send(frame)
        assert code(await events(socket)) == expected
        assert response(await turn(socket, "Hello"))


async def test_who_is_not_known_is_told_so_before_the_connection_opens(ana: Person) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(ana, token="sk-nobody"):
            pass
    assert refused.value.response.status_code == 401
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == "invalid_api_key"


async def test_what_was_compacted_can_be_gone_on_from(ana: Person) -> None:
    sent: Any = [
        {"role": "user", "content": "We launch on Tuesday"},
        {"role": "assistant", "content": "Noted."},
    ]
    # Not by the SDK, which takes a user's message in an output for an assistant's.
    body = {"model": MODEL, "input": sent}
    made = (await ana.call("POST", "/v1/responses/compact", json=body)).json()
    output = made["output"]
    assert made["object"] == "response.compaction"
    assert made["usage"]["total_tokens"] > 0
    assert [item["type"] for item in output] == ["message", "compaction"]
    assert output[0]["content"][0]["text"] == "We launch on Tuesday"
    async with connected(ana) as socket:
        again = [*output, {"role": "user", "content": "Go on"}]
        assert response(await turn(socket, again, store=False))


async def test_a_compaction_of_nothing_or_of_another_server_is_refused(ana: Person) -> None:
    answer = await ana.call("POST", "/v1/responses/compact", json={"model": MODEL})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    answer = await ana.call("POST", "/v1/responses/compact", json={"input": "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    foreign = [{"type": "compaction", "encrypted_content": "another server's"}]
    body = {"model": MODEL, "input": foreign}
    answer = await ana.call("POST", "/v1/responses", json=body)
    assert answer.json()["error"]["param"] == "input[0].encrypted_content"
