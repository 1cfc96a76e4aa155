import json

import pytest
from starlette.types import Receive, Scope, Send

from tertulia.http.protocol import reset_connection

from .serving import exchange, request_head, serve


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
