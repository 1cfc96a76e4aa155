"""Which page of conversations or of messages a request asks for."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, Query

from tertulia.domain.errors import Invalid
from tertulia.http.paging import LIMIT_MAX, Cursor, Skip, SomeRows
from tertulia.http.query import QueryReader

CONVERSATIONS_DEFAULT = 10
"""Conversations of a page, unless `limit` or `take` says otherwise."""
MESSAGES_DEFAULT = 50
"""Messages of a page, unless `limit` says otherwise."""


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Which of the caller's conversations."""

    limit: int
    skip: int
    cursor: str | None
    archived: bool | None
    model_type: str | None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Which of a conversation's messages."""

    limit: int
    skip: int
    cursor: str | None
    newest_first: bool
    tip: UUID | Literal["head"] | None
    """None: all branches."""


def _conversation_page(
    *,
    limit: Annotated[
        SomeRows | None,
        Query(description="Rows of a page: 10, at most 200."),
    ] = None,
    take: Annotated[SomeRows | None, Query(description="Another name of `limit`.")] = None,
    skip: Skip = 0,
    cursor: Cursor = None,
    archived: Annotated[
        bool | None, Query(description="Only those that are, or are not, archived.")
    ] = None,
    model_type: Annotated[
        str | None, Query(max_length=200, description="Only those with this model.")
    ] = None,
) -> ConversationPage:
    if limit is not None and take is not None and limit != take:
        raise Invalid("`take` is another name of `limit`; send one of them", field="query.take")
    return ConversationPage(
        limit=limit or take or CONVERSATIONS_DEFAULT,
        skip=skip,
        cursor=cursor,
        archived=archived,
        model_type=model_type,
    )


def _message_page(
    *,
    limit: Annotated[
        int,
        Query(
            ge=1,
            le=LIMIT_MAX,
            description="Messages of one page, at most 200. A page of long ones is shorter: it "
            "ends before 1 MiB of text, after one message at the least. Follow the `Link` header.",
        ),
    ] = MESSAGES_DEFAULT,
    skip: Skip = 0,
    cursor: Cursor = None,
    branch: Annotated[
        Literal["head"] | UUID | None,
        Query(
            description="Only the messages on the way to this one; `head`: to the message that "
            "the conversation ends at. Without it, the messages of all branches."
        ),
    ] = None,
    order: Annotated[
        Literal["asc", "desc"], Query(description="Oldest first, or newest first.")
    ] = "asc",
) -> MessagePage:
    return MessagePage(
        limit=limit, skip=skip, cursor=cursor, newest_first=order == "desc", tip=branch
    )


CONVERSATION_PAGES = QueryReader(_conversation_page)
MESSAGE_PAGES = QueryReader(_message_page)
WantedConversations = Annotated[ConversationPage, Depends(CONVERSATION_PAGES)]
WantedMessages = Annotated[MessagePage, Depends(MESSAGE_PAGES)]
