"""One open connection to an MCP server."""

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

import anyio
import httpx2
import structlog
from mcp import MCPError
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED, Implementation, Tool

from tertulia import __version__
from tertulia.telemetry.tasks import TaskSet

from .bounded_http import BoundedTransport
from .configuration import ToolServerConfig
from .faults import ConnectionLost, NoAnswer
from .limits import ToolLimits
from .results import bounded, result_text

_STALL_S = 30.0
"""Of a stream over HTTP, on top of what a call may take."""
_CLOSE_S = 8.0
"""The SDK gives a program 2 s to end by itself, 2 s after SIGTERM, and then kills it."""
_CLIENT_INFO = Implementation(name="tertulia", version=__version__)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Connection:
    """A server that can be asked, once it is opened."""

    name: str
    config: ToolServerConfig
    limits: ToolLimits
    is_broken: bool = False
    """Whether it is of no more use; it is still to be closed."""
    _client: Client | None = None
    _settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether it is known if the server can be asked."""
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _task: asyncio.Task[None] | None = None

    def open(self, tasks: TaskSet) -> None:
        """Begin to start the server, or to reach it.

        A task of its own holds the connection: what the SDK opens must be closed by the task that
        opened it, and a run that needs the server first may end before the others.
        """
        self._task = tasks.spawn(self._hold(), name=f"MCP server {self.name}")

    async def ready(self) -> None:
        """Return when the server can be asked.

        Raises:
            ConnectionLost: It did not answer in time, or not as an MCP server does.
        """
        try:
            async with asyncio.timeout(self.limits.connect_s):
                await self._settled.wait()
        except TimeoutError as error:
            self.is_broken = True
            raise ConnectionLost from error
        if self._client is None:
            raise ConnectionLost

    async def list_tools(self) -> Sequence[Tool]:
        """Return the server's tools.

        Raises:
            ConnectionLost: It did not answer in time, or not as an MCP server does.
        """
        found: list[Tool] = []
        cursor: str | None = None
        try:
            async with asyncio.timeout(self.limits.connect_s):
                for _ in range(self.limits.pages):
                    page = await self._asked.list_tools(cursor=cursor)
                    found += page.tools
                    cursor = page.next_cursor
                    if cursor is None or len(found) >= self.limits.tools:
                        break
        except Exception as error:  # whatever the SDK leaks: the server is not what it should be
            log.warning("MCP server lists no tools", server=self.name, error=_kind(error))
            self.is_broken = True
            raise ConnectionLost from error
        return found[: self.limits.tools]

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool and return what it says, its own errors included.

        Raises:
            NoAnswer: It did not answer in time.
            ConnectionLost: The connection broke.
        """
        try:
            async with asyncio.timeout(self.limits.call_s):
                result = await self._asked.call_tool(tool, dict(arguments))
        except TimeoutError as error:
            # One slow tool does not cost the others their connection.
            raise NoAnswer from error
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                return bounded(f"Error: {error.message}", limit_chars=self.limits.result_chars)
            self.is_broken = True
            raise ConnectionLost from error
        except Exception as error:  # whatever the SDK leaks: the server is not what it should be
            log.warning("MCP call failed", server=self.name, error=_kind(error))
            self.is_broken = True
            raise ConnectionLost from error
        return result_text(result, limit_chars=self.limits.result_chars)

    async def close(self) -> None:
        """End the connection, and the server if it was started here."""
        self.is_broken = True
        # Not the task: what the SDK shields from its own cancellation, it must be able to finish,
        # or it leaves the server running.
        self._scope.cancel()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_CLOSE_S)

    @property
    def _asked(self) -> Client:
        assert self._client is not None, "it was opened"
        return self._client

    async def _hold(self) -> None:
        try:
            with self._scope:
                async with _connected(self.config, self.limits) as client:
                    self._client = client
                    self._settled.set()
                    await asyncio.Event().wait()
        except Exception as error:  # noqa: BLE001  whatever the SDK leaks: the server is gone
            log.warning("MCP server not connected", server=self.name, error=_kind(error))
        finally:
            self.is_broken = True
            self._settled.set()


@asynccontextmanager
async def _connected(config: ToolServerConfig, limits: ToolLimits) -> AsyncGenerator[Client]:
    async with AsyncExitStack() as stack:
        if config.url is None:
            assert config.command is not None, "one of the two is there"
            parameters = StdioServerParameters(
                command=config.command, args=list(config.args), env=dict(config.env)
            )
            # What it writes there may be what users said.
            nowhere = stack.enter_context(_nowhere())
            transport = stdio_client(parameters, errlog=nowhere)
        else:
            http = await stack.enter_async_context(_http_client(config, limits))
            transport = streamable_http_client(
                config.url, http_client=http, max_sse_event_size=limits.answer_bytes
            )
        client = Client(transport, client_info=_CLIENT_INFO, cache=None)
        yield await stack.enter_async_context(client)


def _http_client(config: ToolServerConfig, limits: ToolLimits) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        headers=config.headers,
        timeout=httpx2.Timeout(limits.call_s + _STALL_S, connect=limits.connect_s),
        transport=BoundedTransport(limits.answer_bytes),
    )


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def _kind(error: BaseException) -> str:
    """Return what kind of error it is; its words may quote what users said, or secrets."""
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return ", ".join(map(_kind, inner))
    return type(error).__name__
