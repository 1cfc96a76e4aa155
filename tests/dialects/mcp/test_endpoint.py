"""The MCP server, asked by the SDK's client and by hand."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent, TextResourceContents

from tests.runs.talking import Json, Talker

VERSION = "2025-11-25"
NEWEST = "2026-07-28"


@asynccontextmanager
async def connected(talker: Talker, mode: ConnectMode = "auto") -> AsyncGenerator[Client]:
    headers = {"Authorization": f"Bearer {talker.token}"}
    url = str(talker.client.base_url.join("/mcp"))
    async with httpx2.AsyncClient(headers=headers) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


async def ask(client: Client, tool: str, **arguments: Any) -> Json:  # noqa: ANN401  as in JSON
    """Call a tool that must succeed; return what it answers."""
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert isinstance(content, TextContent)
    assert not result.is_error, content.text
    return result.structured_content


async def refusal(client: Client, tool: str, **arguments: Any) -> str:  # noqa: ANN401  as in JSON
    """Call a tool that must refuse; return its words."""
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert result.is_error
    assert isinstance(content, TextContent)
    return content.text


def body(method: str, **params: object) -> Json:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def post(talker: Talker, message: object, **headers: str) -> httpx2.Response:
    told = {"Accept": "application/json, text/event-stream", "MCP_Protocol_Version": VERSION}
    return await talker.send("POST", "/mcp", message, **told, **headers)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_any_age_reads_conversations(ana: Talker, mode: ConnectMode) -> None:
    conversation = await ana.new_conversation()
    await ana.ask(conversation, "请问北京的天气怎么样?")
    async with connected(ana, mode) as client:
        assert client.protocol_version == (NEWEST if mode == "auto" else VERSION)
        listed = await client.list_tools()
        names = [tool.name for tool in listed.tools]
        assert names == ["list_conversations", "read_conversation", "search_conversations"]
        assert all(t.annotations and t.annotations.read_only_hint for t in listed.tools)
        (shown,) = (await ask(client, "list_conversations"))["conversations"]
        assert f"/conversations/{shown['id']}" == conversation
        assert (shown["title"], shown["message_count"]) == ("A talk", 2)
        page = await ask(client, "read_conversation", conversation_id=shown["id"])
        assert [message["role"] for message in page["messages"]] == ["user", "assistant"]
        assert page["messages"][0]["text"] == "请问北京的天气怎么样?"
        found = (await ask(client, "search_conversations", query="北京"))["found"]
        assert [each["message_id"] for each in found] == [page["messages"][0]["id"]]


async def test_pages_lead_to_all_of_it(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    for _ in range(2):
        await ana.new_conversation()
        await ana.ask(conversation, "Hello")
    id_ = conversation.rpartition("/")[2]
    async with connected(ana) as client:
        seen, cursor = list[str](), None
        while not seen or cursor:
            more = {"cursor": cursor} if cursor else {}
            page = await ask(client, "list_conversations", limit=1, **more)
            seen += [each["id"] for each in page["conversations"]]
            cursor = page["next_cursor"]
        assert len(set(seen)) == 3
        first = await ask(client, "read_conversation", conversation_id=id_, limit=3)
        rest = await ask(
            client, "read_conversation", conversation_id=id_, cursor=first["next_cursor"]
        )
        assert len(first["messages"]) == 3
        assert (len(rest["messages"]), rest["next_cursor"]) == (1, None)


async def test_conversations_are_resources(ana: Talker, bob: Talker) -> None:
    conversation = await ana.new_conversation()
    await ana.ask(conversation, "Hello")
    uri = f"tertulia:/{conversation}"
    async with connected(ana) as client:
        (resource,) = (await client.list_resources()).resources
        assert (str(resource.uri), resource.title) == (uri, "A talk")
        templates = (await client.list_resource_templates()).resource_templates
        assert [each.name for each in templates] == ["conversation"]
        (content,) = (await client.read_resource(uri)).contents
        assert isinstance(content, TextResourceContents)
        assert '"text":"Hello"' in content.text
        for wrong in (f"{uri}0", "tertulia://conversations/x", "file:///etc/passwd"):
            with pytest.raises(MCPError, match="Resource not found"):
                await client.read_resource(wrong)
    async with connected(bob) as client:
        assert (await client.list_resources()).resources == []
        with pytest.raises(MCPError, match="Resource not found"):
            await client.read_resource(uri)


@pytest.mark.parametrize("method", ["tools/list", "resources/list", "resources/templates/list"])
@pytest.mark.parametrize("cursor", ["nonsense", "", "x" * 5_000])
async def test_a_cursor_that_was_never_given_is_refused(
    ana: Talker, method: str, cursor: str
) -> None:
    answer = (await post(ana, body(method, cursor=cursor))).json()
    assert answer["error"]["code"] == -32602


async def test_two_users_things_never_meet(ana: Talker, bob: Talker) -> None:
    conversation = await ana.new_conversation()
    await ana.ask(conversation, "a secret of Ana's")
    id_ = conversation.rpartition("/")[2]
    async with connected(bob) as client:
        assert (await ask(client, "list_conversations"))["conversations"] == []
        assert (await ask(client, "search_conversations", query="secret"))["found"] == []
        answer = await refusal(client, "read_conversation", conversation_id=id_)
        assert answer == "Conversation not found"
    async with connected(ana) as client:
        listed = await ask(client, "list_conversations")
        cursor = (await ask(client, "read_conversation", conversation_id=id_, limit=1))[
            "next_cursor"
        ]
    async with connected(bob) as client:
        assert len(listed["conversations"]) == 1
        answer = await refusal(client, "read_conversation", conversation_id=id_, cursor=cursor)
        assert answer == "Conversation not found"


@pytest.mark.parametrize(
    ("tool", "arguments", "wrong"),
    [
        ("list_conversations", {"limit": 0}, "limit: "),
        ("list_conversations", {"limit": 1000}, "limit: "),
        ("list_conversations", {"cursor": "x"}, ""),
        ("list_conversations", {"other": 1}, "other: "),
        ("read_conversation", {}, "conversation_id: "),
        ("read_conversation", {"conversation_id": "1"}, "conversation_id: "),
        ("search_conversations", {"query": ""}, "query: "),
        ("search_conversations", {"query": "x" * 201}, "query: "),
    ],
)
async def test_a_wrong_argument_is_named(
    ana: Talker, tool: str, arguments: Json, wrong: str
) -> None:
    async with connected(ana) as client:
        assert (await refusal(client, tool, **arguments)).startswith(wrong)


async def test_files_and_reasoning_stay_where_they_are(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    script = 'think script:{"reasoning": "hm hm", "text": "Yes."}'
    await ana.ask(conversation, script)
    async with connected(ana) as client:
        id_ = conversation.rpartition("/")[2]
        page = await ask(client, "read_conversation", conversation_id=id_)
        assert page["messages"][1]["parts"] == [{"type": "text", "text": "Yes."}]


async def test_who_is_not_known_is_told_how_to_be(client: httpx2.AsyncClient, ana: Talker) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
        answer = await client.post("/mcp", json=body("tools/list"), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert (await ana.send("POST", "/auth/logout")).status_code < 300
    assert (await post(ana, body("tools/list"))).status_code == 401


async def test_an_api_key_is_as_good_as_a_login(ana: Talker) -> None:
    made = await ana.send("POST", "/auth/api-keys", {"name": "reader"})
    keyed = Talker(ana.client, made.raise_for_status().json()["key"])
    await ana.new_conversation()
    async with connected(keyed) as client:
        assert len((await ask(client, "list_conversations"))["conversations"]) == 1


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("test", "https://evil.example", 403),
        ("evil.example", "http://evil.example", 403),
        ("test", "http://localhost:3000", 403),
        ("localhost:8000", "http://localhost:3000", 200),
        ("127.0.0.1:8000", "http://[::1]:3000", 200),
        ("localhost:8000", "http://[bad", 403),
        ("localhost:8000", "null", 403),
    ],
)
async def test_pages_of_other_origins_are_refused(
    ana: Talker, host: str, origin: str, status: int
) -> None:
    answer = await post(ana, body("tools/list"), Host=host, Origin=origin)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ([body("tools/list")], 400),
        ({"jsonrpc": "2.0"}, 400),
        ("hello", 400),
        ({"jsonrpc": "1.0", "id": 1, "method": "tools/list"}, 400),
        ({"jsonrpc": "2.0", "method": "notifications/initialized"}, 202),
    ],
)
async def test_what_is_no_request_is_no_fault_of_the_server(
    ana: Talker, message: object, status: int
) -> None:
    assert (await post(ana, message)).status_code == status


async def test_unknown_methods_and_tools_are_json_rpc_errors(ana: Talker) -> None:
    unknown = (await post(ana, body("tools/destroy"))).json()
    assert unknown["error"]["code"] == -32601
    tool = (await post(ana, body("tools/call", name="nothing", arguments={}))).json()
    assert tool["error"]["code"] == -32602


async def test_there_is_nothing_to_get_or_delete(ana: Talker) -> None:
    for method in ("GET", "DELETE"):
        answer = await ana.send(method, "/mcp")
        assert answer.status_code == 405
        assert "POST" in answer.headers["Allow"]
