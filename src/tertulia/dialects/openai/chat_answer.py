"""The answer to a chat request: whole or as a stream, and over when its client is gone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tertulia.auth.dependencies import CredentialsCheck
from tertulia.domain.runs import Run, RunEvent
from tertulia.http.errors import response_for
from tertulia.http.sse import EventStreamResponse, StreamEvent
from tertulia.runs.follower import Followed
from tertulia.runs.live import RunEnded
from tertulia.runs.wire import refusal
from tertulia.storage.answer import Answer

from .chat_chunks import AnswerRestarted, Chunks
from .chat_completion import completion_of
from .chat_failures import ANSWER_DELETED, ANSWER_RESTARTED, failure_of
from .chat_request import ChatCreate
from .waiting import Waited

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        headers = {name: value for name, value in self.headers.items() if name != "content-length"}
        try:
            if self._body.streams:
                stream = EventStreamResponse(self._frames(), until=self._refused, headers=headers)
                await stream(scope, receive, send)
            elif (answer := await self._whole(receive)) is not None:
                answer.headers.update(headers)
                await answer(scope, receive, send)
        finally:
            # Only now: nobody waits for it, and a client that leaves does not keep it from being
            # done. Many leave as soon as they have read the last word.
            if self._is_alone:
                await self._waited.leave(has_ended=self._has_ended)

    async def _whole(self, receive: Receive) -> Response | None:
        """Return the answer to send; None if there is nobody to send it to."""
        reading = asyncio.ensure_future(self._read())
        leaving = asyncio.ensure_future(_until_left(receive))
        refused = asyncio.ensure_future(self._refused())
        tasks = (reading, leaving, refused)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
            return response_for(refused.result()) if refused.done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self) -> Response:
        answer = Answer()
        async with aclosing(self._follow()) as followed:
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

    async def _frames(self) -> AsyncGenerator[StreamEvent, None]:
        async with aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                yield StreamEvent(None, None, chunk)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        includes_usage = self._body.includes_usage
        chunks = Chunks(self._waited.run, self._asked, includes_usage=includes_usage)
        async with aclosing(self._follow()) as followed:
            async for item in followed:
                match item:
                    case RunEvent():
                        try:
                            told = chunks.hear(item)
                        except AnswerRestarted:
                            yield _encode(ANSWER_RESTARTED.frame())
                            return
                        for chunk in told:
                            yield chunk
                    case RunEnded(_, run):
                        self._has_ended = True
                        failure = failure_of(run)
                        told = chunks.end(run) if failure is None else [_encode(failure.frame())]
                        for chunk in told:
                            yield chunk
                        return
                    case _:
                        pass
        yield _encode(ANSWER_DELETED.frame())

    def _follow(self) -> AsyncGenerator[Followed, None]:
        run = self._waited.run
        return self._waited.runs.follow(run.id, user_id=run.user_id, stays=True)


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
