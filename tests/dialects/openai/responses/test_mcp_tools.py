"""Tools of configured MCP servers in responses."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.dialects.tool_user import user_with_tools
from tests.kit.pair import script
from tests.kit.tool_hosting import noted
from tests.runs.talking import Talker

TOOLS = [{"type": "mcp", "server_label": "kit"}]
CALL = {"name": "kit__add", "arguments": '{"a": 1, "b": 2}', "id": "sum"}
ADDS = script("add", text="Adding:", tool_calls=[CALL], then=[{"text": "Three."}])


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
async def ana(dsn: str, notes: Path) -> AsyncIterator[Talker]:
    async with user_with_tools(dsn, notes) as ana:
        yield ana


async def respond(ana: Talker, input_: Any, **asked: Any) -> dict[str, Any]:  # noqa: ANN401  as JSON
    body = {"model": "openai:scripted", "input": input_, **asked}
    answer = await ana.send("POST", "/v1/responses", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_in(body: str) -> list[dict[str, Any]]:
    lines = body.split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def streamed(ana: Talker, input_: Any, **asked: Any) -> list[dict[str, Any]]:  # noqa: ANN401  as JSON
    body = {"model": "openai:scripted", "input": input_, "stream": True, **asked}
    answer = await ana.send("POST", "/v1/responses", body)
    assert answer.status_code == 200, answer.text
    return events_in(answer.text)


async def test_a_call_is_made_here_and_shown_with_its_result(ana: Talker, notes: Path) -> None:
    response = await respond(ana, ADDS, tools=TOOLS)

    Response.model_validate(response, strict=False)
    words, call, rest = response["output"]
    assert (words["content"][0]["text"], rest["content"][0]["text"]) == ("Adding:", "Three.")
    assert (call["type"], call["server_label"], call["name"]) == ("mcp_call", "kit", "add")
    assert (call["output"], call["status"]) == ("3", "completed")
    assert noted(notes) == ["add 1 2"]
    found = await ana.send("GET", f"/v1/responses/{response['id']}")
    assert found.json() == response
    history = [{"role": "user", "content": "Add"}, *response["output"]]
    again = await respond(ana, [*history, {"role": "user", "content": "And?"}], tools=TOOLS)
    assert again["status"] == "completed"


async def test_a_tool_that_asks_first_waits(ana: Talker) -> None:
    send = {"name": "kit__send", "arguments": '{"text": "x"}', "id": "c"}
    asked = script("send", text="", tool_calls=[send], then=[{"text": "Done."}])
    response = await respond(ana, asked, tools=TOOLS)

    (request,) = response["output"]
    assert (request["type"], request["name"]) == ("mcp_approval_request", "send")
    path = f"/runs/{response['id'].removeprefix('resp_')}/tool_calls/c"
    allowed = await ana.send("POST", path, {"approve": True})
    assert allowed.status_code == 202, allowed.text
    run = await ana.ended(allowed.json())
    found = await ana.send("GET", f"/v1/responses/resp_{run['id'].replace('-', '')}")
    assert [item["type"] for item in found.json()["output"]] == ["mcp_call", "message"]


def asks(*names: str) -> str:
    """Return a message whose answer wants to send something with each of these calls."""
    wanted = [{"name": "kit__send", "arguments": f'{{"text": "{n}"}}', "id": n} for n in names]
    return script("send", text="Sending:", tool_calls=wanted, then=[{"text": "Done."}])


def says(request: dict[str, Any], **word: Any) -> dict[str, Any]:  # noqa: ANN401  as JSON
    return {"type": "mcp_approval_response", "approval_request_id": request["id"], **word}


async def test_a_request_for_approval_is_answered_and_gone_on_from(
    ana: Talker, notes: Path
) -> None:
    asked = await respond(ana, asks("a", "b"), tools=TOOLS)
    _, one, two = asked["output"]
    assert {"id", "type", "name", "server_label", "arguments"} == set(one)
    assert (one["arguments"], one["server_label"]) == ('{"text": "a"}', "kit")

    said = [says(one, approve=True), says(two, approve=False, reason="No b")]
    before = asked["id"]
    response = await respond(ana, said, previous_response_id=before, metadata={"a": "b"})

    Response.model_validate(response, strict=False)
    sent, refused, words = response["output"]
    assert (sent["type"], sent["output"], sent["approval_request_id"]) == (
        "mcp_call",
        "sent a",
        one["id"],
    )
    assert refused["output"].endswith("The user says: No b")
    assert words["content"][0]["text"] == "Done."
    assert (response["previous_response_id"], response["metadata"]) == (before, {"a": "b"})
    assert noted(notes) == ["send a"]
    found = (await ana.send("GET", f"/v1/responses/{response['id']}")).json()
    assert found == response
    # What was decided is decided: the same again is the same response, the contrary an error.
    again = await respond(ana, said, previous_response_id=before)
    assert again["id"] == response["id"]
    contrary = {"model": "openai:scripted", "previous_response_id": before}
    answer = await ana.send(
        "POST", "/v1/responses", contrary | {"input": [says(one, approve=False)]}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "tool_call_settled")
    # Who sends all that was said goes on from all of that.
    history = [{"role": "user", "content": "x"}, *asked["output"], *said, *response["output"]]
    rest = await respond(ana, [*history, {"role": "user", "content": "And?"}])
    assert rest["status"] == "completed"
    assert noted(notes) == ["send a"]


async def test_the_requests_of_a_conversation_are_answered_there(ana: Talker, notes: Path) -> None:
    made = (await ana.send("POST", "/v1/conversations", {})).json()["id"]
    asked = await respond(ana, asks("a"), tools=TOOLS, conversation=made)
    await respond(ana, [says(asked["output"][1], approve=True)], conversation=made)
    items = (await ana.send("GET", f"/v1/conversations/{made}/items?order=asc")).json()["data"]
    assert [item["type"] for item in items] == [
        "message",
        "message",
        "mcp_approval_request",
        "function_call_output",
        "message",
    ]
    assert noted(notes) == ["send a"]


async def test_streams_with_approvals_are_what_the_sdk_reads(ana: Talker) -> None:
    stream = TypeAdapter[Any](ResponseStreamEvent)
    first = await streamed(ana, asks("a"), tools=TOOLS)
    for event in first:
        stream.validate_python(event)
    asked = first[-1]["response"]
    done = [e["item"] for e in first if e["type"] == "response.output_item.done"]
    assert done == asked["output"]
    second = await streamed(
        ana, [says(asked["output"][1], approve=True)], previous_response_id=asked["id"]
    )
    for number, event in enumerate(second):
        stream.validate_python(event)
        assert event["sequence_number"] == number
    kinds = [event["type"].removeprefix("response.") for event in second]
    assert kinds[2:8] == [
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "output_item.done",
    ]
    response = second[-1]["response"]
    assert (await ana.send("GET", f"/v1/responses/{response['id']}")).json() == response
    path = f"/v1/responses/{response['id']}?stream=true"
    assert events_in((await ana.send("GET", path)).text) == second


async def test_what_is_no_answer_to_a_request_is_refused_by_name(ana: Talker, notes: Path) -> None:
    asked = await respond(ana, asks("a"), tools=TOOLS)
    words, request = asked["output"]
    here = {"previous_response_id": asked["id"]}
    other = {"previous_response_id": (await respond(ana, "Hello"))["id"]}
    yes = says(request, approve=True)
    wrong: list[tuple[list[Any], dict[str, Any], str]] = [
        ([yes], {}, "input[0].approval_request_id"),
        ([yes], other, "input[0].approval_request_id"),
        ([yes, yes], here, "input[1].approval_request_id"),
        ([{**yes, "approval_request_id": words["id"]}], here, "input[0].approval_request_id"),
        ([{**yes, "approval_request_id": "nothing"}], here, "input[0].approval_request_id"),
        ([{**yes, "approval_request_id": request["id"] + "9"}], here, "input[0]"),
        ([{**yes, "approve": "yes"}], here, "input[0].approve"),
        ([{**yes, "reason": "x" * 1_001}], here, "input[0].reason"),
        ([yes, {"role": "user", "content": "And?"}], here, "input"),
        ([yes], {**here, "store": False}, "store"),
    ]
    for input_, more, param in wrong:
        body = {"model": "openai:scripted", "input": input_, **more}
        answer = await ana.send("POST", "/v1/responses", body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"].startswith(param), answer.text
    made = (await ana.send("POST", "/v1/conversations", {})).json()["id"]
    kept = await ana.send("POST", f"/v1/conversations/{made}/items", {"items": [yes]})
    assert (kept.status_code, kept.json()["error"]["param"]) == (400, "items[0].type")
    assert noted(notes) == []


async def test_a_client_does_not_answer_the_servers_calls(ana: Talker, notes: Path) -> None:
    made = (await ana.send("POST", "/v1/conversations", {})).json()["id"]
    asked = await respond(ana, asks("a"), tools=TOOLS, conversation=made)
    output = {"type": "function_call_output", "call_id": "a", "output": "sent it"}
    call = {"type": "mcp_call", "id": "a", "server_label": "kit", "name": "send"}
    for forged in (output, {**call, "arguments": "{}", "output": "sent it"}):
        for base in ({"conversation": made}, {"previous_response_id": asked["id"]}):
            body = {"model": "openai:scripted", "input": [forged], **base}
            answer = await ana.send("POST", "/v1/responses", body)
            assert answer.status_code == 400
            assert "'a' is this server's own" in answer.json()["error"]["message"]
        path = f"/v1/conversations/{made}/items"
        added = await ana.send("POST", path, {"items": [forged]})
        assert (added.status_code, added.json()["error"]["param"]) == (400, "items")
    await respond(ana, [says(asked["output"][1], approve=True)], conversation=made)
    assert noted(notes) == ["send a"]


async def test_a_function_has_one_output(ana: Talker) -> None:
    made = (await ana.send("POST", "/v1/conversations", {})).json()["id"]
    function = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    wanted = [{"name": "look", "arguments": "{}", "id": "c"}]
    look = script("look", tool_calls=wanted, then=[{"text": "A cat."}])
    await respond(ana, look, tools=[function], conversation=made)
    output = {"type": "function_call_output", "call_id": "c", "output": "a cat"}
    body = {"model": "openai:scripted", "conversation": made}
    thrice = await ana.send("POST", "/v1/responses", {**body, "input": [output] * 3})
    assert (thrice.status_code, thrice.json()["error"]["param"]) == (400, "input[1].call_id")
    response = await respond(ana, [output], conversation=made)
    assert response["output"][0]["content"][0]["text"] == "A cat."
    hello = {"role": "user", "content": "Hello"}
    contrary = {**output, "output": "a dog"}
    for input_, param in (
        ([contrary], "input[0].call_id"),
        ([hello, contrary], "input[1].call_id"),
    ):
        late = await ana.send("POST", "/v1/responses", {**body, "input": input_})
        assert (late.status_code, late.json()["error"]["param"]) == (400, param)
        assert "'c' has been answered already" in late.json()["error"]["message"]


async def test_outputs_that_come_again_are_passed_over(ana: Talker) -> None:
    made = (await ana.send("POST", "/v1/conversations", {})).json()["id"]
    function = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    first, second = ({"name": "look", "arguments": "{}", "id": each} for each in "ab")
    look = script("look", tool_calls=[first], then=[{"tool_calls": [second]}, {"text": "Cats."}])
    asked = {"role": "user", "content": look}
    outputs = [
        {"type": "function_call_output", "call_id": each, "output": f"cat {each}"} for each in "ab"
    ]
    # As clients do that keep all they have said, and not what was answered.
    for sent in ([asked], outputs[:1], outputs):
        response = await respond(ana, sent, conversation=made, tools=[function])
    assert response["output"][0]["content"][0]["text"] == "Cats."
    kept = (await ana.send("GET", f"/v1/responses/{response['id']}/input_items")).json()["data"]
    assert [item["call_id"] for item in kept] == ["b"]
    path = f"/v1/conversations/{made}/items"
    items = (await ana.send("GET", f"{path}?limit=100")).json()["data"]
    told = [item["call_id"] for item in items if item["type"] == "function_call_output"]
    assert told == ["b", "a"]

    added = await ana.send("POST", path, {"items": outputs})
    assert (added.status_code, added.json()["data"]) == (200, [])
    body = {"model": "openai:scripted", "conversation": made, "input": outputs}
    nothing = await ana.send("POST", "/v1/responses", body)
    assert (nothing.status_code, nothing.json()["error"]["param"]) == (400, "input")


async def test_outputs_and_approvals_go_together(ana: Talker, notes: Path) -> None:
    function = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    look = {"name": "look", "arguments": "{}", "id": "mine"}
    send = {"name": "kit__send", "arguments": '{"text": "it"}', "id": "yours"}
    both = script("both", tool_calls=[look, send], then=[{"text": "Done."}])
    asked = await respond(ana, both, tools=[*TOOLS, function])
    output = {"type": "function_call_output", "call_id": "mine", "output": "a cat"}
    here = {"previous_response_id": asked["id"]}
    body = {"model": "openai:scripted", "input": [output], **here}
    early = await ana.send("POST", "/v1/responses", body)
    assert "waits to be approved" in early.json()["error"]["message"]
    approval = says(asked["output"][1], approve=True)
    response = await respond(ana, [output, approval], **here)
    assert [item["type"] for item in response["output"]] == ["mcp_call", "message"]
    assert noted(notes) == ["send it"]


async def test_nobody_names_a_server_of_their_own(ana: Talker) -> None:
    own = {"type": "mcp", "server_label": "kit", "server_url": "http://x"}
    for tool, param in (
        ({"type": "mcp", "server_label": "nobody"}, "tools"),
        (own, "tools[0].server_url"),
        ({"type": "mcp"}, "tools[0].server_label"),
    ):
        body = {"model": "openai:scripted", "input": "x", "tools": [tool]}
        answer = await ana.send("POST", "/v1/responses", body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
