"""Waiting for a run whose reader has nothing else: it ends with its client (promise G-41)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog
from starlette.requests import Request

from tertulia.conversations.service import ConversationService
from tertulia.domain.conversations import Message
from tertulia.domain.errors import NotFound, TertuliaError, Unavailable
from tertulia.domain.runs import Run
from tertulia.runs.follower import Followed
from tertulia.runs.live import RunEnded
from tertulia.runs.service import RunService

log = structlog.get_logger(__name__)


class ClientLeft(Exception):  # noqa: N818  named for what happened
    """The client closed its connection before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Waited:
    """A run that somebody waits for, in whatever protocol."""

    runs: RunService
    conversations: ConversationService
    run: Run
    user_id: UUID
    is_temporary: bool = False
    """Whether its conversation is deleted when it has ended and was read."""

    async def follow(self) -> AsyncGenerator[Followed, None]:
        """Yield all that the run says, and how it ended.

        Closed before that, it ends the run: nobody else waits for it. But a process that is
        stopping hands its runs over, and its readers look for them elsewhere.
        """
        ended = False
        followed = self.runs.follow(self.run.id, user_id=self.user_id, stays=True)
        try:
            async with aclosing(followed):
                async for item in followed:
                    ended = isinstance(item, RunEnded)
                    yield item
        finally:
            # A task of its own: clients leave at the last word, and that must not cut it short.
            leaving = self.runs.executor.tasks.spawn(
                self.leave(has_ended=ended), name=f"leave {self.run.id}"
            )
            await asyncio.shield(leaving)

    async def answer(self, request: Request) -> tuple[Run, Message]:
        """Return the run when it has ended, and its answer.

        Raises:
            ClientLeft: The client did not wait; the run has been ended.
            Unavailable: The database is away, or the run was deleted meanwhile.
        """
        reading = asyncio.ensure_future(self._read())
        leaving = asyncio.ensure_future(_until_left(request))
        try:
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise ClientLeft
            return await reading
        finally:
            leaving.cancel()
            if not reading.done():
                reading.cancel()
                await asyncio.wait({reading})

    async def leave(self, *, has_ended: bool) -> None:
        """Nobody reads it any more: end what goes on, and forget what was not to be kept."""
        if self.runs.follower.feeds.is_draining and not has_ended:
            return
        try:
            if not has_ended:
                await self.runs.cancel(self.run.id, user_id=self.user_id)
            if self.is_temporary:
                await self.conversations.delete(self.run.conversation_id, user_id=self.user_id)
        except NotFound:
            pass  # Somebody was faster.
        except TertuliaError as error:
            # A run ends by itself, and what is temporary is swept.
            log.warning("not tidied up", run_id=str(self.run.id), code=error.code)

    async def _read(self) -> tuple[Run, Message]:
        found: tuple[Run, Message] | None = None
        async with aclosing(self.follow()) as followed:
            async for item in followed:
                if isinstance(item, RunEnded):
                    # Before what is temporary is deleted.
                    found = await self.runs.get_answer(self.run.id, user_id=self.user_id)
        if found is None:
            raise Unavailable("The answer was deleted while it was being written")
        return found


async def _until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
