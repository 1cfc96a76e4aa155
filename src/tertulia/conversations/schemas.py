"""The wire shapes of conversations and messages.

What is written is strict: unknown fields are refused, numbers are not text, and every text has its
limit, in characters.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    field_serializer,
)

from tertulia.conversations.changes import UNSET, ConversationChange
from tertulia.domain.conversations import Conversation, Generation, Message, NewMessage, Role
from tertulia.domain.parts import Part, TextPart, is_plain, part_to_json

TITLE_CHARS_MAX = 200
MODEL_CHARS_MAX = 200
CONTENT_CHARS_MAX = 100_000
METADATA_MAX = 16
_encode = msgspec.json.Encoder().encode


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("must have a character that is not a space")
    return text


Title = Annotated[
    StrictStr,
    Field(min_length=1, max_length=TITLE_CHARS_MAX, examples=["Learning Python"]),
    AfterValidator(_says_something),
]
NewTitle = Annotated[
    StrictStr,
    Field(max_length=TITLE_CHARS_MAX, examples=["Learning Python"]),
    AfterValidator(lambda text: text and _says_something(text)),
]
ModelType = Annotated[
    StrictStr,
    Field(
        min_length=1,
        max_length=MODEL_CHARS_MAX,
        description="`provider:model`; GET /models lists them.",
        examples=["local:smollm2"],
    ),
    AfterValidator(_says_something),
]
Metadata = Annotated[
    dict[
        Annotated[StrictStr, Field(min_length=1, max_length=64)],
        Annotated[StrictStr, Field(max_length=512)],
    ],
    Field(max_length=METADATA_MAX, description="Your own notes: up to 16 names and values."),
]
Content = Annotated[StrictStr, Field(min_length=1, max_length=CONTENT_CHARS_MAX)]


class Written(BaseModel):
    """A body that a client sends."""

    model_config = ConfigDict(extra="forbid")


class ConversationCreate(Written):
    """A conversation to be made."""

    title: Title | None = None
    model_type: ModelType | None = Field(
        None, description="The model that answers unless a run names another; else the server's."
    )
    first_message: Annotated[StrictStr, Field(max_length=CONTENT_CHARS_MAX)] | None = Field(
        None,
        description="The user's; stored with the conversation. Start a run to have it answered. "
        "An empty one is none.",
    )
    metadata: Metadata | None = None

    def messages(self) -> list[NewMessage]:
        """Return what it begins with."""
        if not self.first_message:
            return []
        return [NewMessage(Role.USER, (TextPart(self.first_message),))]


class ConversationUpdate(Written):
    """What shall be different about a conversation."""

    title: NewTitle | None = Field(
        None,
        description="Null leaves it as it is. Empty: untitled again; the model may then give it a "
        "title.",
    )
    is_archived: StrictBool | None = Field(None, description="Null leaves it as it is.")
    model_type: ModelType | None = Field(None, description="Null leaves it as it is.")
    metadata: Metadata | None = Field(
        None, description="All of the new notes; null leaves those there are."
    )
    head_id: UUID | None = Field(
        None,
        description="The message that the conversation shall end at (switches the branch). "
        "Null: before its first message, so that the next one is a new beginning.",
    )

    def change(self) -> ConversationChange:
        """Return what was asked for."""
        return ConversationChange(
            title=self.title,
            model_type=self.model_type,
            is_archived=self.is_archived,
            metadata=self.metadata,
            head_id=self.head_id if "head_id" in self.model_fields_set else UNSET,
        )


class ConversationReplace(Written):
    """A conversation as it shall be. What may be left out stays as it is."""

    title: Title
    model_type: ModelType | None = None
    is_archived: StrictBool | None = None

    def change(self) -> ConversationChange:
        """Return what was asked for."""
        return ConversationChange(
            title=self.title, model_type=self.model_type, is_archived=self.is_archived
        )


class ConversationResponse(BaseModel):
    """A conversation."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str | None = Field(description="Null until somebody, or the model, gives it one.")
    model_type: str
    is_archived: bool
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime
    message_count: int = Field(description="Messages of all branches.")
    head_id: UUID | None = Field(description="The message that the conversation ends at.")


def conversations_json(conversations: Iterable[Conversation]) -> bytes:
    """Return what `list[ConversationResponse]` would be as JSON, for a fourth of the time."""
    return _encode(
        [
            {
                "id": each.id,
                "title": each.title,
                "model_type": each.model_type,
                "is_archived": each.is_archived,
                "metadata": each.metadata,
                "created_at": each.created_at,
                "updated_at": each.updated_at,
                "message_count": each.message_count,
                "head_id": each.head_id,
            }
            for each in conversations
        ]
    )


class MessageCreate(Written):
    """A message to be stored."""

    role: Literal[Role.USER, Role.ASSISTANT, Role.SYSTEM] = Field(
        description="A `system` message is kept as such, and is no instruction to a model."
    )
    content: Content
    parent_id: UUID | None = Field(
        None,
        description="The message that this one follows; anything but the end of a branch starts "
        "a new branch (an edit is a sibling: name the parent of what is edited). Else the head.",
    )


class MessageUpdate(Written):
    """What a message shall say."""

    content: Content


class MessageResponse(BaseModel):
    """A message. What follows `parts` is set on answers that a run wrote, and null on others."""

    id: UUID
    conversation_id: UUID
    parent_id: UUID | None
    role: Role
    content: str = Field(description="Its text parts, joined.")
    created_at: datetime
    updated_at: datetime
    parts: list[Annotated[Part, Field(discriminator="type")]] | None = Field(
        description="All that it is made of, in order, where that is more than its text: "
        "reasoning, tool calls, tool results. Null where `content` says it all."
    )
    run_id: UUID | None = None
    model_type: str | None = None
    is_success: bool | None = Field(
        default=None, description="Null while the answer is being written."
    )
    status_code: int | None = None
    prompt_tokens: int | None = None
    response_tokens: int | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None
    finish_reason: str | None = None
    latency_ms: int | None = Field(
        default=None, description="From the start of the run to its end."
    )
    first_token_ms: int | None = Field(
        default=None, description="From the start of the run to its first token."
    )
    provider_request_id: str | None = None

    @field_serializer("parts")
    def _as_stored(self, parts: list[Part] | None) -> list[dict[str, str]] | None:
        # Without what is not said of a part.
        return None if parts is None else [part_to_json(part) for part in parts]

    @classmethod
    def of(cls, message: Message) -> Self:
        """Return the wire shape of a message."""
        parts = None if is_plain(message.parts) else list(message.parts)
        return cls(**_fields(message, parts))


def messages_json(messages: Iterable[Message]) -> bytes:
    """Return what `list[MessageResponse]` would be as JSON, for a third of the time.

    A page of fifty is the largest answer there is, and validating what we made ourselves was a
    fourth of its price.
    """
    return _encode([_fields(message, _parts(message)) for message in messages])


def _parts(message: Message) -> list[dict[str, str]] | None:
    return None if is_plain(message.parts) else [part_to_json(part) for part in message.parts]


def _fields(message: Message, parts: Sequence[object] | None) -> dict[str, Any]:
    """Return what is shown of a message, its parts as the caller has them."""
    return {
        "id": message.id,
        "conversation_id": message.conversation_id,
        "parent_id": message.parent_id,
        "role": message.role,
        "content": message.content,
        "created_at": message.created_at,
        "updated_at": message.updated_at,
        "parts": parts,
        **(_UNTOLD if message.generation is None else _told(message.generation)),
    }


def _told(generation: Generation) -> dict[str, Any]:
    cost_usd = generation.cost_usd
    return {
        "run_id": generation.run_id,
        "model_type": generation.model_type,
        "is_success": generation.is_success,
        "status_code": generation.status_code,
        "prompt_tokens": generation.prompt_tokens,
        "response_tokens": generation.response_tokens,
        "total_tokens": generation.total_tokens,
        "cost_usd": None if cost_usd is None else float(cost_usd),
        "finish_reason": generation.finish_reason,
        "latency_ms": generation.latency_ms,
        "first_token_ms": generation.first_token_ms,
        "provider_request_id": generation.provider_request_id,
    }


_UNTOLD: Mapping[str, None] = dict.fromkeys(
    name for name, field in MessageResponse.model_fields.items() if not field.is_required()
)
# What is said of a message that no run wrote.
