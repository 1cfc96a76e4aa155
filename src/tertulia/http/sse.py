"""Server-sent events (HTML standard, section 9.2), written with care for the reader and for us.

A reader that leaves ends the iterator behind the stream at once; one that stops reading ends it
after a while; one that waits is told that the connection lives. The way of an event is one frame
and one `send`: nothing is started, timed or cancelled per event.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tertulia.domain.errors import Invalid
from tertulia.http.protocol import STALL_S, reset_connection

HEARTBEAT_S = 15.0
"""After this long without an event a comment is sent, so that proxies keep the connection."""
EVENT_ID_CHARS_MAX = 256

_COMMENT = b": \n\n"
_BURST_FRAMES = 32
# A stored stream is replayed without ever waiting: others, and the news that the reader has left,
# get their turn after so many frames (about 0.3 ms).


class StreamEvent(NamedTuple):
    """One event as it goes over the wire."""

    id: str | None
    """What the reader sends back as `Last-Event-ID`; no line breaks, no NUL."""
    event: str | None
    """The event's type; None is `message`. No line breaks."""
    data: bytes
    """JSON in UTF-8."""


class _IsOver(Exception):  # noqa: N818  named for what happened
    """What the stream waited for, to end, has come."""


class _ReaderLeft(Exception):  # noqa: N818  named for what happened
    """The client closed the connection."""


class _ReaderStalled(Exception):  # noqa: N818  named for what happened
    """The client keeps the connection and does not read."""


class EventStreamResponse(Response):
    """Streams events until the iterator ends, the reader leaves or the reader stops reading.

    The iterator is closed (`aclose`, if it has one) in every case and before the response ends.

    Args:
        events: What to send.
        until: Awaited beside the stream, which ends when it returns, whatever happens in `events`.
        retry_ms: What a reader that lost its connection is told to wait before it reconnects.
        heartbeat_s: Seconds without an event after which a comment is sent.
        stall_s: Seconds without progress after which a reader is given up and its connection cut.
        status_code: Of the answer.
        headers: Added to the stream's own.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[StreamEvent],
        *,
        until: Callable[[], Awaitable[object]] | None = None,
        retry_ms: int | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        stall_s: float = STALL_S,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # Not `Response.__init__`: it would give the stream a body, and so a Content-Length.
        self.status_code = status_code
        self.background = None
        self.init_headers(
            {
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                **(headers or {}),
            }
        )
        self._events = events
        self._until = until
        self._greeting = _COMMENT if retry_ms is None else b": \nretry: %d\n\n" % retry_ms
        self._heartbeat_s = heartbeat_s
        self._stall_s = stall_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        wire = _Wire(send)
        try:
            try:
                await self._stream(receive, wire)
            except* _IsOver:
                pass
            await wire.finish(self._stall_s)
        except* _ReaderLeft:
            pass
        except* _ReaderStalled:
            await reset_connection(scope)

    async def _stream(self, receive: Receive, wire: "_Wire") -> None:
        try:
            async with asyncio.TaskGroup() as group:
                watchers = [
                    group.create_task(_watch_for_leaving(receive)),
                    group.create_task(wire.keep_alive(self._heartbeat_s, self._stall_s)),
                ]
                headers = self.raw_headers
                await wire.start(self.status_code, headers, self._greeting)
                if self._until is not None:
                    watchers.append(group.create_task(_end_after(self._until)))
                async for event in self._events:
                    await wire.write(encode_event(event))
                    if wire.frames % _BURST_FRAMES == 0:
                        await asyncio.sleep(0)
                for watcher in watchers:
                    watcher.cancel()
        finally:
            # An async generator that is not run to its end keeps its resources until then.
            aclose = getattr(self._events, "aclose", None)
            if aclose is not None:
                await aclose()


class _Wire:
    """Writes whole frames, and knows when the last one was begun and done."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._turn = asyncio.Lock()
        self._now = asyncio.get_running_loop().time
        self._written_at = self._now()
        self._blocked_since: float | None = None
        self.frames = 0
        """How many have been written."""

    async def start(self, status: int, headers: list[tuple[bytes, bytes]], frame: bytes) -> None:
        """Send the head and a first frame at once, so that the reader knows it is connected."""
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self.write(frame)

    async def write(self, frame: bytes) -> None:
        async with self._turn:
            self._blocked_since = self._now()
            await self._send({"type": "http.response.body", "body": frame, "more_body": True})
            self._written_at = self._now()
            self._blocked_since = None
            self.frames += 1

    async def finish(self, stall_s: float) -> None:
        async with _patience(stall_s):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def keep_alive(self, heartbeat_s: float, stall_s: float) -> None:
        """Send comments while nothing else is sent; raise when a frame does not get through.

        Raises:
            _ReaderStalled: A frame has not been taken for `stall_s` seconds.
        """
        while True:
            if self._blocked_since is not None:
                left_s = self._blocked_since + stall_s - self._now()
                if left_s <= 0:
                    raise _ReaderStalled
            else:
                left_s = self._written_at + heartbeat_s - self._now()
                if left_s <= 0:
                    async with _patience(stall_s):
                        await self.write(_COMMENT)
                    continue
            await asyncio.sleep(min(left_s, stall_s))


@asynccontextmanager
async def _patience(stall_s: float) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(stall_s):
            yield
    except TimeoutError:
        raise _ReaderStalled from None


def encode_event(event: StreamEvent) -> bytes:
    r"""Return the frame of an event.

    >>> encode_event(StreamEvent("7", "text", b'{"delta":"Hi"}'))
    b'id: 7\nevent: text\ndata: {"delta":"Hi"}\n\n'
    """
    name, kind, data = event
    if b"\n" in data or b"\r" in data:
        # Indented JSON: a line break inside a frame is a new field (bytes know no other breaks).
        data = b"\ndata: ".join(data.splitlines())
    head = "" if name is None else f"id: {name}\n"
    if kind is not None:
        head += f"event: {kind}\n"
    return b"%bdata: %b\n\n" % (head.encode(), data)


def last_event_id(request: Request) -> str | None:
    """Return the `Last-Event-ID` of a reader that reconnects; None on its first connection.

    Raises:
        Invalid: It is longer than 256 characters or not printable ASCII, so it is none of ours.
    """
    value = request.headers.get("last-event-id")
    if not value:
        return None
    if len(value) > EVENT_ID_CHARS_MAX or not (value.isascii() and value.isprintable()):
        raise Invalid("Last-Event-ID is not an event's id", field="header.Last-Event-ID")
    return value


async def _end_after(until: Callable[[], Awaitable[object]]) -> None:
    await until()
    raise _IsOver


async def _watch_for_leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _ReaderLeft
