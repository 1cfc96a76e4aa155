"""Every configured MCP server, by its name."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import structlog

from tertulia.domain.tools import Approval, ServerTool, ToolServerFailed
from tertulia.telemetry.tasks import TaskSet

from .configuration import ToolServerConfig
from .faults import ConnectionLost, NoAnswer
from .limits import ToolLimits
from .names import model_name

if TYPE_CHECKING:
    from mcp_types import Tool

    from .connection import Connection

_NO_OBJECT = "Error: the arguments are not a JSON object, so the tool was not called."
_NOT_REACHED = "Error: the tool's server cannot be reached, so the tool was not called."
UNKNOWN_OUTCOME = (
    "Error: no answer came from the tool. Whether it has done what it was asked is not known."
)

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ToolServer:
    """One server, connected when it is first needed and again when it was lost."""

    name: str
    config: ToolServerConfig
    limits: ToolLimits
    tasks: TaskSet
    _connections: "list[Connection]" = field(default_factory=list["Connection"])
    """At most one that is not broken; the others are being closed."""
    _connecting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def list_tools(self) -> Sequence[ServerTool]:
        """Return the tools that may be called, or asked for.

        Raises:
            ToolServerFailed: The server cannot be reached, or lists none that makes sense.
        """
        try:
            listed = await self._list()
        except ConnectionLost:
            raise ToolServerFailed(self.name) from None
        tools = [self._tool(each) for each in listed if self._is_offered(each)]
        return list({tool.name: tool for tool in reversed(tools)}.values())[::-1]

    async def call(self, tool: ServerTool, arguments: str) -> str:
        """Call a tool and return what it answers, or why it does not, in words for the model.

        Args:
            tool: Of this server.
            arguments: JSON text as a model wrote it.
        """
        try:
            given: Any = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            return _NO_OBJECT
        for _ in range(2 if tool.is_repeatable else 1):
            try:
                connection = await self._connect()
            except ConnectionLost:
                return _NOT_REACHED
            try:
                return await connection.call(tool.tool, cast("dict[str, Any]", given))
            except ConnectionLost:
                continue
            except NoAnswer:
                break
        return UNKNOWN_OUTCOME

    async def close(self) -> None:
        """End all connections, and the server if it was started here."""
        await asyncio.gather(*(connection.close() for connection in self._connections))

    async def _list(self) -> "Sequence[Tool]":
        """List the tools; a connection that broke while nobody used it is made anew."""
        connection = await self._connect()
        try:
            return await connection.list_tools()
        except ConnectionLost:
            return await (await self._connect()).list_tools()

    async def _connect(self) -> "Connection":
        """Return the connection; one is made if there is none, or the last one broke."""
        async with self._connecting:
            connection = next((each for each in self._connections if not each.is_broken), None)
            if connection is None:
                for broken in self._connections:
                    self.tasks.spawn(self._drop(broken), name=f"close MCP server {self.name}")
                connection_class = await asyncio.to_thread(_load)
                connection = connection_class(self.name, self.config, self.limits)
                self._connections.append(connection)
                connection.open(self.tasks)
        await connection.ready()
        return connection

    async def _drop(self, broken: "Connection") -> None:
        await broken.close()
        if broken in self._connections:
            self._connections.remove(broken)

    def _is_offered(self, tool: "Tool") -> bool:
        if self.config.approval(tool.name) is Approval.DENY:
            return False
        size = len(json.dumps(tool.input_schema)) + len(tool.description or "")
        if size > self.limits.tool_bytes:
            log.warning("MCP tool left out: its description is too large", server=self.name)
            return False
        return True

    def _tool(self, tool: "Tool") -> ServerTool:
        hints = tool.annotations
        repeatable = hints is not None and (hints.read_only_hint or hints.idempotent_hint)
        return ServerTool(
            name=model_name(self.name, tool.name),
            server=self.name,
            tool=tool.name,
            description=tool.description or tool.title or "",
            parameters=tool.input_schema,
            approval=self.config.approval(tool.name),
            is_repeatable=bool(repeatable),
        )


@dataclass(slots=True)
class ToolServers:
    """The door: which servers there are, what tools they have, and calling them."""

    servers: Mapping[str, ToolServer] = field(default_factory=dict[str, ToolServer])
    limits: ToolLimits = field(default_factory=ToolLimits)

    @classmethod
    def of(
        cls, configured: Mapping[str, ToolServerConfig], limits: ToolLimits, tasks: TaskSet
    ) -> "ToolServers":
        """Return the servers that are configured; none is connected yet."""
        return cls(
            {name: ToolServer(name, each, limits, tasks) for name, each in configured.items()},
            limits,
        )

    @property
    def names(self) -> Sequence[str]:
        """Of all configured servers."""
        return tuple(self.servers)

    async def list_tools(self, names: Iterable[str]) -> Mapping[str, ServerTool]:
        """Return the tools of some servers, by the names that models know; the first so many.

        Raises:
            ToolServerFailed: One of them cannot be reached, or is not configured (any more).
        """
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name not in self.servers:
                raise ToolServerFailed(name)
        lists = await asyncio.gather(*(self.servers[name].list_tools() for name in wanted))
        tools = [tool for listed in lists for tool in listed]
        return {tool.name: tool for tool in tools[: self.limits.tools]}

    async def call(self, tool: ServerTool, arguments: str) -> str:
        """Call a tool; see `ToolServer.call`."""
        return await self.servers[tool.server].call(tool, arguments)

    async def close(self) -> None:
        """End all connections."""
        await asyncio.gather(*(server.close() for server in self.servers.values()))


def _load() -> "type[Connection]":
    """Import the SDK, which takes two thirds of a second, outside the event loop."""
    from .connection import Connection  # noqa: PLC0415  heavy, and rarely wanted

    return Connection
