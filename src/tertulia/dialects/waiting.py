"""Waiting for a run whose reader has nothing else: it ends with its client (promise G-41)."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tertulia.conversations.service import ConversationService
from tertulia.domain.conversations import Message
from tertulia.domain.errors import NotFound, TertuliaError, Unavailable
from tertulia.domain.runs import Run
from tertulia.runs.follower import Followed
from tertulia.runs.live import RunEnded
from tertulia.runs.service import RunService
from tertulia.runs.wire import refusal

log = structlog.get_logger(__name__)


class ClientLeft(Exception):  # noqa: N818  named for what happened
    """The client closed its connection before the answer was whole."""


@dataclass(slots=True)
class Waited:
    """A run that somebody waits for, in whatever protocol. Whoever makes one calls `leave`."""

    runs: RunService
    conversations: ConversationService
    run: Run
    user_id: UUID
    is_temporary: bool = False
    """Whether its conversation is deleted when nobody reads it any more."""
    has_ended: bool = False
    """Whether its end was read."""

    async def follow(self) -> AsyncGenerator[Followed, None]:
        """Yield all that the run says, and how it ended."""
        followed = self.runs.follow(self.run.id, user_id=self.user_id, stays=True)
        async with aclosing(followed):
            async for item in followed:
                self.has_ended = isinstance(item, RunEnded)
                yield item

    async def answer(
        self, request: Request, still_allowed: Callable[[], Awaitable[object]]
    ) -> tuple[Run, Message]:
        """Return the run when it has ended, and its answer; leave it in any case.

        Args:
            request: Of the client that waits.
            still_allowed: Raises once the client's credentials are good no more.

        Raises:
            ClientLeft: The client did not wait; the run has been ended.
            TertuliaError: The client may not wait any more; the database is away; or the run was
                deleted meanwhile.
        """
        reading = asyncio.ensure_future(self._read())
        leaving = asyncio.ensure_future(until_left(request.receive))
        refused = asyncio.ensure_future(refusal(still_allowed))
        others = {leaving, refused}
        try:
            await asyncio.wait({reading, *others}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            if refused.done():
                raise refused.result()
            raise ClientLeft
        finally:
            for task in (reading, *others):
                task.cancel()
            await asyncio.wait({reading, *others})
            await self.leave()

    async def leave(self, *, has_ended: bool = False) -> None:
        """Nobody reads it any more: end what goes on, and forget what was not to be kept.

        But a process that is stopping hands its runs over, and their readers look for them
        elsewhere.
        """
        ended = has_ended or self.has_ended
        # A task of its own: clients leave at the last word, and that must not cut it short.
        leaving = self.runs.executor.tasks.spawn(
            self._leave(has_ended=ended), name=f"leave {self.run.id}"
        )
        await asyncio.shield(leaving)

    def answered_by(self, response: Response) -> Response:
        """Return the response as one after which, however it goes, the run is left."""
        return _Leaving(response, self)

    async def _leave(self, *, has_ended: bool) -> None:
        if self.runs.follower.feeds.is_draining and not has_ended:
            return
        try:
            if not has_ended:
                await self.runs.cancel(self.run.id, user_id=self.user_id)
            if self.is_temporary:
                await self.conversations.forget(self.run.conversation_id, user_id=self.user_id)
        except NotFound:
            pass  # Somebody was faster.
        except TertuliaError as error:
            # A run ends by itself, and what is temporary is swept.
            log.warning("not tidied up", run_id=str(self.run.id), code=error.code)

    async def _read(self) -> tuple[Run, Message]:
        async with aclosing(self.follow()) as followed:
            async for item in followed:
                if isinstance(item, RunEnded):
                    return await self.runs.get_answer(self.run.id, user_id=self.user_id)
        raise Unavailable("The answer was deleted while it was being written")


class _Leaving(Response):
    """A response after which a run is left."""

    def __init__(self, response: Response, waited: Waited) -> None:
        # Not `Response.__init__`: this one has nothing of its own to say.
        self.status_code = response.status_code
        self.background = None
        self.raw_headers = response.raw_headers
        self._response = response
        self._waited = waited

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._response(scope, receive, send)
        finally:
            await self._waited.leave()


async def until_left(receive: Receive) -> None:
    """Return when the client has closed its connection; its request has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
