"""The way of an answer from the application back to its client."""

import asyncio

from starlette.responses import Response
from starlette.types import Message, Send

from tertulia.http.errors import error_response
from tertulia.http.headers import AnswerHeaders

_WS_POLICY_VIOLATION = 1008
_WS_ACCEPTED_STATUS = 101
_WS_DECLINED_STATUS = 403


class Answer:
    """The way back to the client: completes headers and remembers how far the answer is."""

    __slots__ = (
        "_headers",
        "_send",
        "_waiting",
        "can_decline",
        "is_closed",
        "is_finished",
        "start_limit",
        "status",
    )

    def __init__(self, send: Send, headers: AnswerHeaders, waiting: "set[Answer]") -> None:
        self._send = send
        self._headers = headers
        self._waiting = waiting
        self.start_limit: asyncio.Timeout | None = None
        """Lifted when the answer begins."""
        self.status: int | None = None
        """None until the answer has begun; 101 for an accepted WebSocket."""
        self.is_finished = False
        self.is_closed = False
        """Whether a WebSocket has been closed from this side."""
        self.can_decline = False
        """Whether the server lets a WebSocket's handshake be answered in words."""

    @property
    def is_unfinished(self) -> bool:
        """Whether the answer has begun and not ended."""
        return self.status is not None and not self.is_finished

    async def send(self, message: Message) -> None:
        """Pass on what the application sends."""
        match message["type"]:
            case "http.response.body":
                await self._send(message)
                self.is_finished = not message.get("more_body", False)
                return
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                self.take_time()
                headers = self._headers.complete(message.get("headers", ()))
                message = {**message, "headers": headers}
            case "websocket.accept":
                self.status = _WS_ACCEPTED_STATUS
                headers = [*message.get("headers", ()), self._headers.request_id]
                message = {**message, "headers": headers}
            case "websocket.close" if self.status is None and self.can_decline:
                # Closed before it was accepted: there is no such route.
                await self.decline(error_response(404, "route_not_found", "Not Found"))
                return
            case "websocket.close":
                self.is_closed = True
                self.status = self.status or _WS_DECLINED_STATUS
            case _:
                pass
        await self._send(message)

    def take_time(self) -> None:
        """Let the answer begin whenever it will: what it waits for now has limits of its own."""
        self._waiting.discard(self)
        if self.start_limit is not None and not self.start_limit.expired():
            self.start_limit.reschedule(None)

    async def give(self, response: Response) -> None:
        """Send a whole answer of the guard's own."""
        await self.start(response)
        await self.finish()

    async def start(self, response: Response) -> None:
        """Send an answer of the guard's own, and leave the exchange open."""
        status, headers = response.status_code, response.raw_headers
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        body = bytes(response.body)
        await self.send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self) -> None:
        """End the exchange."""
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def close(self, code: int, reason: str) -> None:
        """Close a WebSocket."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    async def decline(self, response: Response) -> None:
        """Answer a WebSocket's handshake with an error, if the server can; else without a word."""
        if not self.can_decline:
            await self.close(_WS_POLICY_VIOLATION, "")
            return
        self.is_closed = True
        status, headers = response.status_code, response.raw_headers
        start = {"type": "websocket.http.response.start", "status": status, "headers": headers}
        await self.send(start)
        await self._send({"type": "websocket.http.response.body", "body": bytes(response.body)})
        # Uvicorn takes the handshake for unanswered until its connection is closed, a round later.
        await asyncio.sleep(0)
