import asyncio
import json

import pytest
from starlette.types import Receive, Scope, Send

from tertulia.cli.protocol import BoundedHttp
from tests.http.serving import exchange, request_head, serve

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
    async with serve(show_fields, protocol=BoundedHttp) as port, asyncio.timeout(5):
        answer = await exchange(port, head)
    assert answer.status == status
