"""O: the relay that most people write: the openai SDK's iterator, one event for each token."""

import json
import os

from openai import AsyncOpenAI
from starlette.types import Receive, Scope, Send

from benchmarks.yardsticks.relay import HEADERS, read_body
from benchmarks.yardsticks.serving import serve

_client = AsyncOpenAI(base_url=os.environ.get("OPENAI_BASE_URL"), api_key="none")


async def relay(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask, and pass each piece of text on."""
    assert scope["type"] == "http", "it has no lifespan"
    asked = json.loads(await read_body(receive))
    stream = await _client.chat.completions.create(
        model=asked["model"], messages=asked["messages"], stream=True
    )
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    async for chunk in stream:
        text = chunk.choices[0].delta.content if chunk.choices else None
        if text:
            event = b"data: " + json.dumps({"delta": text}).encode() + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    serve(relay)
