"""A provider of language models that costs next to nothing: OpenAI's chat completions, rendered.

What it says is asked for in the last user message: `pace=50 tokens=600 delay_ms=0`; pace 0 is as
fast as its reader reads. Each token is a chunk of its own, of the size that providers send, and
says when it was sent.
"""

import asyncio
import itertools
import json
import re
from typing import Any

from benchmarks.lifeline import end_with_parent
from benchmarks.load.jobs import HOST
from benchmarks.stamps import stamp

MODEL = "bench"
PACE = 50
"""Tokens a second of a paced stream; the only pace there is."""
_PHASES = 20
"""Paced streams take turns in so many groups, as answers to different people do."""
_TURN_TOKENS = 10
"""So many a stream that is not paced sends, each by itself, until others have their turn."""
_WANTED = re.compile(rb"pace=(\d+) tokens=(\d+) delay_ms=(\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Transfer-Encoding: chunked\r\nx-request-id: req-bench\r\n\r\n"
)


def prompt(*, tokens: int, pace: int = PACE, delay_ms: int = 0) -> str:
    """Return the user's message that asks for such an answer."""
    return f"pace={pace} tokens={tokens} delay_ms={delay_ms}"


def _framed(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    chunk = {
        "id": "chatcmpl-0123456789abcdef01234567",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": MODEL,
        "system_fingerprint": "fp_0123456789",
        "choices": [choice],
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


_ROLE = _framed(_event({"role": "assistant", "content": ""}))
_BEFORE, _AFTER = _framed(_event({"content": "~0000000"})).split(b"~0000000")


def _token() -> bytes:
    """Return the chunk of a token of this moment."""
    return b"%b%b%b" % (_BEFORE, stamp(), _AFTER)


def _last(tokens: int) -> bytes:
    usage = {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}
    told: dict[str, Any] = {
        "id": "chatcmpl",
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": usage,
    }
    return b"%b%b%b0\r\n\r\n" % (
        _framed(_event({}, "stop")),
        _framed(b"data: " + json.dumps(told).encode() + b"\n\n"),
        _framed(b"data: [DONE]\n\n"),
    )


class _Ticker:
    """Sends the paced streams their tokens, each group at its own moment of the interval."""

    def __init__(self) -> None:
        self._groups: list[set[_Connection]] = [set() for _ in range(_PHASES)]
        self._newest = itertools.cycle(self._groups)
        self._is_needed = asyncio.Event()

    def add(self, connection: "_Connection") -> None:
        next(self._newest).add(connection)
        self._is_needed.set()

    def discard(self, connection: "_Connection") -> None:
        for group in self._groups:
            group.discard(connection)
        if not any(self._groups):
            self._is_needed.clear()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        for group in itertools.cycle(self._groups):
            if not self._is_needed.is_set():
                await self._is_needed.wait()
                at = loop.time()
            at += 1 / (PACE * _PHASES)
            # Late, it does not skip: the pace holds on average.
            await asyncio.sleep(max(0.0, at - loop.time()))
            if group:
                token = _token()
                for connection in tuple(group):
                    connection.say(token)


class _Connection(asyncio.Protocol):
    """One client's connection, kept after each answer."""

    def __init__(self, ticker: _Ticker) -> None:
        self._ticker = ticker
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._tokens = 0
        self._said = 0
        self._is_flowing = False
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP"
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._ticker.discard(self)
        self._transport = None

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._flow()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not separator or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        if head.startswith(b"POST"):
            self._answer(body)
        else:
            self._list_models()

    def say(self, token: bytes) -> None:
        """Send the next token of a paced answer."""
        if self._transport is None:
            return
        self._transport.write(token)
        self._said += 1
        if self._said >= self._tokens:
            self._ticker.discard(self)
            self._transport.write(_last(self._tokens))

    def _answer(self, body: bytes) -> None:
        pace, tokens, delay_ms = map(int, _WANTED.findall(body)[-1])
        self._tokens, self._said = tokens, 0
        begin = self._begin_paced if pace else self._begin_flat
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1000, begin)
        else:
            begin()

    def _begin_paced(self) -> None:
        if self._transport is not None:
            self._transport.write(_HEAD + _ROLE)
            # The first at once: what it waits for is no part of what is measured.
            self.say(_token())
            if self._said < self._tokens:
                self._ticker.add(self)

    def _begin_flat(self) -> None:
        if self._transport is not None:
            self._transport.write(_HEAD + _ROLE)
            self._is_flowing = True
            self._flow()

    def _flow(self) -> None:
        """Send some tokens, and more when the other streams have had their turn."""
        for _ in range(_TURN_TOKENS):
            if self._transport is None or self._is_paused or not self._is_flowing:
                return
            self._transport.write(_token())
            self._said += 1
            if self._said >= self._tokens:
                self._is_flowing = False
                self._transport.write(_last(self._tokens))
        asyncio.get_running_loop().call_soon(self._flow)

    def _list_models(self) -> None:
        assert self._transport is not None, "connected"
        body = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    ticker = _Ticker()
    server = await loop.create_server(lambda: _Connection(ticker), HOST, 0, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    print(f"ready at http://{HOST}:{port}", flush=True)
    await ticker.run()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(_serve())
