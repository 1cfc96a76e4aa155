"""HTTP/1.1 with the bounds on what is not a body that uvicorn's protocol lacks."""

import asyncio
from typing import cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from tertulia.http.errors import OWN_CODES, Refused
from tertulia.http.protocol import HttpProtocol

HEAD_LIMIT_BYTES = 64 * 1024
"""Request line and headers together. (One more read of at most 256 KiB may have been taken in.)"""
FRAMING_PER_BODY_BYTE = 8
"""In a chunked body; a chunk of one byte takes five more. Trailers and extensions count as well."""
TARGET_LIMIT_BYTES = 2**16 - 1
"""Of path and query; what takes them apart counts in 16 bits. (The guard's limit is far below.)"""
HANDSHAKE_FIELDS_MAX = 100
HANDSHAKE_LINE_BYTES = 8000
"""Of a WebSocket; its library leaves those with more unanswered (its limits are 128 and 8,192)."""
PIPELINED_MAX = 16
"""Requests that wait for the answers before theirs. Further ones are dropped: the connection ends
after the last answer, which tells a client what to send again (RFC 9112, section 9.3.2)."""
HEAD_TIMEOUT_S = 15.0
"""From the first byte of a request, or from the connection's beginning, to the end of its head."""
REST_TIMEOUT_S = 15.0
"""From the end of an answer to the end of its request, which nobody has waited for."""
LINGER_S = 2.0
"""How long a refused client that is still sending is listened to, so that it sees why."""

_BODY_FIELDS = frozenset({b"content-length", b"transfer-encoding"})


class BoundedHttp(HttpProtocol):
    """Ends connections whose requests are too long, too slow, too many or ambiguous.

    The fields of a trailer are dropped (RFC 9110, section 6.5.1): one of them might be a credential
    that whoever stands before us has not seen. For the same reason a request names one host and at
    most one transfer encoding, `chunked` (RFC 9112, sections 3.2 and 6.1).

    Between requests, uvicorn's keep-alive timeout holds instead.
    """

    linger_s = LINGER_S
    rest_timeout_s = REST_TIMEOUT_S
    _heads = 0
    _head_bytes = 0
    _body_bytes = 0
    _framing_bytes = 0
    _in_head = True
    _is_deaf = False
    _answering: RequestResponseCycle | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting; uvicorn tells the last of several pipelined requests only."""
        self._forget_deadline()
        super().connection_lost(exc)
        if self._answering is not None:
            _leave(self._answering)

    def data_received(self, data: bytes) -> None:
        """Count a head's bytes as they come; what comes after a refusal is dropped."""
        if self._is_deaf or self.transport.is_closing():
            return
        was_in_head, heads, body_bytes = self._in_head, self._heads, self._body_bytes
        super().data_received(data)
        if heads != self._heads or self._is_deaf or self.transport.is_closing():
            return
        if self._in_head and self._deadline is None:
            # A part of a head. (Most come whole, and need no timer.)
            self._expect_head()
        if was_in_head:
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
        allowed_bytes = HEAD_LIMIT_BYTES + FRAMING_PER_BODY_BYTE * self._body_bytes
        if self._head_bytes > HEAD_LIMIT_BYTES or self._framing_bytes > allowed_bytes:
            self.refuse(_known("head_too_large"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of a head, and none of a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Count what is not framing."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Note the end of a head.

        Raises:
            Refused: The request is not to be served.
        """
        self._check_head()
        self._in_head = False
        self._heads += 1
        self._head_bytes = self._body_bytes = self._framing_bytes = 0
        self._forget_deadline()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the next byte begins a head."""
        self._in_head = True
        self._forget_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on, unless the rest of a request that is answered already takes too long."""
        super().on_response_complete()
        if not self._in_head and self.cycle.response_complete:
            self._forget_deadline()
            self._deadline = self.loop.call_later(self.rest_timeout_s, self.transport.close)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the WebSocket protocol, if it can answer this handshake."""
        headers: list[tuple[bytes, bytes]] = self.headers
        longest = max(len(name) + len(value) for name, value in headers)
        if (
            len(headers) > HANDSHAKE_FIELDS_MAX
            or max(longest, len(self.url)) > HANDSHAKE_LINE_BYTES
        ):
            self.refuse(_known("head_too_large"))
        elif self.parser.get_method() != b"GET" or any(name in _BODY_FIELDS for name, _ in headers):
            self.send_400_response("A WebSocket begins with a GET without a body")
        else:
            super().handle_websocket_upgrade()

    def refuse(self, refusal: Refused) -> None:
        """Hear no more; tell why, if no other answer has begun; close."""
        self._forget_deadline()
        self._unset_keepalive_if_required()
        self._is_deaf = True
        cycle = cast("RequestResponseCycle | None", self.cycle)
        is_answering = cycle is not None and not cycle.response_complete
        if cycle is not None and is_answering and not cycle.more_body:
            # Whole requests came before: they are answered, and then the connection ends.
            cycle.keep_alive = False
            return
        if cycle is not None and is_answering:
            # It is this one's body that is refused.
            is_told = cycle.response_started or bool(self.pipeline)
            _leave(cycle)
        else:
            is_told = not self._in_head
        if is_told:
            self.transport.close()
            return
        self._write_refusal(refusal)
        # A socket closed with unread data in it is reset, and the refusal lost with it.
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(self.linger_s, self.transport.close)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _check_head(self) -> None:
        if len(self.pipeline) >= PIPELINED_MAX:
            raise Refused("invalid_http", "Too many requests came without waiting for an answer")
        if len(self.url) > TARGET_LIMIT_BYTES:
            raise _known("target_too_long")
        version = self.parser.get_http_version()
        hosts = 0
        encodings: list[bytes] = []
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                encodings.append(value.lower())
        if version not in ("1.1", "1.0"):
            raise Refused("invalid_http", "This is not HTTP/1.1")
        if hosts != 1 and (hosts or version == "1.1"):
            raise Refused("invalid_http", "A request names one Host")
        if encodings and (encodings != [b"chunked"] or version == "1.0"):
            raise Refused("invalid_http", "No Transfer-Encoding is taken but chunked")

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.refuse(_known("head_timeout"))


def _known(code: str) -> Refused:
    return Refused(code, OWN_CODES[code].meaning)


def _leave(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
