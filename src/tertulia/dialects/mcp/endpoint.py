"""What stands between a request and the SDK."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tertulia.dialects.mcp.library import Library
from tertulia.domain.errors import Forbidden
from tertulia.domain.users import User
from tertulia.telemetry.tasks import TaskSet

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager


@dataclass(slots=True)
class McpEndpoint:
    """Serves requests one by one; nothing of a client is kept between two of them."""

    library: Library
    allowed_origins: Sequence[str]
    """Web origins whose pages may call, besides those of this machine."""
    body_bytes: int
    tasks: TaskSet
    _manager: "StreamableHTTPSessionManager | None" = None
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def check_origin(self, request: Request) -> None:
        """Accept programs, and pages of allowed origins only (MCP, "Security Warning").

        Raises:
            Forbidden: A page of another origin calls, perhaps under a name that it has given to
                this server's address (DNS rebinding).
        """
        origin = request.headers.get("origin")
        if origin is None or origin in self.allowed_origins:
            return
        if not (_is_local(origin) and _is_local(f"//{request.headers.get('host', '')}")):
            raise Forbidden("Web pages of this origin may not call the MCP server")

    async def answer(self, request: Request, user: User) -> Response:
        """Return the answer that a user's request gets; it is made while it is sent."""
        manager = await self._start()
        request.state.mcp_user_id = user.id
        return _Answer(manager)

    async def _start(self) -> "StreamableHTTPSessionManager":
        async with self._starting:
            manager = self._manager
            if manager is None:
                # The SDK takes two thirds of a second to import.
                manager = self._manager = await asyncio.to_thread(self._build)
                running = asyncio.Event()
                self.tasks.spawn(self._hold(manager, running), name="MCP endpoint")
                await running.wait()
            return manager

    def _build(self) -> "StreamableHTTPSessionManager":
        from mcp.server.streamable_http_manager import (  # noqa: PLC0415  heavy, and rarely wanted
            StreamableHTTPSessionManager,
        )

        from tertulia.dialects.mcp.server import build_server  # noqa: PLC0415  the same

        return StreamableHTTPSessionManager(
            build_server(self.library),
            json_response=True,
            stateless=True,
            max_request_body_size=self.body_bytes,
        )

    async def _hold(self, manager: "StreamableHTTPSessionManager", running: asyncio.Event) -> None:
        """Keep the SDK's tasks in one of ours, from the first request to the end."""
        try:
            async with manager.run():
                running.set()
                await asyncio.Event().wait()
        finally:
            self._manager = None
            running.set()


class _Answer(Response):
    """Lets the SDK answer."""

    def __init__(self, manager: "StreamableHTTPSessionManager") -> None:
        super().__init__()
        self._manager = manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await self._manager.handle_request(scope, receive, send)


def _is_local(url: str) -> bool:
    """Return whether an origin or a host is of this machine."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
