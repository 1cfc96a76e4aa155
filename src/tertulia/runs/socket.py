"""The WebSocket: what happens in the caller's conversations, and runs followed over one connection.

The first frame carries the token, `{"type": "auth", "token": …}`, for a token in a URL ends up in
logs. Then the client may send `{"type": "follow", "run_id": …, "after": …}`, `{"type": "unfollow",
"run_id": …}` and `{"type": "ping"}`. The server sends `ready`, `event` (with `run_id`, `id`,
`event` and `data` as in the run's event stream), `changed`, `missed`, `pong` and `error`.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tertulia.auth.service import AuthService
from tertulia.domain.errors import (
    Invalid,
    TertuliaError,
    TooManyConnections,
    Unauthenticated,
    Unavailable,
)
from tertulia.domain.runs import EventKind
from tertulia.http.sockets import Sockets
from tertulia.runs.changes import Changes
from tertulia.runs.service import RunService
from tertulia.runs.wire import parse_cursor, refusal, to_events

_AUTH_S = 10.0
_BURST_FRAMES = 32
# As in `http.sse`: sending waits for nothing while the client takes what comes.
_LAST_EVENTS = frozenset({EventKind.DONE.value, "reconnect"})
_FOLLOWS_MAX = 100
_POLICY_VIOLATION = 1008
_TRY_AGAIN_LATER = 1013
_FRAME_CHARS_MAX = 16_384

router = APIRouter()


class _Auth(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["auth"]
    token: str = Field(max_length=4_096)


class _Follow(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["follow"]
    run_id: UUID
    after: str | None = Field(None, max_length=20)


class _Unfollow(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["unfollow"]
    run_id: UUID


class _Ping(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["ping"]


_Frame = Annotated[_Auth | _Follow | _Unfollow | _Ping, Field(discriminator="type")]
_frames: TypeAdapter[_Auth | _Follow | _Unfollow | _Ping] = TypeAdapter(_Frame)


class _Closing(Exception):  # noqa: N818  named for what happens
    """The connection ends, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(reason)


@router.websocket("/ws")
async def socket(websocket: WebSocket) -> None:
    """Serve one WebSocket."""
    state = websocket.app.state
    await websocket.accept()
    session = _Session(websocket, state.auth, state.runs, state.changes, state.sockets)
    try:
        await session.serve()
    except* (WebSocketDisconnect, RuntimeError):
        pass  # Gone, perhaps while something was being sent.
    except* _Closing as closing:
        end = closing.exceptions[0]
        assert isinstance(end, _Closing)
        with suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(end.code, end.reason)


class _Session:
    """One connected client."""

    def __init__(
        self,
        websocket: WebSocket,
        auth: AuthService,
        runs: RunService,
        changes: Changes,
        sockets: Sockets,
    ) -> None:
        self._websocket = websocket
        self._auth = auth
        self._runs = runs
        self._changes = changes
        self._sockets = sockets
        self._turn = asyncio.Lock()
        self._follows: dict[UUID, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        token = await self._token()
        user_id = await self._user_id(token)
        try:
            with self._sockets.opened(user_id):
                await self._talk(token, user_id)
        except TooManyConnections as error:
            await self._refuse(error)
            raise _Closing(_TRY_AGAIN_LATER, error.code) from error

    async def _talk(self, token: str, user_id: UUID) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_checking(token))
            group.create_task(self._tell_changes(user_id))
            await self._send({"type": "ready", "user_id": str(user_id)})
            while True:
                await self._obey(await self._receive(), user_id, group)

    async def _token(self) -> str:
        try:
            async with asyncio.timeout(_AUTH_S):
                frame = await self._receive()
        except TimeoutError:
            raise _Closing(_POLICY_VIOLATION, "no token came") from None
        if not isinstance(frame, _Auth):
            await self._refuse(Unauthenticated('The first frame must be {"type": "auth", …}'))
            raise _Closing(_POLICY_VIOLATION, "unauthenticated")
        return frame.token

    async def _user_id(self, token: str) -> UUID:
        try:
            return (await self._auth.authenticate(token)).user.id
        except Unavailable as error:
            await self._refuse(error)
            raise _Closing(_TRY_AGAIN_LATER, error.code) from error
        except TertuliaError as error:
            await self._refuse(error)
            raise _Closing(_POLICY_VIOLATION, error.code) from error

    async def _keep_checking(self, token: str) -> None:
        """End the connection soon after its credentials were revoked."""
        error = await refusal(partial(self._auth.authenticate, token))
        raise _Closing(_POLICY_VIOLATION, error.code) from error

    async def _tell_changes(self, user_id: UUID) -> None:
        with self._changes.of(user_id) as listening:
            while True:
                await self._send(await listening.next())

    async def _obey(
        self,
        frame: _Auth | _Follow | _Unfollow | _Ping | None,
        user_id: UUID,
        group: asyncio.TaskGroup,
    ) -> None:
        match frame:
            case None:
                pass
            case _Ping():
                await self._send({"type": "pong"})
            case _Follow():
                await self._follow(frame, user_id, group)
            case _Unfollow():
                task = self._follows.pop(frame.run_id, None)
                if task is not None:
                    task.cancel()
            case _Auth():
                await self._refuse(Invalid("The connection is authenticated already"))

    async def _follow(self, frame: _Follow, user_id: UUID, group: asyncio.TaskGroup) -> None:
        try:
            after = 0 if frame.after is None else parse_cursor(frame.after, field="after")
            if len(self._follows) >= _FOLLOWS_MAX:
                raise Invalid(f"One connection follows at most {_FOLLOWS_MAX} runs")
            await self._runs.get(frame.run_id, user_id=user_id)
        except TertuliaError as error:
            await self._refuse(error, run_id=frame.run_id)
            return
        before = self._follows.pop(frame.run_id, None)
        if before is not None:
            before.cancel()
        self._follows[frame.run_id] = group.create_task(
            self._pass_on(frame.run_id, user_id=user_id, after=after)
        )

    async def _pass_on(self, run_id: UUID, *, user_id: UUID, after: int) -> None:
        name = json.dumps(str(run_id))
        followed = self._runs.follow(run_id, user_id=user_id, after=after)
        frames, last = 0, None
        async with aclosing(to_events(followed)) as events:
            async for event in events:
                # The data is JSON already: it is framed, not parsed and written again.
                head = f'{{"type":"event","run_id":{name},"id":{json.dumps(event.id)},'
                text = f'{head}"event":"{event.event}","data":{event.data.decode()}}}'
                await self._send_text(text)
                frames, last = frames + 1, event.event
                if frames % _BURST_FRAMES == 0:
                    await asyncio.sleep(0)
        if self._follows.get(run_id) is asyncio.current_task():
            del self._follows[run_id]
        if last not in _LAST_EVENTS:
            # It was read to its end before, or it is gone.
            await self._refuse_if_gone(run_id, user_id=user_id)

    async def _refuse_if_gone(self, run_id: UUID, *, user_id: UUID) -> None:
        try:
            await self._runs.get(run_id, user_id=user_id)
        except TertuliaError as error:
            await self._refuse(error, run_id=run_id)

    async def _receive(self) -> _Auth | _Follow | _Unfollow | _Ping | None:
        """Return the next frame; None if it was refused."""
        try:
            text = await self._websocket.receive_text()
        except KeyError:
            await self._refuse(Invalid("Frames are text, not bytes"))
            return None
        if len(text) > _FRAME_CHARS_MAX:
            await self._refuse(Invalid("The frame is too long"))
            return None
        try:
            return _frames.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_context=False)[0]
            where = ".".join(str(step) for step in first["loc"]) or "frame"
            await self._refuse(Invalid(f"{where}: {first['msg']}"))
            return None

    async def _refuse(self, error: TertuliaError, *, run_id: UUID | None = None) -> None:
        frame = {"type": "error", "code": error.code, "detail": error.detail}
        if run_id is not None:
            frame["run_id"] = str(run_id)
        await self._send(frame)

    async def _send(self, frame: Mapping[str, Any]) -> None:
        await self._send_text(json.dumps(frame))

    async def _send_text(self, text: str) -> None:
        # One that does not read waits here until the server resets it (`http.protocol`).
        async with self._turn:
            await self._websocket.send_text(text)
