"""Runs over HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from tertulia.auth.dependencies import CurrentAsker, CurrentUser, credentials_check
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.runs import Run
from tertulia.domain.users import Asker
from tertulia.http.headers import accepts
from tertulia.http.idempotency import REPLAYED, Idempotent
from tertulia.http.paging import (
    Cursor,
    Limit,
    Page,
    decode_cursor,
    encode_cursor,
    show_page,
)
from tertulia.http.sse import EventStreamResponse, last_event_id
from tertulia.runs.schemas import (
    CONTENT_CHARS_MAX,
    McpServerResponse,
    ModelResponse,
    RunCreate,
    RunResponse,
    ToolCallDecision,
)
from tertulia.runs.send import Send, Verdict
from tertulia.runs.service import RunService, Started
from tertulia.runs.wire import parse_cursor, refusal, to_events

RETRY_MS = 500
"""How long a reader whose connection was closed waits before it reconnects."""
NO_RETRY_MS = 24 * 60 * 60 * 1000
"""The same for one that has seen the end; `EventSource` reconnects all the same."""
_EVENT_STREAM = "text/event-stream"
_STREAMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {_EVENT_STREAM: {}}, "description": "The run's events"},
}

router = APIRouter(tags=["runs"])


def _runs(request: Request) -> RunService:
    # No dependency: each costs a route a tenth of a statement.
    return request.app.state.runs


@router.post(
    "/conversations/{conversation_id}/runs",
    status_code=202,
    response_model=RunResponse,
    responses=_STREAMS,
)
async def start_run(
    conversation_id: UUID,
    body: RunCreate,
    request: Request,
    asker: CurrentAsker,
    idempotent: Idempotent,
) -> Response:
    """Send a message and have it answered.

    202 and the run; with `Accept: text/event-stream` the run's events instead. The run goes on
    whether or not anybody reads. With an `Idempotency-Key` a retry within 24 hours gets the same
    run. A stream that broke off goes on when the same is asked with its `Last-Event-ID`.
    """
    asked = _Asked(conversation_id, body.to_send(), asker, idempotent)
    if accepts(request.scope, _EVENT_STREAM):
        return await _stream(request, asked)
    return _accepted(await asked.start(_runs(request)))


@router.get("/text/generate/stream", response_class=EventStreamResponse, responses=_STREAMS)
async def generate_stream(
    prompt: Annotated[str, Query(min_length=1, max_length=CONTENT_CHARS_MAX)],
    conversation_id: UUID,
    request: Request,
    asker: CurrentAsker,
    idempotent: Idempotent,
) -> Response:
    """Send a message and read its answer as it is written (example 7-15 of the first seed)."""
    asked = _Asked(conversation_id, Send.of_text(prompt), asker, idempotent)
    return await _stream(request, asked)


@router.get("/conversations/{conversation_id}/runs")
async def list_runs(
    conversation_id: UUID,
    request: Request,
    response: Response,
    user: CurrentUser,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Sequence[RunResponse]:
    """List the conversation's runs, newest first."""
    before = decode_cursor(cursor, (int,))[0] if cursor else None
    # One more than is shown tells whether there is a next page.
    found = await _runs(request).list(
        conversation_id, user_id=user.id, limit=limit + 1, before_seq=before
    )
    next_cursor = encode_cursor(found[limit - 1].seq) if len(found) > limit else None
    return show_page(
        request, response, Page([RunResponse.of(run) for run in found[:limit]], next_cursor)
    )


@router.get("/runs/{run_id}")
async def get_run(run_id: UUID, user: CurrentUser, request: Request) -> RunResponse:
    """Return a run: where it stands, or how it went."""
    return RunResponse.of(await _runs(request).get(run_id, user_id=user.id))


@router.get("/runs/{run_id}/events", response_class=EventStreamResponse, responses=_STREAMS)
async def follow_run(
    run_id: UUID,
    request: Request,
    user: CurrentUser,
    after: Annotated[
        str | None, Query(max_length=20, description="An event's `id`: only what came later.")
    ] = None,
) -> Response:
    """Follow a run from the start, or from `Last-Event-ID` or `after`, while it runs or later.

    Ends after `done`. On any server, at any time, a cursor gives exactly what came after it.
    """
    seen = last_event_id(request)
    if seen is not None:
        seq = parse_cursor(seen, field="header.Last-Event-ID")
    else:
        seq = 0 if after is None else parse_cursor(after, field="query.after")
    run = await _runs(request).get(run_id, user_id=user.id)
    return await _events(request, run, user.id, after=seq)


@router.post("/runs/{run_id}/cancel")
async def cancel_run(run_id: UUID, user: CurrentUser, request: Request) -> RunResponse:
    """End a run, keeping what it has said. A run that has ended stays as it is."""
    return RunResponse.of(await _runs(request).cancel(run_id, user_id=user.id))


@router.post(
    "/runs/{run_id}/tool_calls/{call_id:path}",
    status_code=202,
    response_model=RunResponse,
    responses=_STREAMS,
)
async def decide_tool_call(
    run_id: UUID,
    call_id: str,
    body: ToolCallDecision,
    request: Request,
    user: CurrentUser,
    idempotent: Idempotent,
) -> Response:
    """Approve or refuse a call that the server makes only with the user's consent.

    202 and a new run, which makes the call (or not) and goes on with its result; with
    `Accept: text/event-stream` that run's events. If other calls of the same answer wait, the new
    run ends after the result, and the model is asked when the last of them is settled. The same
    decision again finds the run that the first one started.
    """
    started = await _runs(request).decide(
        run_id, {call_id: Verdict(body.approve)}, user_id=user.id, idempotent=idempotent
    )
    if accepts(request.scope, _EVENT_STREAM):
        return await _events(request, started.run, user.id, after=0, headers=_headers(started))
    return _accepted(started)


@router.get("/mcp-servers")
async def list_mcp_servers(_user: CurrentUser, request: Request) -> Sequence[McpServerResponse]:
    """List the MCP servers whose tools a run can be given."""
    return [McpServerResponse(name=name) for name in _runs(request).mcp_servers]


@router.get("/models", tags=["models"])
async def list_models(_user: CurrentUser, request: Request) -> Sequence[ModelResponse]:
    """List the models on offer, the default first, and what each can do."""
    return [ModelResponse.of(info) for info in await _runs(request).list_models()]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request for an answer."""

    conversation_id: UUID
    send: Send
    asker: Asker
    idempotent: IdempotentRequest | None

    async def start(self, runs: RunService) -> Started:
        return await runs.start(
            self.conversation_id,
            self.send,
            user_id=self.asker.user_id,
            idempotent=self.idempotent,
            claim=self.asker.claim,
        )

    async def find(self, runs: RunService) -> Started | None:
        if self.asker.claim is not None:
            await runs.prove(self.asker.claim)
        run = await runs.find_asked(self.conversation_id, self.send, user_id=self.asker.user_id)
        return None if run is None else Started(run, is_replay=True)


async def _stream(request: Request, asked: _Asked) -> Response:
    runs = _runs(request)
    seen = last_event_id(request)
    seq = 0 if seen is None else parse_cursor(seen, field="header.Last-Event-ID")
    # Readers of event streams reconnect by asking again. That is no wish for another answer.
    is_reconnect = seen is not None and asked.idempotent is None
    started = await (asked.find(runs) if is_reconnect else asked.start(runs))
    if started is None:
        # How such a reader is told to stop (HTML standard, section 9.2.3).
        return Response(status_code=204)
    return await _events(
        request,
        started.run,
        asked.asker.user_id,
        after=seq if started.is_replay else 0,
        headers=_headers(started),
    )


async def _events(
    request: Request,
    run: Run,
    user_id: UUID,
    *,
    after: int,
    headers: Mapping[str, str] | None = None,
) -> Response:
    runs = _runs(request)
    is_read = await runs.is_read(run, user_id=user_id, after=after)
    return EventStreamResponse(
        to_events(runs.follow(run.id, user_id=user_id, after=after)),
        until=partial(refusal, credentials_check(request)),
        retry_ms=NO_RETRY_MS if is_read else RETRY_MS,
        headers=headers,
    )


def _accepted(started: Started) -> Response:
    return Response(
        RunResponse.of(started.run).model_dump_json(),
        status_code=202,
        media_type="application/json",
        headers=_headers(started),
    )


def _headers(started: Started) -> dict[str, str]:
    headers = {"Location": f"/runs/{started.run.id}"}
    if started.is_replay:
        headers |= REPLAYED
    return headers
