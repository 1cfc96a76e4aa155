import pytest
import structlog
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from tertulia.http.guard import Guard

from .serving import serve


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
        assert caught.value.response.status_code == 403
