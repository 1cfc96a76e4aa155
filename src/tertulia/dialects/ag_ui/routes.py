"""`/ag-ui`: where `HttpAgent` of AG-UI is pointed at."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, cast

import msgspec
from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.requests import HTTPConnection

from tertulia.auth.dependencies import CurrentUser, StillAllowed
from tertulia.conversations.service import ConversationService
from tertulia.conversations.tool_calls import result_number
from tertulia.dialects.ag_ui.asking import Asked, asked_for
from tertulia.dialects.ag_ui.events import AgEvents
from tertulia.dialects.ag_ui.history import shown
from tertulia.dialects.ag_ui.schemas import RunInput
from tertulia.dialects.client_ids import AddressableId, named
from tertulia.dialects.openai.responses.service import Responses
from tertulia.dialects.placing import asked_in_turn
from tertulia.dialects.waiting import Waited
from tertulia.domain.errors import ConversationNotFound, Invalid, RunNotFound
from tertulia.domain.runs import OnBusy, RunEvent
from tertulia.http.idempotency import REPLAYED, Idempotent
from tertulia.http.paging import Cursor, Limit, next_link
from tertulia.http.sse import EventStreamResponse, StreamEvent
from tertulia.runs.follower import Followed
from tertulia.runs.live import RunEnded
from tertulia.runs.send import Instructions, NewConversation
from tertulia.runs.service import RunService, Started
from tertulia.runs.wire import refusal

_encode = msgspec.json.Encoder().encode
_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events of AG-UI"},
}

router = APIRouter(prefix="/ag-ui", tags=["ag-ui"])


async def _run_service(connection: HTTPConnection) -> RunService:
    return cast("RunService", connection.app.state.runs)


async def _conversation_service(connection: HTTPConnection) -> ConversationService:
    return cast("ConversationService", connection.app.state.conversations)


async def _heeds_instructions(connection: HTTPConnection) -> bool:
    return cast("Responses", connection.app.state.responses).heeds_instructions


Runs = Annotated[RunService, Depends(_run_service)]
Conversations = Annotated[ConversationService, Depends(_conversation_service)]
HeedsInstructions = Annotated[bool, Depends(_heeds_instructions)]
"""Whether what an application tells the model, the model is told as instructions."""


@router.post("/runs", response_class=EventStreamResponse, responses=_STREAMS)
async def run_agent(
    *,
    body: RunInput,
    user: CurrentUser,
    runs: Runs,
    conversations: Conversations,
    heeds_instructions: HeedsInstructions,
    idempotent: Idempotent,
    still_allowed: StillAllowed,
) -> Response:
    """Have the client's last message answered, as events of AG-UI.

    The protocol stops a run by closing its connection, so this run ends with it. With an
    `Idempotency-Key` it goes on, for its client may ask again.
    """
    thread = named(body.thread_id, within=user.id)
    props = body.forwarded_props

    async def find() -> Asked:
        return await asked_for(body, thread.id, conversations.messages, user_id=user.id)

    async def start(asked: Asked) -> Started:
        results = asked.send.tool_results
        if (decided := asked.decided) is not None:
            return await runs.decide(
                decided.run_id,
                decided.verdicts,
                user_id=user.id,
                results=results,
                idempotent=idempotent,
            )
        send = replace(
            asked.send,
            model_type=props.model,
            mcp=list(dict.fromkeys(props.mcp)),
            on_busy=OnBusy.INTERRUPT,
            settings=body.settings(),
            instructions=Instructions(body.instructions() if heeds_instructions else None),
        )
        where = thread.id
        if thread.is_made_up:
            where = NewConversation(id=thread.id, model_type=props.model)
        return await runs.start(where, send, user_id=user.id, idempotent=idempotent)

    started = await _started(find, start)
    run = started.run
    waited = Waited(runs, conversations, run, user.id)
    stream = EventStreamResponse(
        _frames(AgEvents(run, body), waited.follow()),
        until=partial(refusal, still_allowed),
        headers=REPLAYED if started.is_replay else None,
    )
    # With a key its client may ask again; one that asks again does not end what another reads.
    is_alone = idempotent is None and not started.is_replay
    return waited.answered_by(stream) if is_alone else stream


@router.get("/threads/{thread_id}/messages", response_model=list[dict[str, Any]])
async def list_messages(
    thread_id: Annotated[AddressableId, Path()],
    request: Request,
    user: CurrentUser,
    conversations: Conversations,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List the newest messages of a thread, oldest first, as an agent's `initialMessages`.

    `Link: rel="next"` leads to the messages before them. One that is stored may be several here.
    """
    thread = named(thread_id, within=user.id)
    try:
        page = await conversations.messages.list(
            thread.id,
            user_id=user.id,
            tip="head",
            limit=limit,
            cursor=cursor,
            newest_first=True,
        )
    except ConversationNotFound:
        if not thread.is_made_up:
            raise
        # The client has made up a thread in which nothing was said.
        return Response(b"[]", media_type="application/json")
    told = [each for message in reversed(page.items) for each in shown(message)]
    headers = {} if page.next_cursor is None else {"Link": next_link(request, page.next_cursor)}
    return Response(_encode(told), media_type="application/json", headers=headers)


async def _started(
    find: Callable[[], Awaitable[Asked]], start: Callable[[Asked], Awaitable[Started]]
) -> Started:
    """Return the run that was started; what is wrong is called as this protocol calls it."""

    async def start_named(asked: Asked) -> Started:
        try:
            return await start(asked)
        except Invalid as error:
            raise _as_asked(error, asked) from error

    return (await asked_in_turn(find, start_named))[1]


def _as_asked(error: Invalid, asked: Asked) -> Invalid:
    field = error.field or ""
    if field.startswith("body.mcp"):
        return Invalid(error.detail, field=f"body.forwardedProps{field.removeprefix('body')}")
    if (number := result_number(error)) is not None:
        return Invalid(error.detail, field=asked.result_fields[number])
    if field.startswith("body.tool_results"):
        return Invalid(error.detail, field="body.messages")
    return error


async def _frames(
    events: AgEvents, followed: AsyncGenerator[Followed, None]
) -> AsyncGenerator[StreamEvent, None]:
    has_ended = False
    async with aclosing(followed):
        for event in events.begin():
            yield _frame(event)
        async for item in followed:
            match item:
                case RunEvent():
                    for event in events.hear(item):
                        yield _frame(event)
                case RunEnded(_, run):
                    has_ended = True
                    for event in events.end(run):
                        yield _frame(event)
                case _:
                    pass
    if not has_ended:
        for event in events.break_off("The answer was deleted", RunNotFound.code):
            yield _frame(event)


def _frame(event: bytes) -> StreamEvent:
    return StreamEvent(None, None, event)
