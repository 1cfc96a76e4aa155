"""`/v1/chat/completions` over HTTP."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from starlette.requests import HTTPConnection
from starlette.responses import Response

from tertulia.auth.dependencies import CurrentUser, StillAllowed
from tertulia.dialects.openai.chat.answer import ChatAnswer
from tertulia.dialects.openai.chat.completion import CompletionResponse
from tertulia.dialects.openai.chat.request import ChatCreate, ChatUpdate
from tertulia.dialects.openai.chat.stored import StoredChats
from tertulia.dialects.openai.listing import ItemsAfter, ItemsLimit, ItemsOrder, list_of, page_of
from tertulia.dialects.openai.missing import asking_for
from tertulia.dialects.openai.responses.dependencies import Found
from tertulia.dialects.openai.responses.request import METADATA_MAX
from tertulia.dialects.waiting import Waited
from tertulia.domain.errors import Invalid
from tertulia.http.idempotency import REPLAYED, Idempotent

_METADATA = re.compile(r"metadata\[([^\[\]\0]{1,64})\]")
_METADATA_VALUE_CHARS_MAX = 512
_encode = msgspec.json.Encoder().encode

router = APIRouter(prefix="/v1/chat/completions", tags=["openai"])


async def _stored_chats(connection: HTTPConnection) -> StoredChats:
    return StoredChats(connection.app.state.responses)


Stored = Annotated[StoredChats, Depends(_stored_chats)]


@router.post(
    "",
    response_model=CompletionResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "The answer."}},
)
async def create_chat_completion(
    *,
    body: ChatCreate,
    request: Request,
    user: CurrentUser,
    responses: Found,
    idempotent: Idempotent,
    still_allowed: StillAllowed,
) -> Response:
    """Answer messages: whole, or as a stream.

    The answer ends with its client. With an `Idempotency-Key` it goes on, for its client may ask
    again: a retry within an hour (with `store`, within 24) gets the same answer.
    """
    send = body.to_send(heeds_system=responses.heeds_instructions)
    with asking_for(body.model):
        started = await responses.runs.start(
            body.conversation(), send, user_id=user.id, idempotent=idempotent
        )
    request.state.take_time()
    waited = Waited(
        responses.runs,
        responses.conversations,
        started.run,
        user.id,
        is_temporary=not body.asked.is_stored,
    )
    answer = ChatAnswer(body, waited, still_allowed=still_allowed, is_alone=idempotent is None)
    answer.headers.update(REPLAYED if started.is_replay else {})
    return answer


@router.get("")
async def list_chat_completions(
    *,
    request: Request,
    user: CurrentUser,
    stored: Stored,
    after: ItemsAfter = None,
    limit: ItemsLimit = 20,
    order: ItemsOrder = "asc",
    model: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
) -> Response:
    """List the completions that were asked for with `store`, oldest first.

    `metadata[key]=value` in the query leaves out those without that.
    """
    completions, has_more = await stored.list(
        user_id=user.id,
        limit=limit,
        order=order,
        after=after,
        model=model,
        metadata=_metadata(request),
    )
    return _json(list_of(completions, has_more=has_more))


@router.get("/{name}", response_model=CompletionResponse)
async def get_chat_completion(name: str, user: CurrentUser, stored: Stored) -> Response:
    """Return a completion that was asked for with `store`."""
    return _json(await stored.get(name, user_id=user.id))


@router.post("/{name}", response_model=CompletionResponse)
async def update_chat_completion(
    name: str, body: ChatUpdate, user: CurrentUser, stored: Stored
) -> Response:
    """Replace a stored completion's metadata."""
    return _json(await stored.label(name, body.metadata or {}, user_id=user.id))


@router.delete("/{name}")
async def delete_chat_completion(name: str, user: CurrentUser, stored: Stored) -> dict[str, Any]:
    """Delete a stored completion."""
    await stored.delete(name, user_id=user.id)
    return {"object": "chat.completion.deleted", "id": name, "deleted": True}


@router.get("/{name}/messages")
async def list_chat_messages(
    *,
    name: str,
    user: CurrentUser,
    stored: Stored,
    after: ItemsAfter = None,
    limit: ItemsLimit = 20,
    order: ItemsOrder = "asc",
) -> dict[str, Any]:
    """List the messages that a stored completion answers, oldest first."""
    messages = await stored.list_messages(name, user_id=user.id)
    return page_of(messages, after=after, limit=limit, order=order)


def _metadata(request: Request) -> Mapping[str, str]:
    """Return what `metadata[key]=value` in the query says.

    Raises:
        Invalid: That is more, or longer, than metadata can be.
    """
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        match = _METADATA.fullmatch(name)
        if match is None:
            continue
        if len(value) > _METADATA_VALUE_CHARS_MAX or "\0" in value or len(asked) == METADATA_MAX:
            raise Invalid(
                f"Metadata has at most {METADATA_MAX} values of {_METADATA_VALUE_CHARS_MAX} "
                "characters, without NUL",
                field="query.metadata",
            )
        asked[match[1]] = value
    return asked


def _json(content: dict[str, Any]) -> Response:
    return Response(_encode(content), media_type="application/json")
