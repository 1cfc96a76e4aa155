"""A real server on a free port of loopback, and clients that see every byte."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import uvicorn
from starlette.types import ASGIApp

from tertulia.http.protocol import HttpProtocol, WebSocketProtocol
from tertulia.telemetry.tasks import TaskSet


@asynccontextmanager
async def serve(
    app: ASGIApp, *, protocol: type[HttpProtocol] = HttpProtocol
) -> AsyncGenerator[int]:
    """Run the app in uvicorn as Tertulia does; give the port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws=WebSocketProtocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    tasks = TaskSet()
    running = tasks.spawn(server.serve(sockets=[listening]), name="uvicorn")
    try:
        async with asyncio.timeout(30):
            while not server.started:  # noqa: ASYNC110  uvicorn offers nothing to wait for
                await asyncio.sleep(0.005)
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listening.close()


def client_of(app: ASGIApp, *, base_url: str = "http://test") -> httpx2.AsyncClient:
    """Return a client that calls the app without a socket."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=base_url)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


def request_head(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


async def exchange(port: int, *parts: bytes, pause_s: float = 0.0) -> Answer:
    """Send the parts as they are, with a pause between them; read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        async with asyncio.timeout(10):
            return parse_answer(await reader.read())
    finally:
        writer.close()


def parse_answer(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(status_line.split()[1]), headers, body)
