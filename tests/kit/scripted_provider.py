"""A provider of language models that does what its script says, lies included.

It speaks OpenAI's chat completions and embeddings over real sockets and writes down every call. A
script is a JSON object: the one that follows `script:` in the last user message, else the one
registered for the model's name, else none, which answers with `DEFAULT_TEXT`.

In a test: `async with ScriptedProvider() as provider: … provider.base_url, provider.calls`.
As a process: `python -m tests.kit.scripted_provider --port 0 --log FILE` prints its port.
"""

import argparse
import asyncio
import json
import socket
import struct
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from aiohttp import web

from .provider_script import (
    Json,
    Script,
    cut_at_words,
    finish_reason,
    pieces,
    rest_of,
    said,
    script_of,
    whole_completion,
    whole_embeddings,
)

END_OF_STREAM = b"data: [DONE]\n\n"
MARKER = "script:"
"""In a user message, what follows it is the script of the answer."""


@dataclass
class Call:
    """One request for an answer, and what became of it."""

    time: str
    model: str
    messages: list[Json]
    body: Json
    headers: dict[str, str]
    tokens_sent: int = 0
    disconnected: bool = False
    """The client left before the answer ended."""
    left_at: float | None = None
    """When it did, in seconds since the epoch."""
    ended: bool = False


class BrokenOff(Exception):  # noqa: N818  it is what happened
    """The script broke the connection off."""


class ScriptedProvider:
    """The provider as a server on a port of its own.

    Args:
        port: 0 takes a free one.
        log: A file to which each call is appended as a JSON line when it has ended.
        scripts: By model name.
    """

    def __init__(
        self, *, port: int = 0, log: Path | None = None, scripts: dict[str, Json] | None = None
    ) -> None:
        self.calls: list[Call] = []
        self.connections: set[object] = set()
        """The clients' addresses, one for each connection that asked for an answer."""
        self.scripts: dict[str, Json] = scripts or {}
        self.port = port
        self._log = log
        self._failed: dict[str, int] = {}
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_post("/v1/embeddings", self._complete)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/calls", self._list_calls)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = cast("int", self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _models(self, _: web.Request) -> web.Response:
        names = ["scripted", *self.scripts]
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
        )

    async def _list_calls(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(call) for call in self.calls])

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body: Json = await request.json()
        call = Call(
            time=datetime.now(UTC).isoformat(),
            model=str(body.get("model")),
            messages=body.get("messages", []),
            body={name: value for name, value in body.items() if name != "messages"},
            headers=dict(request.headers),
        )
        self.calls.append(call)
        self.connections.add(
            request.transport.get_extra_info("peername") if request.transport else None
        )
        try:
            response = await self._answer(request, call, self._script_of(body))
            call.ended = True
        except BrokenOff:
            return web.Response()
        except (ConnectionError, asyncio.CancelledError):
            call.disconnected, call.left_at = True, time.time()
            raise
        else:
            return response
        finally:
            self._write_down(call)

    def _script_of(self, body: Json) -> Script:
        messages: list[Json] = body.get("messages", [])
        users = [m for m in messages if m.get("role") == "user"]
        text = str(users[-1].get("content")) if users else ""
        model = str(body.get("model"))
        if MARKER in text:
            start = text.index(MARKER) + len(MARKER)
            fields, _ = json.JSONDecoder().raw_decode(text[start:].lstrip())
        else:
            fields = self.scripts.get(model, {})
        script = script_of(fields, messages)
        if script.fail_times is not None:
            failed = self._failed.get(text + model, 0)
            if failed >= script.fail_times:
                return Script(text=script.text)
            self._failed[text + model] = failed + 1
        if body.get("continue_final_message"):
            # As vLLM does: the last message is the beginning of the answer.
            return rest_of(script, str(messages[-1]["content"]))
        return script

    async def _answer(self, request: web.Request, call: Call, script: Script) -> web.StreamResponse:
        if script.accept_stall:
            await _stall()
        await asyncio.sleep(script.first_byte_delay_ms / 1000)
        if script.cut_after == -1:
            _reset(request)
        if script.status != 200:
            return _refusal(script)
        if script.html:
            return web.Response(text="<html><h1>Welcome</h1></html>", content_type="text/html")
        if request.path.endswith("/embeddings"):
            return web.json_response(whole_embeddings(call.body, script))
        if script.json_document or not call.body.get("stream"):
            call.tokens_sent = len(pieces(script))
            return web.json_response(whole_completion(call.model, script))
        stream = _Stream(request, call, script)
        await stream.send_all()
        return stream.response

    def _write_down(self, call: Call) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(call)) + "\n")


class _Stream:
    """One streamed answer."""

    def __init__(self, request: web.Request, call: Call, script: Script) -> None:
        self._request = request
        self._call = call
        self._script = script
        self.response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "x-request-id": f"req-{id(call):x}"}
        )

    async def send_all(self) -> None:
        script = self._script
        await self.response.prepare(self._request)
        await self._send(self._chunk({"role": "assistant", "content": ""}))
        if script.huge_chunk is not None:
            await self._send(self._chunk({"content": "x" * script.huge_chunk}))
        for piece in cut_at_words(script.reasoning):
            await self._send(self._chunk({"reasoning_content": piece}))
        for at, piece in enumerate(said(script)):
            if at == script.eof_after:
                return
            await self._send_piece(at, piece)
            if script.pace_ms:
                await asyncio.sleep(script.pace_ms / 1000)
        await self._send_tool_calls()
        await self._send_end()
        if script.linger:
            await _stall()

    async def _send_piece(self, at: int, piece: str) -> None:
        script = self._script
        if at == script.cut_after:
            await asyncio.sleep(0.02)
            _reset(self._request)
        if at == script.stall_after:
            await _stall()
        if at == script.malformed_at:
            await self._send_raw(b'data: {"choices": [{"delta": {"content": "half\n\n')
        if at == script.error_at:
            error = {"error": {"message": script.error_message, "type": "server_error"}}
            await self._send_raw(f"data: {json.dumps(error)}\n\n".encode())
        if at == script.raw_at:
            await self._send_raw(f"data: {script.raw}\n\n".encode())
        if script.clock:
            piece = f"{time.time():.6f} "
        content: Any = {"not": "text"} if script.wrong_types else piece
        chunk = self._chunk({"content": content})
        await self._send(chunk)
        if at == script.double_chunk_at:
            await self._send(chunk)
        self._call.tokens_sent += 1

    async def _send_tool_calls(self) -> None:
        script = self._script
        calls = list(script.tool_calls)
        if script.tool_garbage:
            calls = [{"name": "look_up", "arguments": '{"city": "Sevil'}]
        if script.tool_nameless:
            calls = [{"name": "", "arguments": "{}"}]
        for index, call in enumerate(calls):
            arguments = str(call["arguments"])
            half = len(arguments) // 2
            head = {"name": call["name"], "arguments": ""}
            first = {"index": index, "id": call.get("id", f"call_{index}"), "type": "function"}
            await self._send(self._chunk({"tool_calls": [{**first, "function": head}]}))
            for part in (arguments[:half], arguments[half:]):
                piece = {"index": index, "function": {"arguments": part}}
                await self._send(self._chunk({"tool_calls": [piece]}))

    async def _send_end(self) -> None:
        script = self._script
        if not script.no_finish:
            await self._send(self._chunk({}, finish_reason=finish_reason(script)))
        if script.usage is not None:
            usage = {"completion_tokens": self._call.tokens_sent, **script.usage}
            await self._send({**self._chunk({}), "choices": [], "usage": usage})
        if not script.no_done:
            await self._send_raw(END_OF_STREAM)

    def _chunk(self, delta: Json, finish_reason: str | None = None) -> Json:
        return {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": self._call.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }

    async def _send(self, chunk: Json) -> None:
        await self._send_raw(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode())

    async def _send_raw(self, data: bytes) -> None:
        if self._script.line_end != "\n":
            data = data.replace(b"\n", self._script.line_end.encode())
        cuts = [bytes([byte]) for byte in data] if self._script.split_utf8 else [data]
        for piece in cuts:
            await self.response.write(piece)
            if self._script.split_utf8:
                # Lets the bytes leave one by one.
                await asyncio.sleep(0)


def _refusal(script: Script) -> web.Response:
    headers: dict[str, str] = {}
    if script.retry_after is not None:
        headers["Retry-After"] = str(script.retry_after)
    body = script.error_body or json.dumps(
        {"error": {"message": f"Scripted refusal {script.status}", "type": "scripted"}}
    )
    return web.Response(
        status=script.status, text=body, headers=headers, content_type="application/json"
    )


def _reset(request: web.Request) -> None:
    """Break the connection off with a RST, as a crashed or firewalled server does."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    raise BrokenOff


async def _stall() -> None:
    """Do nothing until the client leaves, which cancels this handler."""
    await asyncio.Event().wait()


async def _serve(port: int, log: Path | None) -> None:
    async with ScriptedProvider(port=port, log=log) as provider:
        print(provider.port, flush=True)  # noqa: T201  whoever started this process reads it
        await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, default=None)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.log))


if __name__ == "__main__":
    main()
