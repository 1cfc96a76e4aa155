import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AbstractContextManager, suppress
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from tertulia.domain.errors import Draining
from tertulia.http.errors import register_error_handlers
from tertulia.http.guard import Guard, GuardLimits
from tertulia.http.strict_json import JsonLimits

from .serving import client_of, exchange, request_head, serve
from .test_strict_json import json_values

LIMITS = GuardLimits(
    body_bytes=1000, body_deadline_s=0.3, linger_s=0.5, json=JsonLimits(depth=5, values=50)
)
HISTORY_LIMITS = GuardLimits(
    body_bytes=1000, history_bytes=3000, histories_bytes=6000, linger_s=0.5
)
JSON = "Content-Type: application/json"
CLOSE = "Connection: close"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body as it came, in one message."""
    body = b""
    while (message := await receive())["more_body"]:
        body += message["body"]
    body += message["body"] or scope["query_string"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def api() -> FastAPI:
    """An API with a route for every way to go wrong."""
    app = FastAPI()
    register_error_handlers(app)

    async def count() -> AsyncIterator[bytes]:
        yield b"1"
        raise LookupError("secret-of-the-house")

    @app.get("/items/{item_id}")
    async def show(item_id: str, request: Request) -> str:
        return f"{item_id} {request.state.request_id}"

    @app.get("/fault")
    async def fault() -> None:
        raise LookupError("secret-of-the-house")

    @app.get("/spoilt")
    async def spoilt() -> StreamingResponse:
        return StreamingResponse(count())

    @app.post("/any")
    async def take_any(body: dict[str, Any]) -> dict[str, Any]:
        return body

    assert all(map(callable, (show, fault, spoilt, take_any)))
    return app


def logged() -> AbstractContextManager[list[MutableMapping[str, Any]]]:
    return structlog.testing.capture_logs([structlog.contextvars.merge_contextvars])


class TestBody:
    async def test_at_the_limit_reaches_the_app_whole(self) -> None:
        body = json.dumps("x" * 998).encode()
        async with client_of(Guard(echo, limits=LIMITS)) as client:
            answer = await client.post("/", content=body, headers={"Content-Type": "text/json"})
            assert answer.status_code == 415
            answer = await client.post(
                "/", content=body, headers={"Content-Type": "application/json"}
            )
        assert answer.content == body

    async def test_in_chunks_reaches_the_app_whole(self) -> None:
        head = request_head("POST", "/", JSON, CLOSE, "Transfer-Encoding: chunked")
        async with serve(Guard(echo, limits=LIMITS)) as port:
            answer = await exchange(
                port, head, b'4\r\n"abc\r\n', b'4\r\ndef"\r\n', b"0\r\n\r\n", pause_s=0.02
            )
        assert (answer.status, answer.body) == (200, b'8\r\n"abcdef"\r\n0\r\n\r\n')

    async def test_announced_too_large_is_refused_at_once(self) -> None:
        head = request_head("POST", "/", JSON, "Content-Length: 1000000000")
        async with serve(Guard(echo, limits=LIMITS)) as port:
            answer = await exchange(port, head)
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["connection"] == "close"

    async def test_that_grows_too_large_is_refused(self) -> None:
        head = request_head("POST", "/", JSON, "Transfer-Encoding: chunked")
        chunk = b"190\r\n" + b" " * 400 + b"\r\n"
        async with serve(Guard(echo, limits=LIMITS)) as port:
            answer = await exchange(port, head, chunk, chunk, chunk)
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")

    async def test_too_large_of_a_client_that_only_listens_afterwards_is_answered(self) -> None:
        size = 5_000_000
        head = request_head("POST", "/", JSON, f"Content-Length: {size}")
        async with serve(Guard(echo, limits=LIMITS)) as port:
            answer = await exchange(port, head, b"x" * size)
        assert answer.status == 413

    async def test_with_a_whole_conversation_may_be_larger_where_that_is_meant(self) -> None:
        guard = Guard(echo, limits=HISTORY_LIMITS, histories=("/v1/",))
        body = json.dumps("x" * 2_500).encode()
        headers = {"Content-Type": "application/json"}
        async with client_of(guard) as client:
            assert (await client.post("/v1/x", content=body, headers=headers)).content == body
            answer = await client.post("/v1/x", content=body * 2, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert (await client.post("/x", content=body, headers=headers)).status_code == 413

    async def test_large_ones_together_have_a_limit(self) -> None:
        guard = Guard(echo, limits=HISTORY_LIMITS, histories=("/v1/",))
        head = request_head("POST", "/v1/x", JSON, "Content-Length: 2500")
        async with serve(guard) as port:
            waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for _, writer in waiting:
                writer.write(head)
                await writer.drain()
            answer = await exchange(port, head)
            while answer.status != 503:
                # The two before it may have been read later.
                answer = await exchange(port, head)
            assert answer.json()["code"] == "too_many_large_bodies"
            assert answer.headers["retry-after"] == "1"
            for _, writer in waiting:
                writer.close()
            body = json.dumps("x" * 2_498).encode()
            again = request_head("POST", "/v1/x", JSON, CLOSE, "Content-Length: 2500")
            # Until the server has noticed that the two have left.
            while (answer := await exchange(port, again, body)).status == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert body in answer.body

    async def test_too_large_of_a_get_is_refused_too(self) -> None:
        async with client_of(Guard(echo, limits=LIMITS)) as client:
            answer = await client.request("GET", "/", content=b"x" * 1001)
        assert answer.status_code == 413

    async def test_of_a_get_never_reaches_the_app(self) -> None:
        head = request_head("GET", "/", CLOSE, "Transfer-Encoding: chunked")
        chunk = b"190\r\n" + b"x" * 400 + b"\r\n"
        async with serve(Guard(echo, limits=LIMITS)) as port:
            answer = await exchange(port, head, chunk * 10 + b"0\r\n\r\n")
        assert (answer.status, answer.body) == (200, b"0\r\n\r\n")

    async def test_with_an_absurd_length_is_refused(self) -> None:
        async with client_of(Guard(echo, limits=LIMITS)) as client:
            answer = await client.post("/", headers={"Content-Length": "9" * 5000})
        assert answer.status_code == 413

    async def test_that_does_not_come_in_time_is_given_up(self) -> None:
        head = request_head("POST", "/", JSON, "Content-Length: 100")
        async with serve(Guard(echo, limits=LIMITS)) as port:
            answer = await exchange(port, head, b'{"a":')
        assert (answer.status, answer.json()["code"]) == (408, "body_timeout")

    async def test_that_drips_is_given_up(self) -> None:
        head = request_head("POST", "/", JSON, "Content-Length: 100")
        answer = b""
        async with serve(Guard(echo, limits=LIMITS)) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head)
            for _ in range(100):
                writer.write(b" ")
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        answer = await reader.readline()
                        break
            writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")

    async def test_of_a_client_that_leaves_never_reaches_the_app(self) -> None:
        reached: list[Scope] = []

        async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
            reached.append(scope)

        head = request_head("POST", "/", JSON, "Content-Length: 100")
        with logged() as logs:
            async with serve(Guard(app)) as port:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(head + b'{"a":')
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.close()
                await writer.wait_closed()
                while not logs:  # noqa: ASYNC110  the server's side of the connection tells nobody
                    await asyncio.sleep(0.01)
        assert reached == []
        assert [(line["event"], line["status"]) for line in logs] == [("request", 499)]

    async def test_of_an_exempt_path_may_be_anything(self) -> None:
        guard = Guard(echo, limits=LIMITS, raw_prefixes=("/files/",))
        async with client_of(guard) as client:
            assert (await client.put("/files/1", content=b"\xff\0")).content == b"\xff\0"
            assert (await client.put("/files/1", content=b"x" * 1001)).status_code == 413
            assert (await client.put("/other", content=b"\xff\0")).status_code == 415


class TestMediaType:
    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json",
            "Application/JSON; Charset=UTF-8",
            'application/json;charset="utf-8"',
            "application/merge-patch+json",
        ],
    )
    async def test_json_in_utf_8_passes(self, content_type: str) -> None:
        async with client_of(Guard(echo)) as client:
            answer = await client.patch("/", content=b"{}", headers={"Content-Type": content_type})
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Content-Type": ""},
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Type": "application/jsonp"},
            {"Content-Type": "application/json; charset=latin-1"},
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        ],
    )
    async def test_anything_else_is_refused(self, headers: dict[str, str]) -> None:
        async with client_of(Guard(echo)) as client:
            answer = await client.post("/", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")

    @pytest.mark.parametrize("method", ["POST", "DELETE", "GET", "HEAD", "OPTIONS"])
    async def test_no_body_needs_none(self, method: str) -> None:
        async with client_of(Guard(echo)) as client:
            assert (await client.request(method, "/")).status_code == 200


class TestJson:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            (b'{"m":[{"content":"\\ud800"}]}', "body.m[0].content"),
            (b'{"a":1e999}', "body.a"),
            (b"[[[[[[1]]]]]]", "body[0][0][0][0][0]"),
            (b"[" + b"1," * 60 + b"1]", "body[49]"),
            (b'{"password":"hunter2', "body.password"),
        ],
    )
    async def test_that_is_not_strict_is_refused_by_name(self, body: bytes, field: str) -> None:
        async with client_of(Guard(echo, limits=LIMITS)) as client:
            answer = await client.post(
                "/", content=body, headers={"Content-Type": "application/json"}
            )
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_json")
        assert answer.json()["errors"][0]["field"] == field
        assert "hunter2" not in answer.text

    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()))
    async def test_whatever_it_is_makes_no_fault(self, body: bytes) -> None:
        with logged():
            async with client_of(Guard(api())) as client:
                answer = await client.post(
                    "/any", content=body, headers={"Content-Type": "application/json"}
                )
        assert answer.status_code in (200, 422)
        assert "detail" in answer.json() or answer.status_code == 200


class TestTarget:
    async def test_a_broken_query_is_refused(self) -> None:
        async with serve(Guard(echo)) as port:
            answer = await exchange(port, request_head("GET", "/?a=%00", CLOSE))
        assert (answer.status, answer.json()["code"]) == (422, "invalid_query")

    async def test_a_broken_path_is_not_found(self) -> None:
        async with serve(Guard(echo)) as port:
            answer = await exchange(port, request_head("GET", "/%ff", CLOSE))
        assert (answer.status, answer.json()["code"]) == (404, "route_not_found")

    async def test_a_long_target_is_refused(self) -> None:
        head = request_head("POST", "/?" + "a" * 20_000, JSON, "Content-Length: 10")
        async with serve(Guard(echo)) as port:
            answer = await exchange(port, head)
        assert (answer.status, answer.json()["code"]) == (414, "target_too_long")


class TestAnswer:
    async def test_carries_its_request_id_and_the_protecting_headers(self) -> None:
        async with serve(Guard(api())) as port:
            answer = await exchange(
                port, request_head("GET", "/items/7", CLOSE, "X-Request-ID: from-outside")
            )
        assert answer.body == b'"7 from-outside"'
        assert answer.headers["x-request-id"] == "from-outside"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers

    @pytest.mark.parametrize("target", ["/nowhere", "/fault", "/?a=%00"])
    async def test_of_every_error_carries_them_too(self, target: str) -> None:
        with logged():
            async with serve(Guard(api())) as port:
                answer = await exchange(port, request_head("GET", target, CLOSE))
        assert len(answer.headers["x-request-id"]) == 36
        assert answer.headers["x-frame-options"] == "DENY"
        assert {"detail", "code"} <= answer.json().keys()


class TestFault:
    async def test_is_a_500_that_says_nothing_and_a_log_line_that_says_all(self) -> None:
        with logged() as logs:
            async with serve(Guard(api())) as port:
                answer = await exchange(port, request_head("GET", "/fault", CLOSE))
        assert answer.status == 500
        assert answer.json() == {"detail": "Internal server error", "code": "internal_error"}
        (line,) = [line for line in logs if line["event"] == "unhandled exception"]
        assert line["request_id"] == answer.headers["x-request-id"]
        assert isinstance(line["exc_info"], LookupError)

    async def test_of_an_app_without_handlers_is_answered_alike(self) -> None:
        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise LookupError("secret-of-the-house")

        with logged():
            async with client_of(Guard(app)) as client:
                answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")

    async def test_of_the_domain_is_answered_as_what_it_is(self) -> None:
        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise Draining

        with logged() as logs:
            async with client_of(Guard(app)) as client:
                answer = await client.get("/")
        assert (answer.status_code, answer.json()["code"]) == (503, "draining")
        assert answer.headers["retry-after"] == "1"
        assert [line["event"] for line in logs] == ["request"]

    async def test_in_the_middle_of_an_answer_cuts_the_connection(self) -> None:
        with logged() as logs:
            async with serve(Guard(api())) as port:
                answer = await exchange(port, request_head("GET", "/spoilt"))
        assert answer.status == 200
        assert answer.body == b"1\r\n1\r\n"  # no last chunk: it cannot be taken for whole
        assert "unhandled exception" in [line["event"] for line in logs]


class TestAccessLog:
    async def test_names_the_route_and_neither_query_nor_body(self) -> None:
        with logged() as logs:
            async with client_of(Guard(api())) as client:
                await client.get(
                    "/items/7?prompt=hunter2",
                    headers={"X-Request-ID": "r-9", "Authorization": "Bearer hunter2"},
                )
        (line,) = logs
        assert line.pop("duration_ms") >= 0
        assert line == {
            "event": "request",
            "log_level": "info",
            "method": "GET",
            "route": "/items/{item_id}",
            "status": 200,
            "request_id": "r-9",
        }

    async def test_names_a_path_without_a_route_as_nothing_a_terminal_obeys(self) -> None:
        with logged() as logs:
            async with client_of(Guard(api())) as client:
                await client.get("/%1b%5d0;owned%07%c2%9b%e2%80%ae%0a/" + "a" * 500)
        assert logs[0]["route"].startswith("/%1B%5D0;owned%07%C2%9B%E2%80%AE%0A/aaa")
        assert len(logs[0]["route"]) == 200

    async def test_leaves_no_request_id_behind(self) -> None:
        with logged():
            async with client_of(Guard(echo)) as client:
                await client.get("/")
        assert structlog.contextvars.get_contextvars() == {}


async def never_called(message: Message) -> None:
    raise AssertionError(message)


async def test_the_lifespan_passes_untouched() -> None:
    seen: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        seen.append(await receive())

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    await Guard(app)({"type": "lifespan"}, receive, never_called)
    assert seen == [{"type": "lifespan.startup"}]
