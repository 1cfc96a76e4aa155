"""Conversations: append-only trees of messages, each with a head."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from tertulia.domain.parts import Part


class Role(StrEnum):
    """Who speaks.

    What clients call `system` or `developer` is kept under that name. Whether a model is told it
    as an instruction or as a user's words is decided for each run.
    """

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    DEVELOPER = "developer"
    TOOL = "tool"


class Retention(StrEnum):
    """How long a conversation stays."""

    KEPT = "kept"
    """Until somebody deletes it."""
    WITH_RUNS = "with_runs"
    """The same; and it goes with the last of its runs, for nobody asked for more than those."""
    TEMPORARY = "temporary"
    """Until its run has ended; no list shows it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of one user."""

    id: UUID
    user_id: UUID
    title: str | None
    """None until somebody, or the model, gives it one."""
    model_type: str
    """The model that answers unless a run names another."""
    is_archived: bool
    metadata: Mapping[str, str]
    """Its owner's notes; at most 16."""
    message_count: int
    head_id: UUID | None
    """The message the conversation currently ends at."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored."""

    role: Role
    parts: tuple[Part, ...]
    id: UUID | None = None
    """None: a new one. Some protocols know a message by a name that its client gave it."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How a generated message came to be."""

    run_id: UUID
    model_type: str
    is_success: bool | None
    """None while the answer is being written."""
    status_code: int | None
    prompt_tokens: int | None
    response_tokens: int | None
    total_tokens: int | None
    cost_usd: Decimal | None
    finish_reason: str | None
    latency_ms: int | None
    """From the start of the run to its end."""
    first_token_ms: int | None
    """From the start of the run to its first token."""
    provider_request_id: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """One message; stored once, pointing at its parent."""

    id: UUID
    conversation_id: UUID
    parent_id: UUID | None
    seq: int
    """Its place in the conversation: 1, 2, 3 …, given under the conversation's lock."""
    role: Role
    content: str
    """Its text parts, joined."""
    parts: tuple[Part, ...]
    created_at: datetime
    updated_at: datetime
    generation: Generation | None
    """Set on answers that a run wrote."""
