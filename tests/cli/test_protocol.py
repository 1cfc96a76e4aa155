import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from starlette.types import Receive, Scope, Send

from tertulia.cli.protocol import PIPELINED_MAX, BoundedHttp
from tertulia.http.guard import Guard
from tests.http.serving import Answer, exchange, request_head, serve

CHUNKED = "Transfer-Encoding: chunked"
HANDSHAKE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


async def show_fields(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    names = [name.decode() for name, _ in scope["headers"]]
    shown = json.dumps({"fields": names, "body_bytes": len(body)}).encode()
    headers = [(b"content-length", b"%d" % len(shown))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": shown})


async def test_the_fields_of_a_trailer_are_dropped() -> None:
    head = request_head("POST", "/", CHUNKED, "Connection: close")
    trailer = b"0\r\nAuthorization: Bearer stolen\r\n\r\n"
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answer = await exchange(port, head, b"1\r\na\r\n", trailer, pause_s=0.02)
    assert answer.json() == {
        "fields": ["host", "transfer-encoding", "connection"],
        "body_bytes": 1,
    }


@pytest.mark.parametrize(
    "framing",
    [b"0\r\n" + b"X-More: again\r\n" * 5_000, b"1;" + b"extension" * 8_000 + b"\r\na\r\n"],
)
async def test_framing_without_end_is_refused(framing: bytes) -> None:
    pieces = [framing[at : at + 50_000] for at in range(0, len(framing), 50_000)]
    head = request_head("POST", "/", CHUNKED)
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answer = await exchange(port, head, *pieces, pause_s=0.01)
    assert (answer.status, answer.json()["code"]) == (431, "head_too_large")


async def test_a_body_in_chunks_of_one_byte_is_taken() -> None:
    head = request_head("POST", "/", CHUNKED, "Connection: close")
    body = b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n"
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answer = await exchange(port, head, body)
    assert answer.json()["body_bytes"] == 100_000


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("GET", [f"X-Long: {'a' * 9_000}"], 431),
        ("GET", [f"X-{number}: a" for number in range(200)], 431),
        ("GET", ["Content-Length: 3"], 400),
        ("POST", [], 400),
    ],
)
async def test_a_handshake_that_nobody_could_answer_is_refused(
    method: str, fields: list[str], status: int
) -> None:
    head = request_head(method, "/ws", *HANDSHAKE, *fields)
    async with serve(show_fields, protocol=BoundedHttp) as port, asyncio.timeout(30):
        answer = await exchange(port, head)
    assert answer.status == status


def refused(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        request_head("POST", "/", "Transfer-Encoding: gzip", CHUNKED) + b"0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_two_servers_could_read_differently_is_refused(head: bytes) -> None:
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answer = await exchange(port, head)
    assert refused(answer) == (400, "invalid_http")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        request_head("POST", "/", "Transfer-Encoding: Chunked", "Connection: close") + b"0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n",
    ],
)
async def test_what_is_old_or_unusual_and_clear_is_served(head: bytes) -> None:
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answer = await exchange(port, head)
    assert answer.status == 200


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 hello\r\n\r\n", b"GET /" + b"a" * 70_000])
async def test_a_refusal_is_an_answer_like_any_other(sent: bytes) -> None:
    with structlog.testing.capture_logs() as logs:
        async with serve(show_fields, protocol=BoundedHttp) as port:
            answer = await exchange(port, sent)
    (line,) = logs
    assert answer.headers["x-request-id"] == line["request_id"]
    assert refused(answer) == (line["status"], line["code"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"


async def test_a_refused_client_that_goes_on_sending_sees_why() -> None:
    pieces = [b"GET / HTTP/1.1\r\nHost: a\r\n"] + [b"X-More: %b\r\n" % (b"a" * 4_000)] * 60
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answer = await exchange(port, *pieces, pause_s=0.002)
    assert refused(answer) == (431, "head_too_large")


async def test_some_requests_may_come_at_once() -> None:
    heads = request_head("GET", "/") * PIPELINED_MAX + request_head("GET", "/", "Connection: close")
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answers = await read_all(port, heads)
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"HTTP/1.1") == PIPELINED_MAX + 1


async def test_of_too_many_requests_at_once_the_first_are_answered() -> None:
    async with serve(show_fields, protocol=BoundedHttp) as port:
        answers = await read_all(port, request_head("GET", "/") * 5_000)
    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"HTTP/1.1") == PIPELINED_MAX + 1


async def read_all(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


class Slow:
    """An app that answers in two parts, the second when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.has_left = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"2")]
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        left = asyncio.ensure_future(receive())
        told = asyncio.ensure_future(self.go_on.wait())
        await asyncio.wait([left, told], return_when=asyncio.FIRST_COMPLETED)
        if left.done():
            self.has_left.set()
        left.cancel()
        told.cancel()
        await send({"type": "http.response.body", "body": b"b"})


async def test_a_refusal_never_stands_in_another_answer() -> None:
    app = Slow()
    async with serve(app, protocol=BoundedHttp) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_head("GET", "/"))
        await reader.readuntil(b"\r\n\r\na")
        writer.write(b"\x16\x03\x01\r\n\r\n")
        await asyncio.sleep(0.05)
        app.go_on.set()
        async with asyncio.timeout(30):
            assert await reader.read() == b"b"
        writer.close()


async def test_a_client_that_leaves_is_missed_in_front_of_what_it_pipelined() -> None:
    app = Slow()
    async with serve(app, protocol=BoundedHttp) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_head("GET", "/") * 3)
        await reader.readuntil(b"\r\n\r\na")
        writer.transport.abort()
        async with asyncio.timeout(30):
            await app.has_left.wait()


async def test_a_body_that_drips_after_its_answer_is_given_up() -> None:
    class Impatient(BoundedHttp):
        rest_timeout_s = 0.2

    async def answer_at_once(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with serve(answer_at_once, protocol=Impatient) as port, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_head("GET", "/", CHUNKED))
        await reader.readuntil(b"\r\n\r\n")
        dripping = asyncio.ensure_future(drip(writer))
        with suppress(ConnectionError):
            assert await reader.read() == b""
        dripping.cancel()
        writer.close()


async def drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"1\r\na\r\n")
        await asyncio.sleep(0.02)


async def test_a_connection_goes_on_after_a_body_that_came_after_its_answer() -> None:
    async with serve(Guard(show_fields), protocol=BoundedHttp) as port:
        head = request_head("GET", "/", "Content-Length: 3")
        last = request_head("GET", "/", "Connection: close")
        answer = await exchange(port, head, b"abc" + last, pause_s=0.05)
    assert answer.body.count(b"HTTP/1.1 200 OK") == 1


async def test_a_client_that_does_not_read_an_answer_is_cut() -> None:
    class Impatient(BoundedHttp):
        stall_s = 0.3

    async def answer_at_length(_scope: Scope, _receive: Receive, send: Send) -> None:
        body = bytes(16 * 1024 * 1024)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with serve(answer_at_length, protocol=Impatient) as port, unread(port) as peer:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(peer, request_head("GET", "/"))
        await asyncio.sleep(1)
        received = b"x"
        with suppress(ConnectionResetError):
            while received:
                received = await loop.sock_recv(peer, 1 << 20)
        assert received, "the connection was reset, not ended"


@asynccontextmanager
async def unread(port: int) -> AsyncGenerator[socket.socket]:
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", port))
        async with asyncio.timeout(30):
            yield peer
