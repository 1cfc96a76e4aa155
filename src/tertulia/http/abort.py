"""A connection that can be cut: what ASGI lacks against a reader that does not read.

Closing a TCP connection politely means sending what is buffered first, which a peer that does not
read prevents for ever. The server therefore offers each exchange, as an ASGI extension, a way to
reset the connection and so to drop all that is buffered for it, in the process and in the kernel.
"""

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ABORT_EXTENSION = "tertulia.abort"
"""The name in `scope["extensions"]`; its `call` takes nothing and returns at once."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# `struct linger`: on, 0 seconds. Without it the kernel keeps unread megabytes after the close.


class AbortableHttpProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol with the abort extension: `uvicorn.Config(http=…)` takes it."""

    def on_message_begin(self) -> None:
        """Add the extension to the scope of the request that begins."""
        super().on_message_begin()
        extension = {ABORT_EXTENSION: {"call": self._reset}}
        cast("dict[str, Any]", self.scope)["extensions"] = extension

    def _reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


async def abort_connection(scope: Scope) -> bool:
    """Drop the connection at once if the server can; return whether it could."""
    extensions: dict[str, dict[str, Any]] = scope.get("extensions") or {}
    abort = extensions.get(ABORT_EXTENSION)
    if abort is None:
        return False
    abort["call"]()
    # The server learns of it in the loop's next round, and then does not miss the answer's end.
    await asyncio.sleep(0)
    return True
