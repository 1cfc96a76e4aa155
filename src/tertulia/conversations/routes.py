"""`/conversations` and `/conversations/{id}/messages`, as both seeds have them."""

from uuid import UUID

from fastapi import APIRouter, Request, Response, status

from tertulia.auth.dependencies import CurrentAsker, CurrentUser
from tertulia.conversations.pages import (
    CONVERSATION_PAGES,
    MESSAGE_PAGES,
    WantedConversations,
    WantedMessages,
)
from tertulia.conversations.schemas import (
    ConversationCreate,
    ConversationReplace,
    ConversationResponse,
    ConversationUpdate,
    MessageCreate,
    MessageResponse,
    MessageUpdate,
    conversations_json,
    messages_json,
)
from tertulia.conversations.service import ConversationService
from tertulia.http.idempotency import REPLAYED, Idempotent
from tertulia.http.paging import Item, Page, page_headers

router = APIRouter(prefix="/conversations", tags=["conversations"])


def _conversations(request: Request) -> ConversationService:
    # No dependency: each costs a route a tenth of a statement.
    return request.app.state.conversations


def _shown(request: Request, page: Page[Item], items: bytes) -> Response:
    return Response(items, media_type="application/json", headers=page_headers(request, page))


# They are searched in this order, so what is asked for most comes first.
@router.post("", status_code=status.HTTP_201_CREATED)
async def create_conversation(
    body: ConversationCreate,
    user: CurrentUser,
    request: Request,
    idempotent: Idempotent,
    response: Response,
) -> ConversationResponse:
    """Make a conversation, with its first message if there is one.

    With an `Idempotency-Key` a repeated request returns the conversation that the first one made,
    as it is now (404 if it has been deleted since), with the header `Idempotent-Replayed: true`.
    """
    made = await _conversations(request).create(
        user_id=user.id,
        title=body.title,
        model_type=body.model_type,
        messages=body.messages(),
        metadata=body.metadata,
        idempotent=idempotent,
    )
    if made.is_replay:
        response.headers.update(REPLAYED)
    return ConversationResponse.model_validate(made.thing)


@router.get(
    "", response_model=list[ConversationResponse], openapi_extra=CONVERSATION_PAGES.documented
)
async def list_conversations(
    asker: CurrentAsker, wanted: WantedConversations, request: Request
) -> Response:
    """List your conversations, newest first; `Link: rel="next"` leads to the next page."""
    page = await _conversations(request).list(
        user_id=asker.user_id,
        limit=wanted.limit,
        skip=wanted.skip,
        cursor=wanted.cursor,
        archived=wanted.archived,
        model_type=wanted.model_type,
        claim=asker.claim,
    )
    return _shown(request, page, conversations_json(page.items))


@router.get("/{conversation_id}")
async def get_conversation(
    conversation_id: UUID, asker: CurrentAsker, request: Request
) -> ConversationResponse:
    """Return one conversation."""
    found = await _conversations(request).get(
        conversation_id, user_id=asker.user_id, claim=asker.claim
    )
    return ConversationResponse.model_validate(found)


@router.get(
    "/{conversation_id}/messages",
    response_model=list[MessageResponse],
    openapi_extra=MESSAGE_PAGES.documented,
)
async def list_messages(
    *,
    conversation_id: UUID,
    asker: CurrentAsker,
    wanted: WantedMessages,
    request: Request,
) -> Response:
    """List messages: of all branches in the order in which they were stored, or of one branch.

    `Link: rel="next"` leads to the next page. Long messages make a page shorter than `limit`.
    """
    page = await _conversations(request).messages.list(
        conversation_id,
        user_id=asker.user_id,
        tip=wanted.tip,
        limit=wanted.limit,
        skip=wanted.skip,
        cursor=wanted.cursor,
        newest_first=wanted.newest_first,
        claim=asker.claim,
    )
    return _shown(request, page, messages_json(page.items))


@router.post("/{conversation_id}/messages", status_code=status.HTTP_201_CREATED)
async def create_message(
    *,
    conversation_id: UUID,
    body: MessageCreate,
    asker: CurrentAsker,
    request: Request,
    idempotent: Idempotent,
    response: Response,
) -> MessageResponse:
    """Store a message. It becomes the head; nothing answers it (POST …/runs does).

    409 `run_active` while the conversation is being answered. With an `Idempotency-Key` a repeated
    request returns the message that the first one made, as it is now (404 if it has been deleted
    since), with the header `Idempotent-Replayed: true`.
    """
    made = await _conversations(request).messages.append(
        conversation_id,
        user_id=asker.user_id,
        role=body.role,
        content=body.content,
        parent_id=body.parent_id,
        idempotent=idempotent,
        claim=asker.claim,
    )
    if made.is_replay:
        response.headers.update(REPLAYED)
    return MessageResponse.of(made.thing)


@router.patch("/{conversation_id}")
async def update_conversation(
    conversation_id: UUID,
    body: ConversationUpdate,
    user: CurrentUser,
    request: Request,
) -> ConversationResponse:
    """Change what is given: title, model, archived or not, or the branch it is on.

    Nothing given changes nothing.
    """
    changed = await _conversations(request).update(
        conversation_id, user_id=user.id, change=body.change()
    )
    return ConversationResponse.model_validate(changed)


@router.put("/{conversation_id}", status_code=status.HTTP_202_ACCEPTED)
async def replace_conversation(
    conversation_id: UUID,
    body: ConversationReplace,
    user: CurrentUser,
    request: Request,
) -> ConversationResponse:
    """Replace title and, if given, model and archived or not."""
    changed = await _conversations(request).update(
        conversation_id, user_id=user.id, change=body.change()
    )
    return ConversationResponse.model_validate(changed)


@router.delete("/{conversation_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_conversation(conversation_id: UUID, user: CurrentUser, request: Request) -> None:
    """Delete a conversation and everything under it; what is being answered there is stopped."""
    await _conversations(request).delete(conversation_id, user_id=user.id)


@router.get("/{conversation_id}/messages/{message_id}")
async def get_message(
    conversation_id: UUID, message_id: UUID, user: CurrentUser, request: Request
) -> MessageResponse:
    """Return one message."""
    found = await _conversations(request).messages.get(conversation_id, message_id, user_id=user.id)
    return MessageResponse.of(found)


@router.patch("/{conversation_id}/messages/{message_id}")
@router.put("/{conversation_id}/messages/{message_id}")
async def correct_message(
    conversation_id: UUID,
    message_id: UUID,
    body: MessageUpdate,
    user: CurrentUser,
    request: Request,
) -> MessageResponse:
    """Change what a message says, in its place; 409 `run_active` while it is being written."""
    corrected = await _conversations(request).messages.correct(
        conversation_id, message_id, user_id=user.id, content=body.content
    )
    return MessageResponse.of(corrected)


@router.delete("/{conversation_id}/messages/{message_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_message(
    conversation_id: UUID, message_id: UUID, user: CurrentUser, request: Request
) -> None:
    """Delete one message; what followed it now follows its parent.

    409 `run_active` while it is being written or answered.
    """
    await _conversations(request).messages.delete(conversation_id, message_id, user_id=user.id)
