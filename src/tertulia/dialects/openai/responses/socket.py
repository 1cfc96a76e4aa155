"""`/v1/responses` over a WebSocket: one turn after the other on one connection.

A turn begins with `response.create` and ends with the last event of its response. What was not to
be stored can be gone on from for as long as the connection lasts, and is deleted with it.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, aclosing, suppress
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from tertulia.auth.service import AuthService
from tertulia.dialects.openai.errors import error_of, translated_error
from tertulia.dialects.openai.ids import parse_response_id
from tertulia.dialects.openai.responses.events import Event, response_events
from tertulia.dialects.openai.responses.request import ResponseTurn
from tertulia.dialects.openai.responses.service import Responses
from tertulia.dialects.waiting import Waited
from tertulia.domain.errors import Invalid, NotFound, Overloaded, TertuliaError, Unauthenticated
from tertulia.domain.runs import Run
from tertulia.http.errors import Refused, refusal_response, response_for, validation_response
from tertulia.http.sockets import Sockets
from tertulia.http.strict_json import JsonLimits, check_json
from tertulia.runs.service import Started
from tertulia.runs.wire import refusal

_TURNS_WAITING_MAX = 16
"""Sent before the turns before them have ended."""
_WAITING_CHARS_MAX = 2 * 1024 * 1024
_TOO_MANY_TURNS = "Too many turns wait here to be answered; send one when another has ended"
_UNSTORED_MAX = 100
"""Responses that were not to be stored, of one connection."""
_CONNECTION_S = 60 * 60.0
"""As OpenAI has it."""
_BURST_FRAMES = 32
# As in `http.sse`: sending waits for nothing while the client takes what comes.
_NORMAL_CLOSURE = 1000
_POLICY_VIOLATION = 1008
_encode = msgspec.json.Encoder().encode

router = APIRouter()
log = structlog.get_logger(__name__)


class _Closing(Exception):  # noqa: N818  named for what happens
    """The connection ends, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


@router.websocket("/v1/responses")
async def respond(websocket: WebSocket) -> None:
    """Serve one WebSocket; its handshake carries `Authorization: Bearer …`."""
    state = websocket.app.state
    auth: AuthService = state.auth
    sockets: Sockets = state.sockets
    with ExitStack() as counted:
        try:
            token = _token(websocket)
            user_id = (await auth.authenticate(token)).user.id
            counted.enter_context(sockets.opened(user_id))
        except TertuliaError as error:
            await websocket.send_denial_response(response_for(error))
            return
        await websocket.accept()
        await _serve(_Session(websocket, state.responses, user_id, sockets), auth, token)


async def _serve(session: "_Session", auth: AuthService, token: str) -> None:
    try:
        await session.serve(auth, token)
    except* (WebSocketDisconnect, RuntimeError):
        pass  # Gone, perhaps while something was being sent.
    except* _Closing as closing:
        end = closing.exceptions[0]
        assert isinstance(end, _Closing)
        await session.close(end.code, end.reason)
    finally:
        await session.forget()


class _Session:
    """One connected client."""

    def __init__(
        self, websocket: WebSocket, responses: Responses, user_id: UUID, sockets: Sockets
    ) -> None:
        self._websocket = websocket
        self._responses = responses
        self._user_id = user_id
        self._sockets = sockets
        self._turns: asyncio.Queue[str | None] = asyncio.Queue()
        self._waiting_chars = 0
        """Of the turns that have not ended."""
        self._unstored: dict[UUID, UUID] = {}
        """Runs that were not to be stored, and their conversations."""
        self._sending = asyncio.Lock()

    async def serve(self, auth: AuthService, token: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_checking(auth, token))
            group.create_task(self._end_in_time())
            group.create_task(self._take_turns())
            while True:
                try:
                    text = await self._websocket.receive_text()
                except KeyError:
                    text = None
                # Never waiting: whoever does not listen does not hear that the client has left.
                chars = len(text or "")
                if (
                    self._turns.qsize() >= _TURNS_WAITING_MAX
                    or self._waiting_chars + chars > _WAITING_CHARS_MAX
                    or not self._sockets.take_in(chars)
                ):
                    await self._send(error_of(Overloaded(_TOO_MANY_TURNS)))
                    continue
                self._waiting_chars += chars
                self._turns.put_nowait(text)

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye, if somebody is there to hear it."""
        with suppress(RuntimeError, WebSocketDisconnect):
            await self._websocket.close(code, reason)

    async def forget(self) -> None:
        """Give back what it took, and delete what was not to be stored."""
        self._sockets.let_go(self._waiting_chars)
        for conversation_id in set(self._unstored.values()):
            await self._delete(conversation_id)

    async def _take_turns(self) -> None:
        while True:
            text = await self._turns.get()
            try:
                await self._take_turn(_parsed(text))
            except Refused as refused:
                await self._send(translated_error(refusal_response(refused)))
            except ValidationError as error:
                await self._send(translated_error(validation_response(error)))
            except TertuliaError as error:
                await self._send(error_of(error))
            self._waiting_chars -= len(text or "")
            self._sockets.let_go(len(text or ""))

    async def _take_turn(self, asked: ResponseTurn) -> None:
        went_well = False
        try:
            run = await self._start(asked)
            if asked.store is False:
                await self._remember(run.id, run.conversation_id)
            waited = Waited(self._responses.runs, self._responses.conversations, run, self._user_id)
            try:
                went_well = await self._tell(response_events(run, waited.follow()), asked)
            finally:
                await waited.leave()
        finally:
            if not went_well and asked.previous_response_id is not None:
                # What could not be gone on from is not gone on from again (Open Responses).
                with suppress(NotFound):
                    await self._evict(parse_response_id(asked.previous_response_id))

    async def _start(self, asked: ResponseTurn) -> Run:
        """Start the turn's run; one whose client leaves meanwhile is ended."""
        tasks = self._responses.runs.executor.tasks
        starting = tasks.spawn(self._started(asked), name="start a turn")
        try:
            started = await asyncio.shield(starting)
        except asyncio.CancelledError:
            tasks.spawn(self._undo(starting, asked), name="undo a turn")
            raise
        if isinstance(started, TertuliaError):
            raise started
        return started.run

    async def _started(self, asked: ResponseTurn) -> Started | TertuliaError:
        """Return what began, or why nothing did: the client is told, and no task has failed."""
        try:
            return await self._responses.start(
                asked,
                user_id=self._user_id,
                unstored=self._unstored.keys(),
                prepares=asked.generate is False,
            )
        except TertuliaError as error:
            return error

    async def _undo(
        self, starting: "asyncio.Task[Started | TertuliaError]", asked: ResponseTurn
    ) -> None:
        await asyncio.wait({starting})
        if starting.exception() is None and isinstance(begun := starting.result(), Started):
            run, services = begun.run, self._responses
            is_temporary = asked.store is False and run.conversation_id not in (
                self._unstored.values()
            )
            waited = Waited(services.runs, services.conversations, run, self._user_id, is_temporary)
            await waited.leave()

    async def _tell(self, events: AsyncGenerator[Event, None], asked: ResponseTurn) -> bool:
        """Send a turn's events; return whether it ended well."""
        went_well, frames = False, 0
        lane = {} if asked.stream_id is None else {"stream_id": asked.stream_id}
        async with aclosing(events):
            async for event in events:
                went_well = event["type"] in ("response.completed", "response.incomplete")
                await self._send({**event, **lane})
                frames += 1
                if frames % _BURST_FRAMES == 0:
                    await asyncio.sleep(0)
        return went_well

    async def _remember(self, run_id: UUID, conversation_id: UUID) -> None:
        self._unstored[run_id] = conversation_id
        if len(self._unstored) > _UNSTORED_MAX:
            await self._evict(next(iter(self._unstored)))

    async def _evict(self, run_id: UUID) -> None:
        conversation_id = self._unstored.pop(run_id, None)
        if conversation_id is not None and conversation_id not in self._unstored.values():
            await self._delete(conversation_id)

    async def _delete(self, conversation_id: UUID) -> None:
        try:
            await self._responses.conversations.forget(conversation_id, user_id=self._user_id)
        except NotFound:
            pass  # Somebody was faster.
        except TertuliaError as error:
            log.warning("not tidied up", conversation=str(conversation_id), code=error.code)

    async def _keep_checking(self, auth: AuthService, token: str) -> None:
        """End the connection soon after its credentials were revoked."""
        error = await refusal(partial(auth.authenticate, token))
        await self._send(error_of(error))
        raise _Closing(_POLICY_VIOLATION, error.code) from error

    async def _end_in_time(self) -> None:
        await asyncio.sleep(_CONNECTION_S)
        reached = {
            "type": "invalid_request_error",
            "code": "websocket_connection_limit_reached",
            "message": "A connection lasts 60 minutes; open a new one",
            "param": None,
        }
        await self._send({"type": "error", "status": 400, "error": reached})
        raise _Closing(_NORMAL_CLOSURE, "connection limit reached")

    async def _send(self, event: Mapping[str, Any]) -> None:
        # One that does not read waits here until the server resets it (`http.protocol`).
        async with self._sending:
            await self._websocket.send_text(_encode({"type": "error", **event}).decode())


def _token(websocket: WebSocket) -> str:
    sent = websocket.headers.getlist("authorization")
    if len(sent) != 1:
        raise Unauthenticated
    scheme, _, token = sent[0].partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token.strip()


def _parsed(text: str | None) -> ResponseTurn:
    """Return the turn that a frame asks for.

    Raises:
        Refused: It is not strict JSON.
        ValidationError: It is not a turn.
        Invalid: It is bytes.
    """
    if text is None:
        raise Invalid("Frames are text, not bytes")
    check_json(text.encode("utf-8", "replace"), JsonLimits())
    return ResponseTurn.model_validate_json(text)
