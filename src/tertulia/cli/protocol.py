"""HTTP/1.1 with the bounds on what is not a body that uvicorn's protocol lacks."""

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tertulia.http.errors import OWN_CODES, error_response
from tertulia.http.protocol import HttpProtocol

HEAD_LIMIT_BYTES = 64 * 1024
"""Request line and headers together. (One more read of at most 256 KiB may have been taken in.)"""
FRAMING_PER_BODY_BYTE = 8
"""In a chunked body; a chunk of one byte takes five more. Trailers and extensions count as well."""
HANDSHAKE_FIELDS_MAX = 100
HANDSHAKE_LINE_BYTES = 8000
"""Of a WebSocket; its library leaves those with more unanswered (its limits are 128 and 8,192)."""
HEAD_TIMEOUT_S = 15.0
"""From the first byte of a request, or from the connection's beginning, to the end of its head."""

_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})


class BoundedHttp(HttpProtocol):
    """Ends connections whose request heads, or what frames their bodies, are too long or too slow.

    The fields of a trailer are dropped (RFC 9110, section 6.5.1): one of them might be a credential
    that whoever stands before us has not seen.

    Between requests, uvicorn's keep-alive timeout holds instead.
    """

    _heads = 0
    _head_bytes = 0
    _body_bytes = 0
    _framing_bytes = 0
    _in_head = True
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count a head's bytes as they come; what comes after the refusal is dropped."""
        if self.transport.is_closing():
            return
        if self._in_head and self._deadline is None:
            self._expect_head()
        was_in_head, heads, body_bytes = self._in_head, self._heads, self._body_bytes
        super().data_received(data)
        if heads != self._heads or self.transport.is_closing():
            return
        if was_in_head:
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
        allowed_bytes = HEAD_LIMIT_BYTES + FRAMING_PER_BODY_BYTE * self._body_bytes
        if self._head_bytes > HEAD_LIMIT_BYTES or self._framing_bytes > allowed_bytes:
            self._refuse("head_too_large")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of a head, and none of a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Count what is not framing."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Note the end of a head."""
        self._in_head = False
        self._heads += 1
        self._head_bytes = self._body_bytes = self._framing_bytes = 0
        self._forget_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the next byte begins a head."""
        self._in_head = True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the WebSocket protocol, if it can answer this handshake."""
        headers: list[tuple[bytes, bytes]] = self.headers
        longest = max(len(name) + len(value) for name, value in headers)
        if (
            len(headers) > HANDSHAKE_FIELDS_MAX
            or max(longest, len(self.url)) > HANDSHAKE_LINE_BYTES
        ):
            self._refuse("head_too_large")
        elif self.parser.get_method() != b"GET" or any(name in _BODY_FIELDS for name, _ in headers):
            self.send_400_response("A WebSocket begins with a GET without a body")
        else:
            super().handle_websocket_upgrade()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self._refuse("head_timeout")

    def _refuse(self, code: str) -> None:
        known = OWN_CODES[code]
        refusal = error_response(known.status, code, known.meaning, headers={"Connection": "close"})
        head = b"".join(b"%b: %b\r\n" % pair for pair in refusal.raw_headers)
        cycle = cast("RequestResponseCycle | None", self.cycle)
        # A response that has begun cannot be begun again.
        if cycle is None or cycle.response_complete or not cycle.response_started:
            line = f"HTTP/1.1 {known.status} Refused\r\n".encode()
            self.transport.write(line + head + b"\r\n" + bytes(refusal.body))
        self.transport.close()
