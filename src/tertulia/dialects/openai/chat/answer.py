"""The answer to a chat request: whole or as a stream, and over when its client is gone."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Collection, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tertulia.auth.dependencies import CredentialsCheck
from tertulia.dialects.openai.chat.chunks import Chunks
from tertulia.dialects.openai.chat.completion import completion_of
from tertulia.dialects.openai.chat.request import ChatCreate
from tertulia.dialects.openai.failures import ANSWER_DELETED, failure_of
from tertulia.dialects.waiting import Waited, until_left
from tertulia.domain.runs import Run, RunEvent
from tertulia.http.errors import response_for
from tertulia.http.sse import EventStreamResponse, StreamEvent
from tertulia.runs.follower import Followed
from tertulia.runs.live import RunEnded
from tertulia.runs.wire import refusal
from tertulia.storage.answer import Answer

FIRST_S = 5.0
"""So long a stream's head waits for the first word, or for why there is none."""
_encode = msgspec.json.Encoder().encode


class ChatAnswer(Response):
    """Answers with the completion that a run is, once it is whole or as it is written.

    Args:
        body: What was asked.
        waited: The run.
        still_allowed: Raises once the reader's credentials are good no more.
        is_alone: Whether nobody else waits for the run: it ends with this answer, however that
            ends, and if it was not to be stored it is forgotten.
    """

    def __init__(
        self, body: ChatCreate, waited: Waited, *, still_allowed: CredentialsCheck, is_alone: bool
    ) -> None:
        super().__init__()
        self._body = body
        self._waited = waited
        self._asked = body.asked
        self._refused = partial(refusal, still_allowed)
        self._is_alone = is_alone
        self._has_ended = False
        self._first: asyncio.Future[Followed | None] | None = None
        """The first thing that a stream tells."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        headers = {name: value for name, value in self.headers.items() if name != "content-length"}
        try:
            async with aclosing(self._follow()) as followed:
                telling = self._begin(followed) if self._body.streams else self._read(followed)
                try:
                    answer = await self._unless_over(telling, receive)
                    if answer is not None:
                        answer.headers.update(headers)
                        await answer(scope, receive, send)
                finally:
                    await _end([self._first] if self._first else [])
        finally:
            # Only now: nobody waits for it, and a client that leaves does not keep it from being
            # done. Many leave as soon as they have read the last word.
            if self._is_alone:
                await self._waited.leave(has_ended=self._has_ended)

    async def _unless_over(
        self, telling: Coroutine[Any, Any, Response], receive: Receive
    ) -> Response | None:
        """Return the answer to send; None if there is nobody to send it to."""
        told = asyncio.ensure_future(telling)
        left = asyncio.ensure_future(until_left(receive))
        refused = asyncio.ensure_future(self._refused())
        try:
            await asyncio.wait((told, left, refused), return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                return told.result()
            return response_for(refused.result()) if refused.done() else None
        finally:
            await _end((told, left, refused))

    async def _read(self, followed: AsyncGenerator[Followed, None]) -> Response:
        """Return the completion when it is whole."""
        answer = Answer()
        async for item in followed:
            match item:
                case RunEvent():
                    answer.add(item)
                case RunEnded(_, run):
                    return self._told(run, answer)
                case _:
                    pass
        return ANSWER_DELETED.response()

    def _told(self, run: Run, answer: Answer) -> Response:
        self._has_ended = True
        failure = failure_of(run)
        if failure is not None:
            return failure.response()
        metadata = dict(self._body.metadata or {}) if self._asked.is_stored else None
        content = completion_of(run, answer.parts, self._asked, metadata=metadata)
        return Response(_encode(content), media_type="application/json")

    async def _begin(self, followed: AsyncGenerator[Followed, None]) -> Response:
        """Return the stream; or, where that shows soon, why there is nothing to stream.

        Official clients look at a status and ask again; in a stream they only give up.
        """
        self._first = asyncio.ensure_future(anext(followed, None))
        await asyncio.wait((self._first,), timeout=FIRST_S)
        if self._first.done() and isinstance(ended := self._first.result(), RunEnded):
            failure = failure_of(ended.run)
            if failure is not None:
                self._has_ended = True
                return failure.response()
        return EventStreamResponse(self._frames(self._first, followed), until=self._refused)

    async def _frames(
        self, first: Awaitable[Followed | None], followed: AsyncGenerator[Followed, None]
    ) -> AsyncGenerator[StreamEvent, None]:
        chunks = Chunks(self._waited.run, self._asked, includes_usage=self._body.includes_usage)
        item = await first
        while item is not None:
            for chunk in self._told_in_chunks(item, chunks):
                yield StreamEvent(None, None, chunk)
            if chunks.is_over:
                return
            item = await anext(followed, None)
        yield StreamEvent(None, None, _encode(ANSWER_DELETED.frame()))

    def _told_in_chunks(self, item: Followed, chunks: Chunks) -> list[bytes]:
        match item:
            case RunEvent():
                return chunks.hear(item)
            case RunEnded(_, run):
                self._has_ended = True
                return chunks.end(run)
            case _:
                return []

    def _follow(self) -> AsyncGenerator[Followed, None]:
        run = self._waited.run
        return self._waited.runs.follow(run.id, user_id=run.user_id, stays=True)


async def _end(tasks: Collection[asyncio.Future[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
