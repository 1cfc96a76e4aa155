"""The server's own words: what uvicorn's HTTP protocol lacks for us.

`uvicorn.Config(http=HttpProtocol)` takes it.
"""

import asyncio
import re
import socket
import struct
from typing import Any, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tertulia.http.errors import error_response

RESET_EXTENSION = "tertulia.reset"
"""The name in `scope["extensions"]`; its `call` takes nothing and returns at once."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# `struct linger`: on, 0 seconds. Without it the kernel keeps unread megabytes after the close.
_UPGRADE_FIELDS = frozenset({b"connection", b"http2-settings", b"upgrade"})
_NON_ASCII_PATTERN = re.compile(rb"[\x80-\xff]")


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    - A request target in raw UTF-8, as `curl 'http://…?prompt=你好'` sends it, is percent-encoded;
      the parser would refuse it.
    - What is not HTTP is refused in the one shape of all errors.
    - An upgrade that is not one to WebSocket is ignored (RFC 9110, section 7.8). The parser would
      drop the request's body, or take it for the next request.
    - The scope offers to reset the connection: closing it politely means sending what is buffered
      first, which a peer that does not read prevents for ever.
    """

    _is_between_requests = True

    def data_received(self, data: bytes) -> None:
        """Parse what came; a request line is taken to come in one piece, as clients send it."""
        if self._is_between_requests:
            line, end, rest = data.partition(b"\r\n")
            if not line.isascii():
                data = _NON_ASCII_PATTERN.sub(_escape, line) + end + rest
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("This is not HTTP/1.1")
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif self.parser.get_method() == b"CONNECT":
                self.send_400_response("This server is no proxy")
            else:
                self._begin_again(data[upgrade.args[0] :])

    def on_message_begin(self) -> None:
        """Add the extension to the scope of the request that begins."""
        super().on_message_begin()
        self._is_between_requests = False
        cast("dict[str, Any]", self.scope)["extensions"] = {RESET_EXTENSION: {"call": self._reset}}

    def on_headers_complete(self) -> None:
        """Begin to serve, unless the request is to be parsed again."""
        if not self._upgrades_in_vain():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that a request line may follow."""
        if not self._upgrades_in_vain():
            super().on_message_complete()
            self._is_between_requests = True

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, and close."""
        response = error_response(400, "invalid_http", msg, headers={"Connection": "close"})
        head = b"".join(b"%b: %b\r\n" % pair for pair in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + response.body)
        self.transport.close()

    def _upgrades_in_vain(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _begin_again(self, rest: bytes) -> None:
        """Parse a request anew, as if it had not asked for the upgrade."""
        version = self.parser.get_http_version().encode()
        line = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)
        fields = [b"%b: %b" % pair for pair in self.headers if pair[0] not in _UPGRADE_FIELDS]
        fields += [
            b"connection: %b" % option
            for name, value in self.headers
            if name == b"connection" and (option := _without_upgrade(value))
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        HttpProtocol.data_received(self, b"\r\n".join([line, *fields, b"", rest]))

    def _reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


def _without_upgrade(value: bytes) -> bytes:
    options = (option.strip() for option in value.split(b","))
    return b", ".join(option for option in options if option.lower() not in _UPGRADE_FIELDS)


async def reset_connection(scope: Scope) -> bool:
    """Drop the connection, with all that is buffered for it, if the server can.

    Returns:
        Whether the server offers `RESET_EXTENSION`.
    """
    extensions: dict[str, dict[str, Any]] = scope.get("extensions") or {}
    extension = extensions.get(RESET_EXTENSION)
    if extension is None:
        return False
    extension["call"]()
    # The server learns of it in the loop's next round, and then does not miss the answer's end.
    await asyncio.sleep(0)
    return True


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
