import json

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


async def test_a_server_without_the_extension_cannot_reset() -> None:
    assert not await reset_connection({"type": "http"})
