import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress

import pytest
import structlog
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from tertulia.domain.errors import Invalid
from tertulia.http.guard import Guard
from tertulia.http.sse import EventStreamResponse, StreamEvent, encode_event, last_event_id

from .serving import client_of, exchange, request_head, serve

Make = Callable[[], EventStreamResponse]


def event(number: int, size: int = 1) -> StreamEvent:
    return StreamEvent(str(number), "text", json.dumps({"delta": "x" * size}).encode())


class Source:
    """Events as told, then silence if told so; knows whether it was closed."""

    def __init__(self, *, count: int, size: int = 1, then_wait: bool = False) -> None:
        self.count = count
        self.size = size
        self.then_wait = then_wait
        self.given = 0
        self.closed = asyncio.Event()

    async def events(self) -> AsyncGenerator[StreamEvent]:
        try:
            for number in range(1, self.count + 1):
                self.given = number
                yield event(number, self.size)
            if self.then_wait:
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def until_closed(self) -> None:
        async with asyncio.timeout(30):
            await self.closed.wait()


def streaming(make: Make) -> Guard:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await make()(scope, receive, send)

    return Guard(app)


class TestStream:
    async def test_sends_each_event_as_one_frame_and_ends_with_the_iterator(self) -> None:
        source = Source(count=2)
        guard = streaming(lambda: EventStreamResponse(source.events(), retry_ms=2000))
        async with serve(guard) as port:
            answer = await exchange(port, request_head("GET", "/", "Connection: close"))
        frames = [
            b": \nretry: 2000\n\n",
            b'id: 1\nevent: text\ndata: {"delta": "x"}\n\n',
            b'id: 2\nevent: text\ndata: {"delta": "x"}\n\n',
        ]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames)
        assert answer.body == chunks + b"0\r\n\r\n"
        assert source.closed.is_set()

    async def test_has_the_headers_of_a_stream(self) -> None:
        guard = streaming(lambda: EventStreamResponse(Source(count=0).events(), headers={"a": "b"}))
        async with client_of(guard) as client:
            headers = (await client.get("/")).headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-store"
        assert headers["x-accel-buffering"] == "no"
        assert headers["a"] == "b"
        assert "content-length" not in headers

    async def test_greets_before_the_first_event(self) -> None:
        source = Source(count=0, then_wait=True)
        async with serve(streaming(lambda: EventStreamResponse(source.events()))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_head("GET", "/"))
            async with asyncio.timeout(30):
                assert await reader.readuntil(b": \n\n")
            writer.close()
            await source.until_closed()

    async def test_says_that_it_lives_while_nothing_happens(self) -> None:
        source = Source(count=1, then_wait=True)
        guard = streaming(lambda: EventStreamResponse(source.events(), heartbeat_s=0.05))
        async with serve(guard) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_head("GET", "/"))
            async with asyncio.timeout(30):
                await reader.readuntil(b"id: 1\n")
                for _ in range(3):
                    await reader.readuntil(b": \n\n")
            writer.close()
            await source.until_closed()

    async def test_ends_in_order_when_it_is_told_to_though_nothing_happens(self) -> None:
        source, told = Source(count=1, then_wait=True), asyncio.Event()
        guard = streaming(lambda: EventStreamResponse(source.events(), until=told.wait))
        async with serve(guard) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_head("GET", "/", "Connection: close"))
            await reader.readuntil(b"id: 1\n")
            told.set()
            async with asyncio.timeout(30):
                assert (await reader.read()).endswith(b"\r\n0\r\n\r\n")
            writer.close()
        assert source.closed.is_set()

    async def test_ends_when_it_is_told_to_in_the_middle_of_a_flood(self) -> None:
        source, told = Source(count=10**9, size=10_000), asyncio.Event()
        guard = streaming(lambda: EventStreamResponse(source.events(), until=told.wait))
        async with serve(guard) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_head("GET", "/", "Connection: close"))
            await reader.readuntil(b"id: 5\n")
            told.set()
            async with asyncio.timeout(30):
                assert (await reader.read()).endswith(b"\r\n0\r\n\r\n")
            writer.close()
        assert source.closed.is_set()

    async def test_is_a_response_like_any_other_to_fastapi(self) -> None:
        app = FastAPI()
        source = Source(count=1)

        @app.post("/runs")
        async def follow(body: dict[str, str]) -> EventStreamResponse:  # pyright: ignore[reportUnusedFunction]
            assert body == {"content": "Hi"}
            return EventStreamResponse(source.events())

        async with serve(Guard(app)) as port:
            head = request_head(
                "POST", "/runs", "Connection: close", "Content-Length: 16",
                "Content-Type: application/json",
            )  # fmt: skip
            answer = await exchange(port, head, b'{"content":"Hi"}')
        assert answer.status == 200
        assert b"id: 1\n" in answer.body

    async def test_of_a_broken_iterator_is_cut_and_logged(self) -> None:
        async def broken() -> AsyncIterator[StreamEvent]:
            yield event(1)
            raise LookupError("no more")

        with structlog.testing.capture_logs() as logs:
            async with serve(streaming(lambda: EventStreamResponse(broken()))) as port:
                answer = await exchange(port, request_head("GET", "/"))
        assert b"id: 1\n" in answer.body
        assert not answer.body.endswith(b"0\r\n\r\n")
        assert logs[0]["event"] == "unhandled exception"


class TestReader:
    async def test_that_leaves_closes_the_iterator_at_once(self) -> None:
        source = Source(count=1, then_wait=True)
        async with serve(streaming(lambda: EventStreamResponse(source.events()))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_head("GET", "/"))
            await reader.readuntil(b"id: 1\n")
            writer.close()
            await source.until_closed()

    async def test_that_leaves_a_flood_closes_the_iterator(self) -> None:
        source = Source(count=10**9, size=10_000)
        async with serve(streaming(lambda: EventStreamResponse(source.events()))) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_head("GET", "/"))
            await reader.readuntil(b"id: 5\n")
            writer.transport.abort()
            await source.until_closed()

    async def test_that_does_not_read_is_cut_off(self) -> None:
        source = Source(count=10**9, size=10_000)
        guard = streaming(lambda: EventStreamResponse(source.events(), stall_s=0.3))
        async with serve(guard) as port:
            with socket.socket() as lazy:
                lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                lazy.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(lazy, ("127.0.0.1", port))
                await loop.sock_sendall(lazy, request_head("GET", "/"))
                await source.until_closed()
                # What waited in the kernel may still be read; then the reset is seen.
                received = b"x"
                with suppress(ConnectionResetError):
                    async with asyncio.timeout(2):
                        while received:
                            received = await loop.sock_recv(lazy, 1 << 20)
                assert received, "the connection was closed politely instead of reset"
        # The socket buffers of the kernel and no more than one high-water mark of the server's.
        assert source.given * source.size < 16 * 1024 * 1024

    async def test_that_does_not_read_does_not_slow_another(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            count = 10**9 if scope["path"] == "/lazy" else 300
            stream = EventStreamResponse(Source(count=count, size=10_000).events(), stall_s=0.3)
            await stream(scope, receive, send)

        async with serve(Guard(app)) as port:
            _, lazy = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            lazy.write(request_head("GET", "/lazy"))
            answer = await exchange(port, request_head("GET", "/", "Connection: close"))
            lazy.transport.abort()
        assert answer.body.count(b"event: text") == 300


class TestFrame:
    @given(st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=5))
    def test_gives_the_reader_the_same_json(self, value: object) -> None:
        for indent in (None, 1):
            data = json.dumps(value, ensure_ascii=False, indent=indent)
            frame = encode_event(StreamEvent("9", None, data.encode())).decode()
            assert frame.endswith("\n\n")
            first, *lines = frame[:-2].split("\n")
            assert first == "id: 9"
            assert all(line.startswith("data: ") for line in lines)
            assert json.loads("\n".join(line[6:] for line in lines)) == value

    def test_needs_neither_id_nor_type(self) -> None:
        assert encode_event(StreamEvent(None, None, b"{}")) == b"data: {}\n\n"

    def test_cannot_be_broken_by_a_line_break_in_the_data(self) -> None:
        frame = encode_event(StreamEvent(None, None, b'[1,\r\n2,\r"\xc2\x85"]'))
        assert frame == b'data: [1,\ndata: 2,\ndata: "\xc2\x85"]\n\n'


class TestLastEventId:
    @staticmethod
    def request(*values: bytes) -> Request:
        return Request({"type": "http", "headers": [(b"last-event-id", v) for v in values]})

    def test_is_what_the_reader_saw_last(self) -> None:
        assert last_event_id(self.request(b"2.17")) == "2.17"

    def test_is_none_on_the_first_connection(self) -> None:
        assert last_event_id(self.request()) is None
        assert last_event_id(self.request(b"")) is None

    @pytest.mark.parametrize("value", [b"x" * 257, b"\xff", b"a\tb", "你".encode()])
    def test_that_is_none_of_ours_is_invalid(self, value: bytes) -> None:
        with pytest.raises(Invalid) as caught:
            last_event_id(self.request(value))
        assert caught.value.field == "header.Last-Event-ID"
