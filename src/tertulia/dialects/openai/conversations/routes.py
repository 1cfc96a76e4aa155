"""`/v1/conversations`: OpenAI's, and a list of them, which OpenAI's API does not have."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from tertulia.auth.dependencies import CurrentUser
from tertulia.conversations.changes import ConversationChange
from tertulia.dialects.openai.conversations.items import ConversationItems
from tertulia.dialects.openai.ids import conversation_id, parse_conversation_id
from tertulia.dialects.openai.input_items import InputItem, check_kept
from tertulia.dialects.openai.items import Item
from tertulia.dialects.openai.listing import (
    ItemsAfter,
    ItemsLimit,
    ItemsOrder,
    list_of,
)
from tertulia.dialects.openai.missing import looking_for
from tertulia.dialects.openai.responses.dependencies import Found
from tertulia.dialects.openai.responses.request import Metadata
from tertulia.dialects.openai.responses.service import Responses
from tertulia.domain.conversations import Conversation
from tertulia.domain.users import User
from tertulia.http.idempotency import REPLAYED, Idempotent
from tertulia.http.paging import encode_cursor

ITEMS_ADDED_MAX = 20
"""In one request, as OpenAI has it."""

router = APIRouter(prefix="/v1/conversations", tags=["openai"])

NewItems = Annotated[list[InputItem], Field(max_length=ITEMS_ADDED_MAX)]
Include = Annotated[list[str] | None, Query(alias="include", max_length=50)]


class ConversationCreate(BaseModel):
    """A conversation to be made."""

    model_config = ConfigDict(extra="forbid")

    items: NewItems | None = None
    metadata: Metadata | None = None


class ConversationUpdate(BaseModel):
    """What shall be different about a conversation."""

    model_config = ConfigDict(extra="forbid")

    metadata: Metadata | None


class ItemsCreate(BaseModel):
    """Items to be added."""

    model_config = ConfigDict(extra="forbid")

    items: Annotated[NewItems, Field(min_length=1)]


@router.post("")
async def create_conversation(
    user: CurrentUser,
    responses: Found,
    idempotent: Idempotent,
    response: Response,
    body: ConversationCreate | None = None,
) -> dict[str, Any]:
    """Make a conversation; with an `Idempotency-Key`, once."""
    asked = body or ConversationCreate()
    check_kept(asked.items or (), field="body.items")
    new = await responses.messages_of(asked.items or (), field="body.items", user_id=user.id)
    made = await responses.conversations.create(
        user_id=user.id, messages=new, metadata=asked.metadata, idempotent=idempotent
    )
    response.headers.update(REPLAYED if made.is_replay else {})
    return _shown(made.thing)


@router.get("")
async def list_conversations(
    user: CurrentUser,
    responses: Found,
    after: ItemsAfter = None,
    limit: ItemsLimit = 20,
    _order: Annotated[Literal["desc"], Query(alias="order")] = "desc",
) -> dict[str, Any]:
    """List your conversations, newest first."""
    cursor = None
    if after is not None:
        last = await _find(responses, after, user)
        cursor = encode_cursor(last.created_at, last.id)
    page = await responses.conversations.list(user_id=user.id, limit=limit, cursor=cursor)
    return list_of([_shown(each) for each in page.items], has_more=page.next_cursor is not None)


@router.get("/{name}")
async def get_conversation(name: str, user: CurrentUser, responses: Found) -> dict[str, Any]:
    """Return a conversation."""
    return _shown(await _find(responses, name, user))


@router.post("/{name}")
async def update_conversation(
    name: str, body: ConversationUpdate, user: CurrentUser, responses: Found
) -> dict[str, Any]:
    """Replace the conversation's metadata."""
    with looking_for("Conversation", name):
        changed = await responses.conversations.update(
            parse_conversation_id(name),
            user_id=user.id,
            change=ConversationChange(metadata=body.metadata or {}),
        )
    return _shown(changed)


@router.delete("/{name}")
async def delete_conversation(name: str, user: CurrentUser, responses: Found) -> Mapping[str, Any]:
    """Delete a conversation and all that is in it, its responses included."""
    with looking_for("Conversation", name):
        id_ = parse_conversation_id(name)
        await responses.conversations.delete(id_, user_id=user.id)
    return {"id": conversation_id(id_), "object": "conversation.deleted", "deleted": True}


@router.post("/{name}/items")
async def create_items(
    *,
    name: str,
    body: ItemsCreate,
    user: CurrentUser,
    responses: Found,
    idempotent: Idempotent,
    response: Response,
    _include: Include = None,
) -> dict[str, Any]:
    """Add items at the end of a conversation; with an `Idempotency-Key`, once."""
    found = await _find(responses, name, user)
    check_kept(body.items, field="body.items")
    new = await responses.messages_of(body.items, field="body.items", user_id=user.id)
    made = await _items(responses).add(found, new, idempotent=idempotent)
    response.headers.update(REPLAYED if made.is_replay else {})
    return list_of(made.thing, has_more=False)


@router.get("/{name}/items")
async def list_items(
    name: str,
    user: CurrentUser,
    responses: Found,
    after: ItemsAfter = None,
    limit: ItemsLimit = 20,
    order: ItemsOrder = "desc",
    _include: Include = None,
) -> dict[str, Any]:
    """List a conversation's items, newest first."""
    found = await _find(responses, name, user)
    items, has_more = await _items(responses).page(found, after=after, limit=limit, order=order)
    return list_of(items, has_more=has_more)


@router.get("/{name}/items/{item}")
async def get_item(
    name: str, item: str, user: CurrentUser, responses: Found, _include: Include = None
) -> Item:
    """Return one item of a conversation."""
    return await _items(responses).get(await _find(responses, name, user), item)


@router.delete("/{name}/items/{item}")
async def delete_item(name: str, item: str, user: CurrentUser, responses: Found) -> dict[str, Any]:
    """Delete one item, and return its conversation."""
    found = await _find(responses, name, user)
    await _items(responses).delete(found, item)
    return _shown(found)


def _items(responses: Responses) -> ConversationItems:
    return ConversationItems(responses.conversations)


async def _find(responses: Responses, name: str, user: User) -> Conversation:
    with looking_for("Conversation", name):
        return await responses.conversations.get(parse_conversation_id(name), user_id=user.id)


def _shown(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation_id(conversation.id),
        "object": "conversation",
        "created_at": int(conversation.created_at.timestamp()),
        "metadata": dict(conversation.metadata),
    }
