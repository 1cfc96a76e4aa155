"""R: the least that can stand between a model and its reader: bytes in, bytes out.

Plain ASGI over aiohttp; nothing is parsed, stored, numbered or resumed.
"""

import os

import aiohttp
from starlette.types import Receive, Scope, Send

from benchmarks.yardsticks.serving import serve

HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


async def read_body(receive: Receive) -> bytes:
    """Return all of a request's body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


class Relay:
    """Passes an answer on as it comes."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._url = f"{os.environ['OPENAI_BASE_URL']}/chat/completions"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert scope["type"] == "http", "it has no lifespan"
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        body = await read_body(receive)
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._url, data=body, headers=headers) as response:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            async for piece in response.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    serve(Relay())
