"""Requests over connections that are kept: the least HTTP/1.1 that any server's answer needs."""

import asyncio
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from benchmarks.load.jobs import HOST, NUMBER, Measured, RequestsJob, percentile

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_SILENT_S = 30.0
"""After this long an answer counts as none."""
_LAST_ANSWERS_S = 5.0
_NOTES = 3


def run_requests(job: RequestsJob) -> None:
    """Do the job, from `ready` to the result."""
    asyncio.run(_Crowd(job).run())


class _Crowd:
    """All connections of a job."""

    def __init__(self, job: RequestsJob) -> None:
        self._job = job
        self.is_over = False
        self.times_s: list[float] = []
        self.errors = 0
        self.notes: list[str] = []
        self._connections: list[_Connection] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[None] = asyncio.Queue()
        loop.add_reader(0, lambda: os.read(0, 64) and told.put_nowait(None))
        requests = [request.encode() for request in self._job.requests]
        turns = _numbered(requests)
        for number in range(self._job.connections):
            own = itertools.repeat(requests[number % len(requests)])
            asked = turns if self._job.in_turns else own
            _, connection = await loop.create_connection(
                lambda asked=asked: _Connection(self, asked), HOST, self._job.port
            )
            self._connections.append(connection)
        await asyncio.sleep(self._job.warm_s)
        print("ready", flush=True)
        await told.get()
        self.times_s, self.errors, self.notes = [], 0, []
        await told.get()
        times_ms = [seconds * 1000 for seconds in self.times_s]
        now = time.perf_counter()
        silent = sum(now - each.asked_at > _SILENT_S for each in self._connections)
        measured = Measured(
            operations=len(times_ms),
            errors=self.errors + silent,
            p50_ms=percentile(times_ms, 50),
            p99_ms=percentile(times_ms, 99),
            max_ms=max(times_ms, default=0.0),
            notes=self.notes,
        )
        print(json.dumps(asdict(measured)), flush=True)
        await self._end()

    async def _end(self) -> None:
        """Let the last answers come, so that no server sees its clients run away."""
        self.is_over = True
        deadline = time.perf_counter() + _LAST_ANSWERS_S
        while any(not each.is_idle for each in self._connections):
            if time.perf_counter() > deadline:
                break
            await asyncio.sleep(0.01)
        for connection in self._connections:
            connection.close()

    def fail(self, note: str) -> None:
        """Count an answer that is none."""
        self.errors += 1
        if len(self.notes) < _NOTES:
            self.notes.append(note)


def _numbered(requests: Sequence[bytes]) -> Iterator[bytes]:
    """Yield one after the other, for ever, each with a number of its own."""
    mark = NUMBER.encode()
    for number, request in enumerate(itertools.cycle(requests)):
        yield request.replace(mark, b"%0*d" % (len(mark), number))


class _Connection(asyncio.Protocol):
    """Sends its next request whenever the answer is whole."""

    def __init__(self, crowd: _Crowd, requests: Iterator[bytes]) -> None:
        self._crowd = crowd
        self._requests = requests
        self._transport: asyncio.Transport | None = None
        self._head: bytes = b""
        self._left: int = -1
        """Bytes of the body that are to come; -1: the head is not whole."""
        self._is_good = False
        self.asked_at = 0.0
        self.is_idle = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP"
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            data = self._head + data
            end = data.find(_HEAD_END)
            if end < 0:
                self._head = data
                return
            self._head = b""
            length = _LENGTH.search(data, 0, end)
            size = int(length[1]) if length else 0
            self._is_good = data[9:10] == b"2"
            if not self._is_good:
                self._crowd.fail(data[:400].decode(errors="replace"))
            self._left = size - (len(data) - end - len(_HEAD_END))
        else:
            self._left -= len(data)
        if self._left <= 0:
            if self._is_good:
                self._crowd.times_s.append(time.perf_counter() - self.asked_at)
            if self._crowd.is_over:
                self.is_idle = True
            else:
                self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_idle:
            self.is_idle = True
            self._crowd.fail(f"connection lost: {exc!r}")

    def close(self) -> None:
        """Leave."""
        self.is_idle = True
        if self._transport is not None:
            self._transport.close()

    def _ask(self) -> None:
        assert self._transport is not None, "connected"
        self._left = -1
        self.asked_at = time.perf_counter()
        self._transport.write(next(self._requests))


if sys.platform == "win32":
    raise SystemExit(
        "The load generator reads its commands from a pipe, which Windows cannot wait for."
    )
