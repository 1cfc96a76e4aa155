"""Streams: opened, read, and timed by the stamps that the upstream's tokens carry.

Chunks and events are not parsed: a token is `~` and seven digits in whatever wire it comes over,
the upstream's clock when it was sent (`benchmarks.upstream`).
"""

import heapq
import itertools
import json
import os
import re
import selectors
import socket
import time
from dataclasses import asdict

from benchmarks.load.jobs import HOST, Measured, StreamsJob, percentile
from benchmarks.stamps import MARK, milliseconds_since

_STAMP = re.compile(rb"~(\d{7})")
_END = b"0\r\n\r\n"
_READ_BYTES = 1 << 18
_SAMPLED = 200
"""At most so many streams have the way of their tokens timed; reading clocks costs."""
_LAST_S = 60.0
"""How long streams may go on after the measurement."""
_NOTES = 3


def run_streams(job: StreamsJob) -> None:
    """Do the job, from `ready` to the result and the end of the last stream."""
    _Reader(job).run()


class _Stream:
    """One request and its answer."""

    __slots__ = ("began", "has_begun", "head", "is_sampled", "request", "socket")

    def __init__(self, request: bytes, *, is_sampled: bool) -> None:
        self.request = request
        self.is_sampled = is_sampled
        self.head = b""
        self.has_begun = False
        """Whether a token has come."""
        self.began = time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)


class _Reader:
    """All streams of a job, in one loop without a framework."""

    def __init__(self, job: StreamsJob) -> None:
        self._job = job
        self._requests = itertools.cycle(job.requests)
        self._selector = selectors.DefaultSelector()
        self._due: list[float] = []
        """When streams are to begin."""
        self._opened = 0
        self._open = 0
        self._is_measuring = False
        self._is_over = False
        self._sample_every = max(1, job.streams // _SAMPLED)
        self._forget()

    def _forget(self) -> None:
        self._tokens = 0
        self._errors = 0
        self._ways_ms: list[float] = []
        self._firsts_ms: list[float] = []
        self._notes: list[str] = []

    def run(self) -> None:
        """Read until told to stop, and then to the end."""
        now = time.monotonic()
        job = self._job
        self._due = [now + job.over_s * number / job.streams for number in range(job.streams)]
        self._selector.register(0, selectors.EVENT_READ, None)
        is_ready = False
        while not (self._is_over and not self._open):
            self._open_those_due()
            wait_s = max(0.0, self._due[0] - time.monotonic()) if self._due else 1.0
            for key, _ in self._selector.select(wait_s):
                if key.data is None:
                    self._be_told()
                else:
                    self._serve(key.data)
            if not is_ready and len(self._firsts_ms) + self._errors >= job.streams:
                is_ready = True
                print("ready", flush=True)
            if self._is_over and time.monotonic() > self._give_up_at:
                break

    def _open_those_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)
            request = next(self._requests)
            sampled = self._opened % self._sample_every == 0
            stream = _Stream(request.encode(), is_sampled=sampled)
            stream.socket.connect_ex((HOST, self._job.port))
            self._selector.register(stream.socket, selectors.EVENT_WRITE, stream)
            self._opened += 1
            self._open += 1

    def _be_told(self) -> None:
        os.read(0, 64)
        if not self._is_measuring:
            self._is_measuring = True
            self._forget()
            return
        self._selector.unregister(0)
        measured = Measured(
            operations=self._tokens,
            errors=self._errors,
            p50_ms=percentile(self._ways_ms, 50),
            p99_ms=percentile(self._ways_ms, 99),
            max_ms=max(self._ways_ms, default=0.0),
            open=self._open,
            firsts=len(self._firsts_ms),
            first_p50_ms=percentile(self._firsts_ms, 50),
            first_p99_ms=percentile(self._firsts_ms, 99),
            notes=self._notes,
        )
        print(json.dumps(asdict(measured)), flush=True)
        self._is_over = True
        self._give_up_at = time.monotonic() + _LAST_S
        self._due = []

    def _serve(self, stream: _Stream) -> None:
        if stream.request:
            self._selector.modify(stream.socket, selectors.EVENT_READ, stream)
            request, stream.request = stream.request, b""
            try:
                stream.socket.sendall(request)
            except OSError as error:
                self._close(stream, f"not connected: {error}")
            return
        try:
            data = stream.socket.recv(_READ_BYTES)
        except OSError as error:
            self._close(stream, f"broken: {error}")
            return
        if not stream.has_begun:
            stream.head += data
            if not self._begin(stream, data):
                return
        self._tokens += data.count(MARK)
        if stream.is_sampled:
            self._ways_ms += [milliseconds_since(int(stamp)) for stamp in _STAMP.findall(data)]
        if data.endswith(_END):
            self._close(stream)
        elif not data:
            self._close(stream, "ended early")

    def _begin(self, stream: _Stream, data: bytes) -> bool:
        """Look for the first token. Return whether there is something to count."""
        if MARK in data:
            stream.has_begun = True
            stream.head = b""
            self._firsts_ms.append((time.monotonic() - stream.began) * 1000)
            return True
        if not data or data.endswith(_END) or stream.head[9:10] not in (b"", b"2"):
            self._close(stream, stream.head[:400].decode(errors="replace"))
        return False

    def _close(self, stream: _Stream, problem: str | None = None) -> None:
        self._selector.unregister(stream.socket)
        stream.socket.close()
        self._open -= 1
        if problem is not None:
            self._fail(problem)
        if self._job.renew and not self._is_over:
            heapq.heappush(self._due, time.monotonic() + self._job.pause_s)

    def _fail(self, note: str) -> None:
        self._errors += 1
        if len(self._notes) < _NOTES:
            self._notes.append(note)
