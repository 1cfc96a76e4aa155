"""What tools take and what they answer."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tertulia.domain.conversations import Conversation, Message, Role
from tertulia.domain.parts import FilePart, ReasoningPart, is_plain, part_to_json
from tertulia.http.paging import CURSOR_CHARS_MAX

PAGE_MAX = 100
QUERY_CHARS_MAX = 200

Cursor = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=CURSOR_CHARS_MAX,
        description="`next_cursor` of the page before; none for the first page.",
    ),
]


class Arguments(BaseModel):
    """Of any tool."""

    model_config = ConfigDict(extra="forbid")


class ListArguments(Arguments):
    """Of `list_conversations`."""

    limit: int = Field(20, ge=1, le=PAGE_MAX)
    cursor: Cursor = None


class ReadArguments(Arguments):
    """Of `read_conversation`."""

    conversation_id: UUID
    limit: int = Field(50, ge=1, le=PAGE_MAX)
    cursor: Cursor = None


class SearchArguments(Arguments):
    """Of `search_conversations`."""

    query: str = Field(
        min_length=1, max_length=QUERY_CHARS_MAX, description="Words, as they stand in the text."
    )
    limit: int = Field(20, ge=1, le=PAGE_MAX)


class ConversationShown(BaseModel):
    """A conversation, without what was said in it."""

    id: UUID
    title: str | None
    model: str
    is_archived: bool
    message_count: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, conversation: Conversation) -> "ConversationShown":
        """Return it as it is shown."""
        return cls(
            id=conversation.id,
            title=conversation.title,
            model=conversation.model_type,
            is_archived=conversation.is_archived,
            message_count=conversation.message_count,
            created_at=conversation.created_at,
            updated_at=conversation.updated_at,
        )


class MessageShown(BaseModel):
    """A message of a conversation."""

    id: UUID
    role: Role
    created_at: datetime
    text: str
    parts: list[dict[str, Any]] | None = Field(
        default=None, description="Only where a message is more than its text."
    )

    @classmethod
    def of(cls, message: Message) -> "MessageShown":
        """Return it as it is shown: without reasoning, and without what files hold."""
        parts = None
        if not is_plain(message.parts):
            kept = (part for part in message.parts if not isinstance(part, ReasoningPart))
            parts = [_file(part) if isinstance(part, FilePart) else _plain(part) for part in kept]
        return cls(
            id=message.id,
            role=message.role,
            created_at=message.created_at,
            text=message.content,
            parts=parts,
        )


class ConversationPage(BaseModel):
    """Conversations, newest first."""

    conversations: Sequence[ConversationShown]
    next_cursor: str | None


class MessagePage(BaseModel):
    """What was said on the branch that a conversation ends with, oldest first."""

    conversation: ConversationShown
    messages: Sequence[MessageShown]
    next_cursor: str | None


class FoundShown(BaseModel):
    """Where the words were found."""

    conversation_id: UUID
    title: str | None
    message_id: UUID | None = Field(description="Null where the title holds them.")
    role: Role | None
    created_at: datetime
    excerpt: str


class FoundPage(BaseModel):
    """What was found, newest first."""

    found: Sequence[FoundShown]


def _plain(part: Any) -> dict[str, Any]:  # noqa: ANN401  any part but files
    return dict(part_to_json(part))


def _file(part: FilePart) -> dict[str, Any]:
    told: Mapping[str, str | None] = {"name": part.name, "media_type": part.media_type}
    where = {} if part.url.startswith("data:") else {"url": part.url}
    return {"type": part.type, **where, **{key: said for key, said in told.items() if said}}
