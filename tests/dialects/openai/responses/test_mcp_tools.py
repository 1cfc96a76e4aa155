"""Tools of configured MCP servers in responses."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response

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

    (call,) = response["output"]
    assert (call["type"], call["output"], call["status"]) == ("mcp_call", None, "incomplete")
    path = f"/runs/{response['id'].removeprefix('resp_')}/tool_calls/c"
    allowed = await ana.send("POST", path, {"approve": True})
    assert allowed.status_code == 202, allowed.text


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
