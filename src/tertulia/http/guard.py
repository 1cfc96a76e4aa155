"""The guard: the ASGI application in front of all others.

It lets in only requests that everything behind it can handle, so that no input makes a 500, gives
every answer its request id and security headers, and writes one log line a request. It is pure
ASGI: an answer streams through it untouched.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from tertulia.domain.errors import OutcomeUnknown, Overloaded, TertuliaError, Unavailable
from tertulia.http.answer import Answer
from tertulia.http.body import (
    ClientLeft,
    announced_bytes,
    check_announced_size,
    check_media_type,
    discard_body,
    is_announced,
    read_body,
    replay,
)
from tertulia.http.errors import (
    Refused,
    internal_error_response,
    refusal_response,
    response_for,
)
from tertulia.http.headers import AnswerHeaders, request_id_of
from tertulia.http.strict_json import JsonLimits, check_json
from tertulia.http.target import check_target

_BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_ALIVE_PATH = "/health"
# Whoever asks might restart a server that is merely busy.
_TOOK_TOO_LONG = "This took too long and was given up; try again"
_MAY_HAVE_HAPPENED = (
    "This took too long and was given up, and may have been done all the same; "
    "repeat it with the same Idempotency-Key, or look first"
)
_CLIENT_LEFT_STATUS = 499
# nginx's name, in logs only, for a request whose client did not wait for the answer.
_WS_INTERNAL_ERROR = 1011
_PATH_LOGGED_CHARS = 200
_PATH_CHARS = "/:@!$&'()*+,;=~"
# What a path may hold as it is (RFC 3986, section 3.3).


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """What the guard lets in."""

    body_bytes: int = 1024 * 1024
    body_deadline_s: float = 15.0
    """From the head of the request to the last byte of its body."""
    answer_s: float = 6.5
    """From there until an answer begins: what a request waits for (connections, locks, statements)
    has a limit each, and this is the limit of their sum (promise G-22). A stream may last."""
    deletion_s: float = 35.0
    """The same for DELETE, the one thing that takes as long as there is much to delete."""
    waiting_requests: int = 1200
    """That wait for the beginning of their answer, at once. One more is turned away on the spot,
    for a tenth of what serving it would cost: it would run into its limits in the queue."""
    target_bytes: int = 16 * 1024
    """Of path and query string together."""
    linger_s: float = 2.0
    """How long a refused client that is still sending is listened to, so that it sees why."""
    json: JsonLimits = field(default_factory=JsonLimits)
    history_bytes: int = 8 * 1024 * 1024
    """Of a body that may hold a whole conversation, if its head says how large it is."""
    histories_bytes: int = 512 * 1024 * 1024
    """Of all bodies together that are larger than `body_bytes`; they stay until their answer has
    ended."""
    history_json: JsonLimits = field(default_factory=lambda: JsonLimits(values=100_000))
    """The same; checking it takes at most some tenths of a second, in a thread."""


class Guard:
    """The outermost ASGI application: `Guard(app)` is what the server runs.

    Args:
        app: What stands behind it.
        limits: Sizes and times.
        raw_prefixes: Paths under which a body need not be JSON; size and time hold there too.
        histories: Paths under which clients send whole conversations, pictures included.
        writing_reads: Paths of GET requests that store something all the same.
        streams: Paths whose answers end when something else does, and of which there is no HEAD.
        docs_paths: Pages that load scripts and styles, and get a policy that lets them.
        until_ready: Waits, or raises what is to be answered, while what stands behind has no use
            for another request. Whether the process is alive is told without it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: GuardLimits | None = None,
        raw_prefixes: Sequence[str] = (),
        histories: Sequence[str] = (),
        writing_reads: Sequence[str] = (),
        streams: re.Pattern[str] | None = None,
        docs_paths: Sequence[str] = ("/docs", "/docs/oauth2-redirect", "/redoc"),
        until_ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._app = app
        self._limits = limits or GuardLimits()
        self._raw_prefixes = tuple(raw_prefixes)
        self._histories = tuple(histories)
        self._docs_paths = frozenset(docs_paths)
        self._writing_reads = frozenset(writing_reads)
        self._streams = streams
        self._until_ready = until_ready
        self._histories_bytes = 0
        """Of the bodies larger than most may be that are being read or answered."""
        self._waiting: set[Answer] = set()
        """Answers that have not begun."""
        self._log: FilteringBoundLogger = structlog.get_logger("tertulia.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the server, or its lifespan."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        headers = AnswerHeaders(scope, request_id, docs_paths=self._docs_paths)
        answer = Answer(send, headers, self._waiting)
        started = time.perf_counter()
        method: str = scope.get("method", "WEBSOCKET")
        if method == "HEAD" and not (self._streams and self._streams.fullmatch(scope["path"])):
            # The answer of a GET, of which the server sends no body (RFC 9110, section 9.3.2).
            scope = {**scope, "method": "GET"}
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if scope["type"] == "http":
                    await self._serve_http(scope, receive, answer)
                else:
                    await self._serve_websocket(scope, receive, answer)
            finally:
                self._log_access(method, scope, answer, time.perf_counter() - started)

    async def _serve_http(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        limits = self._limits
        length = announced_bytes(scope) if self._takes_history(scope) else 0
        large_bytes = length if limits.body_bytes < length <= limits.history_bytes else 0
        self._histories_bytes += large_bytes
        try:
            await self._read_and_answer(scope, receive, answer, large_bytes=large_bytes)
        finally:
            self._histories_bytes -= large_bytes

    async def _read_and_answer(
        self, scope: Scope, receive: Receive, answer: Answer, *, large_bytes: int
    ) -> None:
        try:
            body = await self._read(scope, receive, large_bytes=large_bytes)
        except ClientLeft:
            return
        except Refused as refusal:
            await self._refuse_unread(refusal, scope, receive, answer)
            return
        try:
            await self._check_body(scope, body)
        except Refused as refusal:
            await answer.give(refusal_response(refusal))
            return
        if len(self._waiting) >= self._limits.waiting_requests and scope["path"] != _ALIVE_PATH:
            await answer.give(response_for(Overloaded()))
            return
        admitted = receive if body is None else replay(body, receive)
        self._waiting.add(answer)
        scope["state"]["take_time"] = answer.take_time
        try:
            await self._answer_in_time(scope, admitted, answer)
        except Exception as error:  # noqa: BLE001  whatever escapes is logged and answered here
            await self._fail(error, answer)
        finally:
            self._waiting.discard(answer)

    async def _answer_in_time(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        """Serve, but give up what has not begun to answer in time.

        Raises:
            Unavailable: It was given up; `OutcomeUnknown` if it may have changed something.
        """
        deletes = scope["method"] == "DELETE"
        deadline = asyncio.timeout(self._limits.deletion_s if deletes else self._limits.answer_s)
        try:
            async with deadline:
                answer.start_limit = deadline
                if self._until_ready is not None and scope["path"] != _ALIVE_PATH:
                    await self._until_ready()
                await self._app(scope, receive, answer.send)
        except TimeoutError:
            if not deadline.expired():
                raise
            if scope["method"] in _BODY_METHODS or scope["path"] in self._writing_reads:
                raise OutcomeUnknown(_MAY_HAVE_HAPPENED) from None
            raise Unavailable(_TOOK_TOO_LONG) from None
        finally:
            answer.start_limit = None

    async def _read(self, scope: Scope, receive: Receive, *, large_bytes: int) -> bytes | None:
        """Return the body to pass on; None if there is none. That of a GET is left out."""
        limits = self._limits
        check_target(scope, limit_bytes=limits.target_bytes)
        is_history = self._takes_history(scope) and announced_bytes(scope) > 0
        limit_bytes = limits.history_bytes if is_history else limits.body_bytes
        check_announced_size(scope, limit_bytes=limit_bytes)
        if large_bytes and self._histories_bytes > limits.histories_bytes:
            raise Refused("too_many_large_bodies", "Other large requests are at work; try again")
        if scope["method"] not in _BODY_METHODS:
            return b"" if is_announced(scope) else None
        return await read_body(receive, limit_bytes=limit_bytes, deadline_s=limits.body_deadline_s)

    async def _check_body(self, scope: Scope, body: bytes | None) -> None:
        if not body or scope["path"].startswith(self._raw_prefixes):
            return
        check_media_type(scope)
        limits = self._limits
        allowed = limits.history_json if self._takes_history(scope) else limits.json
        if len(body) > limits.body_bytes:
            # So large only what holds a history may be.
            await asyncio.to_thread(check_json, body, allowed)
        else:
            check_json(body, allowed)

    def _takes_history(self, scope: Scope) -> bool:
        return scope["path"].startswith(self._histories)

    async def _refuse_unread(
        self, refusal: Refused, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        """Answer at once though a body may still be on its way, then close the connection."""
        response = refusal_response(refusal)
        if not is_announced(scope):
            await answer.give(response)
            return
        response.headers["Connection"] = "close"
        await answer.start(response)
        if refusal.code != "body_timeout":
            await discard_body(receive, deadline_s=self._limits.linger_s)
        await answer.finish()

    async def _fail(self, error: Exception, answer: Answer) -> None:
        """Answer an exception that nobody handled, or cut an answer that it has spoilt.

        An answer that has begun is left unfinished: the server closes its connection, so the
        client cannot take it for whole.
        """
        if isinstance(error, TertuliaError) and not answer.is_unfinished:
            if answer.status is None:
                await answer.give(response_for(error))
            return
        self._log.error("unhandled exception", exc_info=error)
        if answer.status is None:
            await answer.give(internal_error_response())

    async def _serve_websocket(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        answer.can_decline = "websocket.http.response" in (scope.get("extensions") or {})
        try:
            check_target(scope, limit_bytes=self._limits.target_bytes)
        except Refused as refusal:
            await receive()  # the handshake, which must be read before it is declined
            await answer.decline(refusal_response(refusal))
            return
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:  # noqa: BLE001  whatever escapes is logged and closed here
            self._log.error("unhandled exception", exc_info=error)
            if answer.status is None:
                await answer.decline(internal_error_response())
            elif not answer.is_closed:
                await answer.close(_WS_INTERNAL_ERROR, "internal_error")

    def _log_access(self, method: str, scope: Scope, answer: Answer, duration_s: float) -> None:
        # The route's pattern where there is one; never the query, which may hold a prompt.
        route = getattr(scope.get("route"), "path", None) or _encoded_path(scope)
        self._log.info(
            "request",
            method=method,
            route=route,
            status=int(answer.status or _CLIENT_LEFT_STATUS),
            duration_ms=round(duration_s * 1000, 1),
        )


def _encoded_path(scope: Scope) -> str:
    path: str = scope["path"][:_PATH_LOGGED_CHARS]
    return quote(path, safe=_PATH_CHARS, errors="replace")[:_PATH_LOGGED_CHARS]
