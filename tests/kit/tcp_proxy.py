"""A proxy for TCP and Unix sockets that misbehaves on command.

It stands before PostgreSQL or before the API and runs in a thread of its own, so that a test that
blocks does not stop its traffic. Every command has taken effect when it returns.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, TypeVar

Target: TypeAlias = tuple[str, int] | Path
"""Host and port, or the path of a Unix socket."""
Ending: TypeAlias = Literal["rst", "fin", "silence"]
Result = TypeVar("Result")

_CHUNK_BYTES = 65_536
_COMMAND_S = 10.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
# `struct linger`: on, 0 seconds; the kernel then says RST instead of FIN.


@dataclass(eq=False)
class _Link:
    """One client's connection and the server's behind it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    to_client_bytes: int = 0
    cut_after: int | None = None
    is_mute: bool = False
    """Whatever comes is swallowed: as when a cable is pulled."""
    is_half_closed: bool = False
    """The client was told that nothing more will come."""
    tasks: list["asyncio.Task[None]"] = field(default_factory=list["asyncio.Task[None]"])


class TcpProxy:
    """Passes everything on from `target` to a port of its own, until told otherwise.

    Args:
        target: The server behind it.
        seed: Of the random positions of `cut_each_within`.
    """

    def __init__(self, target: Target, *, seed: int = 0) -> None:
        self.port = 0
        self.accepted = 0
        """How many connections have been taken so far."""
        self._target = target
        self._latency_s = 0.0
        self._cut: tuple[int, int, Ending] | None = None
        self._random = random.Random(seed)
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._command(self._resume())
        return self

    def __exit__(self, *_: object) -> None:
        self._command(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_COMMAND_S)
        self._loop.close()

    @property
    def address(self) -> str:
        """Host and port, as in a URL."""
        return f"127.0.0.1:{self.port}"

    @property
    def open_links(self) -> int:
        """How many connections pass through it now."""
        return len(self._links)

    def resume(self) -> None:
        """Listen and pass everything on, at once and whole."""
        self._command(self._resume())

    def delay(self, seconds: float) -> None:
        """Let every piece of data wait, in both directions."""
        self._latency_s = seconds

    def stall(self) -> None:
        """Keep all connections, take new ones, and pass nothing on."""
        self._command(self._stall())

    def refuse(self) -> None:
        """Take no new connection; those there are stay."""
        self._command(self._refuse())

    def reset(self) -> None:
        """Break all connections with RST, as a server that was killed does."""
        self._command(self._end_all("rst"))

    def half_close(self) -> None:
        """Say FIN to every client and go on listening to it."""
        self._command(self._half_close())

    def cut_each_within(self, low: int, high: int, ending: Ending) -> None:
        """End each new connection after a random number of bytes from the server."""
        self._cut = (low, high, ending)

    def _command(self, step: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(_COMMAND_S)

    async def _resume(self) -> None:
        self._latency_s, self._cut = 0.0, None
        self._flows.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _stall(self) -> None:
        self._flows.clear()

    async def _refuse(self) -> None:
        if self._listener is not None:
            listener, self._listener = self._listener, None
            for each in listener.sockets:
                self._loop.remove_reader(each.fileno())
            # What was accepted a moment ago is only now made a connection, of a server that must
            # still be open: asyncio would leave the socket behind.
            await asyncio.sleep(0)
            listener.close()

    async def _half_close(self) -> None:
        for link in self._links:
            if not link.is_half_closed and link.client.can_write_eof():
                link.is_half_closed = True
                link.client.write_eof()

    async def _end_all(self, ending: Ending) -> None:
        for link in list(self._links):
            self._end(link, ending)
        await asyncio.sleep(0)

    async def _close(self) -> None:
        await self._refuse()
        tasks = [task for link in self._links for task in link.tasks]
        await self._end_all("rst")
        # What serves ends by itself once its pumps have; what still connects has none.
        tasks += self._serving
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A closed transport lets go of its socket one turn of the loop later.
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None, "a server's callback runs in a task"
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            await self._flows.wait()
            server_reader, server_writer = await self._connect()
        except (OSError, asyncio.CancelledError):
            _abort(writer)
            return
        link = _Link(writer, server_writer)
        if self._cut is not None:
            low, high, _ = self._cut
            link.cut_after = self._random.randint(low, high)
        link.tasks = [
            self._loop.create_task(self._pump(link, reader, server_writer)),
            self._loop.create_task(self._pump(link, server_reader, writer, is_answer=True)),
        ]
        self._links.add(link)
        try:
            await asyncio.wait(link.tasks)
        finally:
            self._links.discard(link)
            writer.close()
            server_writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        match self._target:
            case Path():
                return await asyncio.open_unix_connection(str(self._target))
            case (host, port):
                return await asyncio.open_connection(host, port)

    async def _pump(
        self,
        link: _Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_answer: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                if self._latency_s:
                    await asyncio.sleep(self._latency_s)
                await self._flows.wait()
                if link.is_mute:
                    continue
                if is_answer and (link.is_half_closed or self._is_cut(link, data)):
                    continue
                writer.write(data)
                await writer.drain()
            if not (is_answer and link.is_half_closed) and writer.can_write_eof():
                writer.write_eof()

    def _is_cut(self, link: _Link, data: bytes) -> bool:
        """Count what goes to the client; at the link's last byte end it."""
        before = link.to_client_bytes
        link.to_client_bytes += len(data)
        if link.cut_after is None or link.to_client_bytes < link.cut_after or self._cut is None:
            return False
        link.client.write(data[: link.cut_after - before])
        self._end(link, self._cut[2])
        return True

    def _end(self, link: _Link, ending: Ending) -> None:
        match ending:
            case "rst":
                _abort(link.client)
                _abort(link.server)
            case "fin":
                link.client.close()
                link.server.close()
            case "silence":
                link.is_mute = True


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
