"""`/ai-sdk/chat`: where `DefaultChatTransport` of AI SDK UI is pointed at."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, cast
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.requests import HTTPConnection

from tertulia.auth.dependencies import CredentialsCheck, CurrentUser, StillAllowed
from tertulia.conversations.service import ConversationService
from tertulia.dialects.ai_sdk.asking import Asked, asked_for
from tertulia.dialects.ai_sdk.chunks import DONE, UIChunks
from tertulia.dialects.ai_sdk.history import UIHistory
from tertulia.dialects.ai_sdk.schemas import ChatRequest, UIMessageResponse, nothing_to_answer
from tertulia.dialects.client_ids import AddressableId, named
from tertulia.dialects.placing import asked_in_turn
from tertulia.domain.conversations import Message
from tertulia.domain.errors import ConversationNotFound, Invalid
from tertulia.domain.runs import Run, RunEvent
from tertulia.http.idempotency import REPLAYED, Idempotent
from tertulia.http.paging import Cursor, Limit, next_link
from tertulia.http.sse import EventStreamResponse, StreamEvent
from tertulia.runs.live import RunEnded
from tertulia.runs.send import NewConversation
from tertulia.runs.service import RunService, Started
from tertulia.runs.wire import refusal

PROTOCOL = {"x-vercel-ai-ui-message-stream": "v1"}
"""The header of every UI message stream."""
_ACTIVE_MAX = 101
"""Runs that can be under way in one conversation: one, and those that wait for their turn."""
_NOTHING_TO_ANSWER = ("body.content", "body.parent_id")
"""Where the native request would be wrong."""
_encode = msgspec.json.Encoder().encode
_DELETED = _encode({"type": "error", "errorText": "The answer was deleted"})
_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "A UI message stream"},
}

router = APIRouter(prefix="/ai-sdk/chat", tags=["ai sdk"])


async def _run_service(connection: HTTPConnection) -> RunService:
    return cast("RunService", connection.app.state.runs)


async def _conversation_service(connection: HTTPConnection) -> ConversationService:
    return cast("ConversationService", connection.app.state.conversations)


Runs = Annotated[RunService, Depends(_run_service)]
Conversations = Annotated[ConversationService, Depends(_conversation_service)]
ChatId = Annotated[
    AddressableId,
    Path(description="A conversation's id, or the one that the client made up for it."),
]


@router.post("", response_class=EventStreamResponse, responses=_STREAMS)
async def send_message(
    *,
    body: ChatRequest,
    user: CurrentUser,
    runs: Runs,
    conversations: Conversations,
    idempotent: Idempotent,
    still_allowed: StillAllowed,
) -> Response:
    """Have the client's last message answered, as a UI message stream.

    The answer goes on whether or not anybody reads; `GET …/{id}/stream` resumes it.
    """
    chat = named(body.id, within=user.id)

    async def find() -> Asked:
        return await asked_for(body, chat.id, conversations.messages, user_id=user.id)

    async def start(asked: Asked) -> Started:
        decided, send = asked.decided, asked.send
        if decided is not None:
            return await runs.decide(
                decided.run_id,
                decided.verdicts,
                user_id=user.id,
                results=send.tool_results,
                idempotent=idempotent,
            )
        where = chat.id
        if chat.is_made_up:
            where = NewConversation(id=chat.id, model_type=body.model, metadata=body.metadata)
        return await runs.start(where, send, user_id=user.id, idempotent=idempotent)

    asked, started = await _started(find, start)
    run = started.run
    return _stream(
        runs,
        run,
        UIChunks(
            run,
            message_id=asked.continues or str(run.message_id),
            calls=() if asked.decided is None else asked.decided.calls,
        ),
        still_allowed=still_allowed,
        headers=REPLAYED if started.is_replay else {},
    )


@router.get("/{chat_id}/stream", response_class=EventStreamResponse, responses=_STREAMS)
async def resume_stream(
    chat_id: ChatId,
    user: CurrentUser,
    runs: Runs,
    conversations: Conversations,
    still_allowed: StillAllowed,
    ended: Annotated[
        bool, Query(description="Replay the last answer though it may have ended by now.")
    ] = False,
) -> Response:
    """Replay the answer that is being written, from its beginning, and go on; 204 if none is."""
    run = await _newest(runs, chat_id, user.id)
    if run is None or (run.status.is_terminal and not ended):
        return Response(status_code=204)
    before = await UIHistory(conversations.messages).steps_before(run)
    message_id = before[0].id if before else run.message_id
    return _stream(
        runs,
        run,
        UIChunks(run, message_id=str(message_id)),
        before=before,
        still_allowed=still_allowed,
    )


@router.post("/{chat_id}/stop", status_code=204)
async def stop(chat_id: ChatId, user: CurrentUser, runs: Runs) -> None:
    """End what is being answered in a chat; what was said stays. Nothing there, nothing done."""
    chat = named(chat_id, within=user.id)
    try:
        found = await runs.list(chat.id, user_id=user.id, limit=_ACTIVE_MAX)
    except ConversationNotFound:
        if chat.is_made_up:
            return
        raise
    # The newest first: one that waits would else begin when its turn has come.
    for run in found:
        if not run.status.is_terminal:
            await runs.cancel(run.id, user_id=user.id)


@router.get("/{chat_id}/messages", response_model=list[UIMessageResponse])
async def list_messages(
    chat_id: ChatId,
    request: Request,
    user: CurrentUser,
    conversations: Conversations,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List the newest messages of a chat, oldest first, as `useChat({messages})` takes them.

    `Link: rel="next"` leads to the messages before them.
    """
    chat = named(chat_id, within=user.id)
    try:
        page = await UIHistory(conversations.messages).page(
            chat.id, user_id=user.id, limit=limit, cursor=cursor
        )
    except ConversationNotFound:
        if not chat.is_made_up:
            raise
        # The client has made up a chat in which nothing was said.
        return Response(b"[]", media_type="application/json")
    headers = {} if page.next_cursor is None else {"Link": next_link(request, page.next_cursor)}
    return Response(_encode(page.items), media_type="application/json", headers=headers)


async def _started(
    find: Callable[[], Awaitable[Asked]], start: Callable[[Asked], Awaitable[Started]]
) -> tuple[Asked, Started]:
    """Return what was asked and the run that it started; errors are named as clients know it."""

    async def start_named(asked: Asked) -> Started:
        try:
            return await start(asked)
        except Invalid as error:
            if error.field in _NOTHING_TO_ANSWER:
                raise nothing_to_answer("body.messages") from error
            if (error.field or "").startswith("body.tool_results"):
                raise Invalid(error.detail, field=asked.results_field) from error
            raise

    return await asked_in_turn(find, start_named)


async def _newest(runs: RunService, chat_id: str, user_id: UUID) -> Run | None:
    chat = named(chat_id, within=user_id)
    try:
        found = await runs.list(chat.id, user_id=user_id, limit=1)
    except ConversationNotFound:
        if chat.is_made_up:
            return None
        raise
    return found[0] if found else None


def _stream(
    runs: RunService,
    run: Run,
    chunks: UIChunks,
    *,
    still_allowed: CredentialsCheck,
    before: Sequence[Message] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    return EventStreamResponse(
        _frames(runs, run, chunks, before),
        until=partial(refusal, still_allowed),
        headers={**PROTOCOL, **(headers or {})},
    )


async def _frames(
    runs: RunService, run: Run, chunks: UIChunks, before: Sequence[Message]
) -> AsyncGenerator[StreamEvent, None]:
    for chunk in chunks.begin(before):
        yield _frame(chunk)
    has_ended = False
    # It stays: the SDK takes a stream that just ends for a whole answer.
    followed = runs.follow(run.id, user_id=run.user_id, stays=True)
    async with aclosing(followed):
        async for item in followed:
            match item:
                case RunEvent():
                    for chunk in chunks.hear(item):
                        yield _frame(chunk)
                case RunEnded(_, ended):
                    has_ended = True
                    for chunk in chunks.end(ended):
                        yield _frame(chunk)
                case _:
                    pass
    if not has_ended:
        yield _frame(_DELETED)
    yield _frame(DONE)


def _frame(chunk: bytes) -> StreamEvent:
    return StreamEvent(None, None, chunk)
