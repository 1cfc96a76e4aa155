"""Anthropic's protocol, spoken by a server here, to the real SDK."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tertulia.domain.models import Delta, ModelRequest
from tertulia.llm.others import OtherProvider
from tertulia.llm.patience import Patience

from .conftest import ask

MODEL = "anthropic:claude-sonnet-5-5"
QUICK = Patience(
    connect_s=1.0, first_byte_s=2.0, stall_s=0.5, backoff_base_s=0.01, backoff_cap_s=0.01
)
Event = dict[str, Any]

START: Event = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1},
    },
}
STOP: Event = {"type": "message_stop"}


def block(index: int, content: Event, *deltas: Event) -> list[Event]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text_block(index: int, *texts: str) -> list[Event]:
    deltas = ({"type": "text_delta", "text": text} for text in texts)
    return block(index, {"type": "text", "text": ""}, *deltas)


def end(reason: str = "end_turn") -> list[Event]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 5}}, STOP]


@dataclass
class Anthropic:
    """What the next answers do, and what was asked."""

    url: str = ""
    events: list[Event] = field(default_factory=list[Event])
    status: int = 200
    fail_times: int = 1000
    stall: bool = False
    cut: bool = False
    error: str = "scripted"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """Of a refusal."""
    raw: bytes = b""
    """Sent after the events, as it is."""
    document: tuple[str, bytes] | None = None
    """A type and a body to answer with, and no stream."""
    asked: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    disconnected: bool = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        if self.status != 200 and len(self.asked) <= self.fail_times:
            error = {"type": "error", "error": {"type": "some_error", "message": self.error}}
            return web.json_response(error, status=self.status, headers=self.headers)
        if self.document is not None:
            kind, body = self.document
            return web.Response(body=body, content_type=kind)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            await response.write(data.encode())
        await response.write(self.raw)
        if self.cut and request.transport is not None:
            await asyncio.sleep(0.05)
            request.transport.abort()
        if self.stall:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.disconnected = True
                raise
        return response


@asynccontextmanager
async def scripted_anthropic() -> AsyncGenerator[Anthropic]:
    """Serve for as long as the block runs; answers "Hello" until told otherwise."""
    server = Anthropic(events=[START, *text_block(0, "Hel", "lo"), *end()])
    app = web.Application()
    app.router.add_post("/v1/messages", server.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@asynccontextmanager
async def provider_of(server: Anthropic) -> AsyncGenerator[OtherProvider]:
    """Ask that server."""
    options = {"api_key": "sk-ant-secret-key", "base_url": server.url}
    provider = OtherProvider("anthropic", options, patience=QUICK)
    yield provider
    await provider.close()


async def answer(provider: OtherProvider, request: ModelRequest | None = None) -> list[Delta]:
    """Return a whole answer."""
    return [delta async for delta in provider.stream(request or ask(model=MODEL))]
