"""`/v1/responses` over HTTP."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response

from tertulia.auth.dependencies import CurrentUser, StillAllowed
from tertulia.dialects.openai.failures import failure_of
from tertulia.dialects.openai.ids import response_id
from tertulia.dialects.openai.items import items_of
from tertulia.dialects.openai.listing import ItemsAfter, ItemsLimit, ItemsOrder, page_of
from tertulia.dialects.openai.responses.dependencies import CLIENT_LEFT_STATUS, Found
from tertulia.dialects.openai.responses.events import Event, response_events
from tertulia.dialects.openai.responses.object import (
    ResponseObject,
    begun,
    echo_of,
    response_of,
)
from tertulia.dialects.openai.responses.request import ResponseCreate
from tertulia.dialects.openai.responses.service import Responses
from tertulia.dialects.waiting import ClientLeft, Waited
from tertulia.domain.errors import BadRequest, Invalid
from tertulia.domain.runs import Run, RunStatus
from tertulia.http.idempotency import REPLAYED, Idempotent
from tertulia.http.sse import EventStreamResponse, StreamEvent
from tertulia.runs.follower import Followed
from tertulia.runs.service import Started
from tertulia.runs.wire import refusal

_SEQUENCE_MAX = 2**31 - 1
_encode = msgspec.json.Encoder().encode

router = APIRouter(prefix="/v1/responses", tags=["openai"])


@router.post("")
async def create_response(
    body: ResponseCreate,
    request: Request,
    user: CurrentUser,
    responses: Found,
    idempotent: Idempotent,
    still_allowed: StillAllowed,
) -> Response:
    """Create a response: whole, as a stream, or in the background."""
    background = bool(body.background)
    if background and body.store is False:
        raise Invalid("A background response must be stored", field="body.store")
    started = await responses.start(
        body, user_id=user.id, background=background, idempotent=idempotent
    )
    run = started.run
    headers = REPLAYED if started.is_replay else None
    if background and not body.stream:
        if not started.is_replay:
            # Also one that has begun meanwhile, as a background stream begins.
            return _json(begun(run, status="queued"), headers)
        # A replay is told how far it is by now.
        run, answer = await responses.runs.get_answer(run.id, user_id=user.id)
        return _json(response_of(run, answer), headers)
    # A replayed request does not end what another request waits for.
    waited = Waited(
        responses.runs,
        responses.conversations,
        run,
        user.id,
        is_temporary=body.store is False and idempotent is None,
    )
    if body.stream:
        alone = not background and not started.is_replay
        followed = waited.follow() if alone else _follow(responses, run, patient=True)
        stream = _stream(run, followed, still_allowed, headers=headers)
        return waited.answered_by(stream) if alone else stream
    request.state.take_time()
    try:
        if started.is_replay:
            return _json(await _answer_of(responses, started), headers)
        run, answer = await waited.answer(request, still_allowed)
        # Nobody has seen anything of it yet: an error says more than a response that failed.
        failure = failure_of(run) if run.status is RunStatus.FAILED else None
        return failure.response() if failure else _json(response_of(run, answer), headers)
    except ClientLeft:
        return Response(status_code=CLIENT_LEFT_STATUS)


@router.get("/{name}")
async def get_response(
    name: str,
    user: CurrentUser,
    responses: Found,
    still_allowed: StillAllowed,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0, le=_SEQUENCE_MAX)] = None,
) -> Response:
    """Return a response; with `stream`, its events after `starting_after`, now and later."""
    run, answer = await responses.find(name, user_id=user.id)
    if not stream:
        return _json(response_of(run, answer))
    followed = _follow(responses, run, patient=False)
    return _stream(run, followed, still_allowed, after=starting_after)


@router.delete("/{name}")
async def delete_response(name: str, user: CurrentUser, responses: Found) -> dict[str, Any]:
    """Delete a response. The items of a conversation that was named stay in it."""
    run, _ = await responses.find(name, user_id=user.id)
    await responses.runs.delete(run.id, user_id=user.id)
    return {"id": response_id(run.id), "object": "response.deleted", "deleted": True}


@router.post("/{name}/cancel")
async def cancel_response(name: str, user: CurrentUser, responses: Found) -> Response:
    """End a background response, keeping what it has said. An ended one stays as it is."""
    run, _ = await responses.find(name, user_id=user.id)
    if not echo_of(run).get("background"):
        raise BadRequest("Only a background response can be cancelled; close the connection")
    await responses.runs.cancel(run.id, user_id=user.id)
    return _json(response_of(*await responses.find(name, user_id=user.id)))


@router.get("/{name}/input_items")
async def list_input_items(
    name: str,
    user: CurrentUser,
    responses: Found,
    after: ItemsAfter = None,
    limit: ItemsLimit = 20,
    order: ItemsOrder = "desc",
    _include: Annotated[list[str] | None, Query(alias="include", max_length=50)] = None,
) -> dict[str, Any]:
    """List what came with the response's request, newest first."""
    run, _ = await responses.find(name, user_id=user.id)
    messages = await responses.input_of(run, user_id=user.id)
    items = [item for message in messages for item in items_of(message)]
    return page_of(items, after=after, limit=limit, order=order)


def _stream(
    run: Run,
    followed: AsyncGenerator[Followed, None],
    still_allowed: Any,  # noqa: ANN401  see `StillAllowed`
    *,
    after: int | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    return EventStreamResponse(
        _frames(response_events(run, followed, after=after)),
        until=partial(refusal, still_allowed),
        headers=headers,
    )


async def _frames(events: AsyncGenerator[Event, None]) -> AsyncIterator[StreamEvent]:
    async with aclosing(events):
        async for event in events:
            yield StreamEvent(None, event["type"], _encode(event))


def _follow(responses: Responses, run: Run, *, patient: bool) -> AsyncGenerator[Followed, None]:
    return responses.runs.follow(run.id, user_id=run.user_id, stays=patient)


async def _answer_of(responses: Responses, started: Started) -> ResponseObject:
    async with aclosing(_follow(responses, started.run, patient=True)) as followed:
        async for _ in followed:
            pass
    return response_of(
        *await responses.runs.get_answer(started.run.id, user_id=started.run.user_id)
    )


def _json(content: ResponseObject, headers: dict[str, str] | None = None) -> Response:
    return Response(_encode(content), media_type="application/json", headers=headers)
