"""A person who follows runs, byte by byte if need be, and remembers what was promised and seen."""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import urlsplit

import httpx2

from .history import History, Operation
from .person import Person

Ending: TypeAlias = Literal["rst", "fin", "silence"]
"""How a reader leaves: a reset, a close in order, or by never reading again."""

_READ_BYTES = 65_536
_CONNECT_S = 5.0
_QUIET_S = 20.0
"""Longer than the server's heartbeat: a stream without a byte for so long is dead."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class StreamBroken(Exception):  # noqa: N818  it is what happened
    """The stream ended before `done`."""


class Refused(StreamBroken):
    """The server answered with something else than a stream."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as it came over the wire."""

    id: str | None
    event: str
    data: str

    @property
    def fields(self) -> dict[str, Any]:
        """The data, decoded."""
        return json.loads(self.data)


@dataclass
class Reading:
    """What one reader has seen of a run, over all its connections."""

    run_id: str
    after: str | None = None
    """The cursor it began with."""
    events: list[Seen] = field(default_factory=list[Seen])
    text: str = ""
    """Since the last restart."""
    reasoning: str = ""
    restart_attempt: int | None = None
    run: dict[str, Any] | None = None
    """As in `done`, when that has come."""

    @property
    def cursor(self) -> str | None:
        """The id to go on from."""
        return next((seen.id for seen in reversed(self.events) if seen.id), self.after)

    def add(self, seen: Seen) -> None:
        """Take the next event in; its number follows the last one's, unless it starts again."""
        if seen.id is not None:
            last, number = int(self.cursor or 0), int(seen.id)
            follows = number > last if seen.event == "restart" else number == last + 1
            assert follows, f"event {number} ({seen.event}) came after {last}"
        self.events.append(seen)
        match seen.event:
            case "text":
                self.text += seen.fields["delta"]
            case "reasoning":
                self.reasoning += seen.fields["delta"]
            case "restart":
                self.text = self.reasoning = ""
                self.restart_attempt = seen.fields["attempt"]
            case "done":
                self.run = seen.fields
            case _:
                pass


class EventStream:
    """One connection that receives events, read no faster and no further than told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._raw = bytearray()
        self._body = bytearray()
        self._at_end = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.read_bytes = 0
        """Of the body, its chunk heads included."""

    @classmethod
    async def open(
        cls,
        url: str,
        target: str,
        *,
        token: str,
        method: str = "GET",
        json_body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Send the request and read the head of the answer.

        Raises:
            StreamBroken: The server is not there, or closes before the head has come.
        """
        parts = urlsplit(url)
        body = b"" if json_body is None else json.dumps(json_body).encode()
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {parts.netloc}",
            f"Authorization: Bearer {token}",
            "Accept: text/event-stream",
            "Connection: close",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except (OSError, TimeoutError) as error:
            raise StreamBroken from error
        stream = cls(reader, writer)
        try:
            async with asyncio.timeout(_QUIET_S):
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
                head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            stream.cut("fin")
            raise StreamBroken from error
        except BaseException:
            stream.cut("fin")
            raise
        status_line, *fields = head.decode("latin-1").rstrip().split("\r\n")
        stream.status = int(status_line.split()[1])
        stream.headers = {
            name.lower(): value for name, value in (field.split(": ", 1) for field in fields)
        }
        return stream

    async def events(self, *, stop_after_bytes: int | None = None) -> AsyncGenerator[Seen]:
        """Yield whole events until the stream ends, or so many bytes of the body are read.

        Raises:
            StreamBroken: The connection broke off.
        """
        while not self._at_end:
            while (frame := self._next_frame()) is not None:
                if (seen := _parse(frame)) is not None:
                    yield seen
            size = _READ_BYTES
            if stop_after_bytes is not None:
                size = min(size, stop_after_bytes - self.read_bytes)
                if size <= 0:
                    return
            try:
                async with asyncio.timeout(_QUIET_S):
                    data = await self._reader.read(size)
            except (OSError, TimeoutError) as error:
                raise StreamBroken from error
            if not data:
                raise StreamBroken
            self.read_bytes += len(data)
            self._raw += data
            self._dechunk()
        while (frame := self._next_frame()) is not None:
            if (seen := _parse(frame)) is not None:
                yield seen

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection, as an answer that is no stream."""
        return bytes(self._raw) + await self._reader.read()

    def cut(self, ending: Ending) -> None:
        """Leave. After `silence` the connection stays until `cut` is called again."""
        if ending == "silence":
            return
        if ending == "rst":
            connection: socket.socket | None = self._writer.get_extra_info("socket")
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._writer.transport.abort()
        else:
            self._writer.close()

    def _dechunk(self) -> None:
        while (line_end := self._raw.find(b"\r\n")) >= 0:
            size = int(self._raw[:line_end], 16)
            end = line_end + 2 + size
            if len(self._raw) < end + 2:
                return
            if size == 0:
                self._at_end = True
                return
            self._body += self._raw[line_end + 2 : end]
            del self._raw[: end + 2]

    def _next_frame(self) -> bytes | None:
        end = self._body.find(b"\n\n")
        if end < 0:
            return None
        frame = bytes(self._body[:end])
        del self._body[: end + 2]
        return frame


def _parse(frame: bytes) -> Seen | None:
    """Return the event that a frame is; None if it has no data, as a comment."""
    fields: dict[str, str] = {}
    for line in frame.decode().split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
    if "data" not in fields:
        return None
    return Seen(fields.get("id"), fields.get("event", "message"), fields["data"])


class Client(Person):
    """A person who sends messages and reads their answers; all of it stands in `history`."""

    def __init__(
        self, urls: Sequence[str], *, history: History | None = None, connections: int = 100
    ) -> None:
        super().__init__(urls, connections=connections)
        self.history = history or History()
        self._next_url = itertools.cycle(self.urls)

    async def send(
        self,
        conversation_id: str,
        content: str,
        *,
        key: str | None = None,
        url: str | None = None,
        **fields: object,
    ) -> Operation:
        """Send a message to be answered, once, and note what came of it."""
        operation = self.history.invoke(conversation_id, key=key, content=content)
        try:
            answer = await self.call(
                "POST",
                f"/conversations/{conversation_id}/runs",
                json={"content": content, **fields},
                headers={"Idempotency-Key": key} if key else {},
                url=url,
            )
        except httpx2.TransportError:
            operation.unknown()
            return operation
        operation.answered(answer)
        return operation

    async def follow(
        self, run_id: str, *, after: str | None = None, url: str | None = None
    ) -> EventStream:
        """Open the run's event stream, from a cursor as a browser does it."""
        headers = {} if after is None else {"Last-Event-ID": after}
        return await EventStream.open(
            url or self.urls[0], f"/runs/{run_id}/events", token=self.token, headers=headers
        )

    async def read_some(
        self,
        reading: Reading,
        *,
        url: str | None = None,
        stop_after_bytes: int | None = None,
        stop_after_events: int | None = None,
        ending: Ending = "fin",
    ) -> EventStream:
        """Read on for a while, over one connection, and leave; what is seen stands in `reading`.

        Raises:
            StreamBroken: The connection broke off first.
        """
        stream = await self.follow(reading.run_id, after=reading.cursor, url=url)
        try:
            await self._take(stream, reading, stop_after_bytes, stop_after_events)
        except BaseException:
            stream.cut("rst")
            raise
        stream.cut(ending)
        return stream

    async def _take(
        self,
        stream: EventStream,
        reading: Reading,
        stop_after_bytes: int | None,
        stop_after_events: int | None,
    ) -> None:
        if stream.status != 200:
            raise Refused(stream.status, (await stream.rest()).decode())
        count = 0
        async with contextlib.aclosing(stream.events(stop_after_bytes=stop_after_bytes)) as events:
            async for seen in events:
                reading.add(seen)
                if reading.after is None:
                    self.history.saw(reading.run_id, reading.restart_attempt, reading.text)
                count += 1
                if count == stop_after_events:
                    return

    async def read(
        self, run_id: str, *, after: str | None = None, within_s: float = 60.0
    ) -> Reading:
        """Read the run to its end, on whichever replica answers, however often it takes."""
        return await self.read_on(Reading(run_id, after), within_s=within_s)

    async def read_on(self, reading: Reading, *, within_s: float = 60.0) -> Reading:
        """Read to the end what was read in part."""
        deadline = time.monotonic() + within_s
        while reading.run is None:
            assert time.monotonic() < deadline, f"run {reading.run_id} does not end"
            with contextlib.suppress(StreamBroken, TimeoutError):
                async with asyncio.timeout_at(
                    asyncio.get_running_loop().time() + deadline - time.monotonic()
                ):
                    await self.read_some(reading, url=next(self._next_url))
            if reading.run is None:
                await asyncio.sleep(0.05)
        return reading

    async def cancel(self, run_id: str, *, url: str | None = None) -> dict[str, Any]:
        """Cancel the run and return it."""
        answer = await self.call("POST", f"/runs/{run_id}/cancel", url=url)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def message(self, run: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer that a run wrote."""
        path = f"/conversations/{run['conversation_id']}/messages/{run['message_id']}"
        return (await self.insist("GET", path)).json()
