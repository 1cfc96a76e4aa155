import json

import pytest
import structlog
from fastapi import FastAPI, WebSocket
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tertulia.http.guard import Guard

from .serving import exchange, request_head, serve


def api() -> FastAPI:
    app = FastAPI()

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:  # pyright: ignore[reportUnusedFunction]
        await websocket.accept()
        if await websocket.receive_text() == "fail":
            raise LookupError("secret-of-the-house")
        await websocket.close(4000)

    return app


class TestWebSocket:
    async def test_gets_a_request_id(self) -> None:
        with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
            async with serve(Guard(api())) as port, connect(f"ws://127.0.0.1:{port}/socket") as ws:
                assert ws.response is not None
                request_id = ws.response.headers["x-request-id"]
                await ws.send("bye")
                await ws.wait_closed()
        assert ws.close_code == 4000
        (line,) = [line for line in logs if line["event"] == "request"]
        assert (line["request_id"], line["status"]) == (request_id, 101)

    async def test_whose_route_fails_is_closed_and_logged(self) -> None:
        with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
            async with serve(Guard(api())) as port, connect(f"ws://127.0.0.1:{port}/socket") as ws:
                await ws.send("fail")
                with pytest.raises(ConnectionClosedError) as caught:
                    await ws.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1011, "internal_error")
        assert logs[0]["event"] == "unhandled exception"

    async def test_with_a_broken_query_is_declined(self) -> None:
        with structlog.testing.capture_logs():
            async with serve(Guard(api())) as port:
                with pytest.raises(InvalidStatus) as caught:
                    await connect(f"ws://127.0.0.1:{port}/socket?a=%00")
        assert_refused(caught.value, 422, "invalid_query")

    async def test_to_a_path_without_one_is_declined(self) -> None:
        with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
            async with serve(Guard(api())) as port:
                with pytest.raises(InvalidStatus) as caught:
                    await connect(f"ws://127.0.0.1:{port}/elsewhere")
        request_id = assert_refused(caught.value, 404, "route_not_found")
        assert [(line["event"], line["status"], line["request_id"]) for line in logs] == [
            ("request", 404, request_id)
        ]

    async def test_whose_route_fails_before_it_accepts_is_declined(self) -> None:
        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise LookupError("secret-of-the-house")

        with structlog.testing.capture_logs():
            async with serve(Guard(app)) as port:
                with pytest.raises(InvalidStatus) as caught:
                    await connect(f"ws://127.0.0.1:{port}/")
        assert_refused(caught.value, 500, "internal_error")

    async def test_whose_handshake_is_none_is_refused(self) -> None:
        head = request_head("GET", "/socket", "Connection: Upgrade", "Upgrade: websocket")
        with structlog.testing.capture_logs() as logs:
            async with serve(Guard(api())) as port:
                answer = await exchange(port, head)
        assert (answer.status, answer.json()["code"]) == (400, "invalid_http")
        assert answer.headers["sec-websocket-version"] == "13"
        assert answer.headers["x-request-id"] == logs[0]["request_id"]


def assert_refused(error: InvalidStatus, status: int, code: str) -> str:
    """Return the request's id."""
    response = error.response
    assert response.body is not None
    assert (response.status_code, json.loads(response.body)["code"]) == (status, code)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-frame-options"] == "DENY"
    return response.headers["x-request-id"]
