import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, TypeAlias

import pytest
from starlette.types import Receive, Scope, Send

from tertulia.http.protocol import HttpProtocol, WebSocketProtocol, reset_connection

from .serving import exchange, request_head, serve

Says: TypeAlias = Literal["on and on", "one long thing", "nothing"]

LONG_CHARS = 16 * 1024 * 1024
"""More than any kernel keeps for a reader."""
PATIENCE_S = 5.0


async def show_target(scope: Scope, _receive: Receive, send: Send) -> None:
    shown = {"path": scope["path"], "query": scope["query_string"].decode()}
    body = json.dumps(shown).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def test_a_target_in_raw_utf_8_is_understood() -> None:
    async with serve(show_target) as port:
        answer = await exchange(port, request_head("GET", "/你?q=好&r=%20", "Connection: close"))
    assert answer.json() == {"path": "/你", "query": "q=%E5%A5%BD&r=%20"}


async def test_a_second_request_on_the_connection_is_understood_too() -> None:
    first = request_head("POST", "/a?好", "Content-Length: 6") + "你好".encode()
    second = request_head("GET", "/b?好", "Connection: close")
    async with serve(show_target) as port:
        answer = await exchange(port, first, second, pause_s=0.1)
    assert b'"/a"' in answer.body
    assert b'"/b", "query": "%E5%A5%BD"' in answer.body


async def test_what_is_not_http_is_refused_in_the_one_shape() -> None:
    async with serve(show_target) as port:
        answer = await exchange(port, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == "invalid_http"


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("protocol", ["h2c", "foo"])
async def test_an_upgrade_to_anything_else_is_ignored(protocol: str) -> None:
    head = request_head(
        "POST",
        "/a?b=%20",
        "Connection: close, Upgrade, HTTP2-Settings",
        f"Upgrade: {protocol}",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Content-Length: 31",
    )
    smuggled = b"GET /b HTTP/1.1\r\nHost: evil\r\n\r\n"[:31]
    async with serve(echo) as port:
        whole = await exchange(port, head + smuggled)
        in_parts = await exchange(port, head, smuggled[:10], smuggled[10:], pause_s=0.02)
    assert (whole.status, whole.body) == (in_parts.status, in_parts.body) == (200, smuggled)


async def test_after_an_ignored_upgrade_the_connection_goes_on() -> None:
    first = request_head("GET", "/a", "Connection: Upgrade", "Upgrade: h2c")
    second = request_head("GET", "/b", "Connection: close")
    async with serve(show_target) as port:
        answer = await exchange(port, first + second)
    assert b'"/a"' in answer.body
    assert b'"/b"' in answer.body


async def test_it_is_no_proxy() -> None:
    async with serve(show_target) as port:
        answer = await exchange(port, request_head("CONNECT", "example.org:443"))
    assert (answer.status, answer.json()["code"]) == (400, "invalid_http")


async def test_a_server_without_the_extension_cannot_reset() -> None:
    assert not await reset_connection({"type": "http"})


class Speaker:
    """An app that has nothing to hear."""

    def __init__(self, says: Says) -> None:
        self._says: Says = says
        self.sent_chars = 0
        self.is_blocked = asyncio.Event()
        self.has_answered = asyncio.Event()
        self.has_accepted = asyncio.Event()
        self._ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/never":
                await receive()
                await receive()
            await self._answer(send)
            self.has_answered.set()
            return
        await receive()
        try:
            await send({"type": "websocket.accept"})
            self.has_accepted.set()
            match self._says:
                case "nothing":
                    await receive()
                case "one long thing":
                    await self._say(send, LONG_CHARS)
                    await send({"type": "websocket.close"})
                case "on and on":
                    while True:
                        await self._say(send, 100_000)
        finally:
            self._ended.set()

    async def until_ended(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._ended.wait()

    async def _say(self, send: Send, chars: int) -> None:
        blocked = asyncio.get_running_loop().call_later(0.2, self.is_blocked.set)
        await send({"type": "websocket.send", "text": "x" * chars})
        blocked.cancel()
        self.sent_chars += chars

    async def _answer(self, send: Send) -> None:
        headers = [(b"content-length", b"%d" % LONG_CHARS)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(LONG_CHARS)})


@asynccontextmanager
async def serve_websockets(app: Speaker, *, stall_s: float) -> AsyncGenerator[int]:
    class Patient(WebSocketProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  uvicorn's
            super().__init__(*args, **kwargs)
            self.stall_s = stall_s
            self.shutdown_stall_s = 0.2

    class Http(HttpProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  uvicorn's
            super().__init__(*args, **kwargs)
            self.ws_protocol_class = Patient

    async with serve(app, protocol=Http) as port:
        yield port


async def connect(
    port: int, first: bytes = b"", between: asyncio.Event | None = None
) -> socket.socket:
    """Open a WebSocket that nobody reads from; send another request before if told so."""
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    peer.setblocking(False)
    handshake = request_head(
        "GET",
        "/",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==",
    )
    loop = asyncio.get_running_loop()
    await loop.sock_connect(peer, ("127.0.0.1", port))
    await loop.sock_sendall(peer, first)
    if between is not None:
        async with asyncio.timeout(PATIENCE_S):
            await between.wait()
    await loop.sock_sendall(peer, handshake)
    return peer


async def is_reset(peer: socket.socket) -> bool:
    """Read what the kernel still has; return whether a reset came after it."""
    received = b"x"
    with suppress(ConnectionResetError):
        async with asyncio.timeout(PATIENCE_S):
            while received:
                received = await asyncio.get_running_loop().sock_recv(peer, 1 << 20)
    return bool(received)


class TestWebSocketPeer:
    """One that has no library which would read for it."""

    async def test_that_does_not_read_is_cut_and_the_app_learns_of_it(self) -> None:
        app = Speaker("on and on")
        async with serve_websockets(app, stall_s=0.3) as port:
            with await connect(port) as peer:
                await app.until_ended()
                assert await is_reset(peer)
        assert app.sent_chars < LONG_CHARS

    async def test_that_does_not_read_the_goodbye_is_cut(self) -> None:
        app = Speaker("one long thing")
        async with serve_websockets(app, stall_s=0.3) as port:
            with await connect(port) as peer:
                await app.until_ended()
                assert await is_reset(peer)

    async def test_that_reads_slowly_gets_everything(self) -> None:
        app = Speaker("one long thing")
        async with serve_websockets(app, stall_s=0.3) as port:
            with await connect(port) as peer:
                received = 0
                while data := await asyncio.get_running_loop().sock_recv(peer, 1 << 17):
                    received += len(data)
                    await asyncio.sleep(0.005)
                    if received > LONG_CHARS:
                        break
        assert received > LONG_CHARS

    async def test_that_left_an_answer_unread_is_watched_from_the_beginning(self) -> None:
        app = Speaker("on and on")
        async with serve_websockets(app, stall_s=0.3) as port:
            with await connect(port, request_head("GET", "/"), app.has_answered) as peer:
                await app.until_ended()
                assert await is_reset(peer)
        assert app.sent_chars == 0

    async def test_that_does_not_wait_for_an_answer_to_end_gets_no_websocket(self) -> None:
        app = Speaker("on and on")
        async with serve_websockets(app, stall_s=30) as port:
            with await connect(port, request_head("GET", "/never")) as peer:
                async with asyncio.timeout(PATIENCE_S):
                    assert not await asyncio.get_running_loop().sock_recv(peer, 1)
        assert app.sent_chars == 0

    async def test_that_does_not_read_is_not_read_from(self) -> None:
        pings = (b"\x89\xfd\0\0\0\0" + bytes(125)) * 1000
        app, sent = Speaker("nothing"), 0
        async with serve_websockets(app, stall_s=30) as port:
            with await connect(port) as peer, suppress(TimeoutError):
                await app.has_accepted.wait()
                while sent < 2 * LONG_CHARS:
                    async with asyncio.timeout(2):
                        await asyncio.get_running_loop().sock_sendall(peer, pings)
                    sent += len(pings)
        assert sent < 2 * LONG_CHARS

    async def test_that_does_not_read_does_not_hold_up_the_end_of_the_server(self) -> None:
        app = Speaker("on and on")
        async with serve_websockets(app, stall_s=30) as port:
            peer = await connect(port)
            async with asyncio.timeout(PATIENCE_S):
                await app.is_blocked.wait()
        with peer:
            assert await is_reset(peer)
