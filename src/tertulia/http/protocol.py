"""The server's own words: what uvicorn's protocols lack for us.

`uvicorn.Config(http=HttpProtocol, ws=WebSocketProtocol)` takes them.
"""

import asyncio
import re
import socket
import struct
from http import HTTPStatus
from typing import Any, cast

import httptools
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from tertulia.http.errors import Refused
from tertulia.http.refusals import written_refusal

STALL_S = 30.0
"""A peer that takes nothing for this long has stopped reading (promise G-19)."""
SHUTDOWN_STALL_S = 2.0
"""The same once the server is to end."""
RESET_EXTENSION = "tertulia.reset"
"""The name in `scope["extensions"]`; its `call` takes nothing and returns at once."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# `struct linger`: on, 0 seconds. Without it the kernel keeps unread megabytes after the close.
_UPGRADE_FIELDS = frozenset({b"connection", b"http2-settings", b"upgrade"})
_NON_ASCII_PATTERN = re.compile(rb"[\x80-\xff]")


class _Watched(asyncio.Protocol):
    """A connection that is reset when its peer stops reading.

    Closing it politely means sending what is buffered first, which such a peer prevents for ever.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    stall_s = STALL_S
    shutdown_stall_s = SHUTDOWN_STALL_S
    _look_at: asyncio.TimerHandle | None = None
    _waiting_bytes = 0

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  uvicorn's two differ
        """Begin. From now on `pause_writing` means that something waits for the peer to read."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._stop_watching()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch whether the peer takes what waits."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """Look no more: everything was taken."""
        self._stop_watching()
        super().resume_writing()

    def _hurry(self) -> None:
        self.stall_s = min(self.stall_s, self.shutdown_stall_s)
        if self._look_at is not None:
            self._watch()

    def _watch(self) -> None:
        self._stop_watching()
        self._waiting_bytes = self.transport.get_write_buffer_size()
        self._look_at = self.loop.call_later(self.stall_s, self._look)

    def _stop_watching(self) -> None:
        if self._look_at is not None:
            self._look_at.cancel()
            self._look_at = None

    def _look(self) -> None:
        if self.transport.get_write_buffer_size() < self._waiting_bytes:
            self._watch()
        else:
            self._reset()

    def _reset(self) -> None:
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()


class _HeadWithBody:
    """The transport of one answer: its head waits for what follows, and both are one write.

    Each write is a system call, a packet, and often a turn of the reader, too.
    """

    __slots__ = ("_head", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Write, or keep a head until the loop's next round at the latest."""
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100 "):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close, once what was kept is on its way."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""


class WebSocketProtocol(_Watched, WebSocketsSansIOProtocol):
    """One WebSocket; a peer that does not read is not read from, and let go after a while."""

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  as above
        """Take over a connection; an answer may still wait on it to be read."""
        super().connection_made(transport)
        if self.transport.get_write_buffer_size():
            self.pause_writing()

    def data_received(self, data: bytes) -> None:
        """Parse what came; each ping is answered at once, whether or not that is read."""
        super().data_received(data)
        if not self.writable.is_set():
            self.transport.pause_reading()

    def handle_connect(self, event: Request) -> None:
        """Begin to serve, or refuse a handshake in the one shape of all errors."""
        if self.conn.accept(event).status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            super().handle_connect(event)
            return
        version = {"Sec-WebSocket-Version": "13"}
        refusal = _invalid("This is not the handshake of a WebSocket of version 13")
        self.handshake_complete = self.close_sent = True
        self.transport.write(written_refusal(refusal, scheme=self.scheme, headers=version))
        self.transport.close()

    def resume_writing(self) -> None:
        """Read again, unless the app has not taken what came last."""
        super().resume_writing()
        if not self.read_paused:
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Say goodbye, to whoever reads it soon."""
        super().shutdown()
        self._hurry()


class HttpProtocol(_Watched, HttpToolsProtocol):
    """One connection.

    - A request target in raw UTF-8, as `curl 'http://…?prompt=你好'` sends it, is percent-encoded;
      the parser would refuse it.
    - What is not HTTP is refused in the one shape of all errors.
    - An upgrade that is not one to WebSocket is ignored (RFC 9110, section 7.8). The parser would
      drop the request's body, or take it for the next request.
    - The scope offers to reset the connection.
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
        except httptools.HttpParserError as error:
            # A callback of ours may have refused it, for a reason that is worth telling.
            cause = error.__context__
            self.refuse(cause if isinstance(cause, Refused) else _invalid("This is not HTTP/1.1"))
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            elif self.parser.get_method() == b"CONNECT":
                self.refuse(_invalid("This server is no proxy"))
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
            before = self.cycle
            super().on_headers_complete()
            if self.cycle is not before:
                self.cycle.transport = cast("Any", _HeadWithBody(self.transport, self.loop))

    def on_message_complete(self) -> None:
        """Note that a request line may follow."""
        if not self._upgrades_in_vain():
            super().on_message_complete()
            self._is_between_requests = True

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the WebSocket protocol, unless it is in use."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            # The answer would be written into the WebSocket, and never learn of its end.
            self.transport.close()
            return
        self._stop_watching()
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """End when the answer that is being given has been; it is to be read soon."""
        super().shutdown()
        self._hurry()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, and close."""
        self.refuse(_invalid(msg))

    def refuse(self, refusal: Refused) -> None:
        """Answer what no application shall see, and close."""
        self._write_refusal(refusal)
        self.transport.close()

    def _write_refusal(self, refusal: Refused) -> None:
        self.transport.write(written_refusal(refusal, scheme=str(self.scheme)))

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


def _invalid(detail: str) -> Refused:
    return Refused("invalid_http", detail)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
