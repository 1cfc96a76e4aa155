"""Servers as they are: over pipes and over HTTP, slow, dying, and lying."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import psutil
import pytest
from aiohttp import web

from tertulia.domain.tools import Approval, ServerTool, ToolServerFailed
from tertulia.telemetry.tasks import TaskSet
from tertulia.tools.configuration import ToolServerConfig
from tertulia.tools.limits import ToolLimits
from tertulia.tools.servers import ToolServers
from tests.kit.tool_hosting import MODULE, Json, noted, over_http, over_stdio

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LIMITS = ToolLimits(call_s=2, connect_s=20, answer_bytes=100_000)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@asynccontextmanager
async def opened(limits: ToolLimits = _LIMITS, **servers: Json) -> AsyncGenerator[ToolServers]:
    tasks = TaskSet()
    configured = {name: ToolServerConfig.model_validate(each) for name, each in servers.items()}
    found = ToolServers.of(configured, limits, tasks)
    try:
        yield found
    finally:
        await found.close()
        await tasks.cancel_all(10)
        assert len(tasks) == 0


@pytest.fixture(params=["stdio", "http"])
async def kit(request: pytest.FixtureRequest, notes: Path) -> AsyncIterator[ToolServers]:
    """The server of the test kit, as `kit`."""
    if request.param == "stdio":
        async with opened(kit=over_stdio(notes, default="allow")) as servers:
            yield servers
        return
    with over_http(notes) as url:
        async with opened(kit={"url": url, "default": "allow"}) as servers:
            yield servers


async def tool(servers: ToolServers, name: str) -> ServerTool:
    return (await servers.list_tools(["kit"]))[f"kit__{name}"]


async def test_tools_are_listed_as_models_know_them(kit: ToolServers) -> None:
    add = await tool(kit, "add")
    assert (add.server, add.tool, add.description) == ("kit", "add", "Add two numbers.")
    assert add.parameters["required"] == ["a", "b"]
    assert (add.approval, add.is_repeatable) == (Approval.ALLOW, True)
    assert not (await tool(kit, "send")).is_repeatable
    assert (await tool(kit, "wait_again")).is_repeatable
    function = add.as_function()["function"]
    assert (function["name"], function["description"]) == ("kit__add", "Add two numbers.")


async def test_calls_over_one_connection_do_not_wait_for_one_another(kit: ToolServers) -> None:
    wait, add = await tool(kit, "wait"), await tool(kit, "add")
    slow = asyncio.ensure_future(kit.call(wait, '{"text": "never"}'))
    assert await asyncio.gather(*(kit.call(add, f'{{"a": {n}, "b": 1}}') for n in range(5))) == [
        str(n + 1) for n in range(5)
    ]
    assert not slow.done()
    assert (await slow).startswith("Error: no answer came")
    assert await kit.call(add, '{"a": 1, "b": 1}') == "2"


async def test_a_server_that_died_is_started_again(notes: Path) -> None:
    async with opened(kit=over_stdio(notes, default="allow")) as servers:
        die, send = await tool(servers, "die"), await tool(servers, "send")
        assert (await servers.call(die, "{}")).startswith("Error: no answer came")
        assert await servers.call(send, '{"text": "a"}') == "sent a"
        assert noted(notes) == ["die", "send a"]


async def test_a_server_that_died_while_nobody_asked_is_started_again(notes: Path) -> None:
    async with opened(kit=over_stdio(notes, default="allow")) as servers:
        await tool(servers, "add")
        for child in psutil.Process().children():
            if MODULE in child.cmdline():
                child.kill()
        assert await servers.call(await tool(servers, "send"), '{"text": "a"}') == "sent a"


async def test_a_closed_server_is_gone(notes: Path) -> None:
    async with opened(kit=over_stdio(notes, default="allow")) as servers:
        await tool(servers, "add")
    left = [child for child in psutil.Process().children() if MODULE in child.cmdline()]
    assert not left


async def test_nothing_of_our_environment_is_passed_on(
    notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "x")
    async with opened(kit=over_stdio(notes, default="allow")) as servers:
        names = (await servers.call(await tool(servers, "environment"), "{}")).split()
    assert "NOTES" in names
    assert "SECRET_KEY" not in names


@pytest.mark.parametrize(
    "config",
    [
        {"command": "/nothing/of/the/kind"},
        {"command": "true"},
        {"command": "cat"},
        {"command": "sleep", "args": ["60"]},
        {"url": "http://127.0.0.1:9/mcp"},
    ],
    ids=lambda config: config.get("command") or "refused",
)
async def test_what_is_no_server_is_said_to_be_none(config: Json) -> None:
    limits = ToolLimits(connect_s=2)
    async with opened(limits, bad=config) as servers:
        with pytest.raises(ToolServerFailed, match="'bad'"):
            await servers.list_tools(["bad"])


async def test_a_server_that_is_not_configured_any_more_fails() -> None:
    async with opened() as servers:
        with pytest.raises(ToolServerFailed, match="'gone'"):
            await servers.list_tools(["gone"])


@asynccontextmanager
async def answering(handler: Handler) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_route("*", "/mcp", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    finally:
        await runner.cleanup()


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


async def _gzip_bomb(_request: web.Request) -> web.Response:
    response = web.Response(text=" " * 10_000_000, content_type="application/json")
    response.enable_compression(web.ContentCoding.gzip)
    return response


async def _elsewhere(_request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("http://127.0.0.2:9/")


async def _page(_request: web.Request) -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


@pytest.mark.parametrize("handler", [_endless, _gzip_bomb, _elsewhere, _page])
async def test_a_server_that_answers_nonsense_over_http_is_none(handler: Handler) -> None:
    limits = ToolLimits(connect_s=5, answer_bytes=1_000_000)
    async with answering(handler) as url, opened(limits, bad={"url": url}) as servers:
        with pytest.raises(ToolServerFailed):
            await servers.list_tools(["bad"])
