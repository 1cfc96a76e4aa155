"""What is asked for: messages to store, where they go, and how they shall be answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tertulia.domain.conversations import NewMessage, Retention, Role
from tertulia.domain.models import ModelSettings
from tertulia.domain.parts import (
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
    tool_call_to_json,
)
from tertulia.domain.runs import OnBusy
from tertulia.runs.settings import settings_to_json, stored


@dataclass(frozen=True, slots=True)
class Branch:
    """A way through a conversation: from its first message to this one."""

    conversation_id: UUID
    tip_id: UUID
    is_whole: bool = False
    """Whether all of it is needed; else what is old may be left out."""


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation that begins with the messages that are sent."""

    model_type: str | None = None
    """Default: the model that answers."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    retention: Retention = Retention.KEPT
    history: Branch | None = None
    """What it repeats first, of another conversation of the same user."""
    id: UUID | None = None
    """Of a client's choosing; a conversation of the user's that has it is the one that is meant."""


@dataclass(frozen=True, slots=True)
class Instructions:
    """What else a model is told by whoever asks, below what the operator tells it."""

    text: str | None = None
    """For this answer only; no message holds it."""
    heeds_system: bool = False
    """Whether `system` and `developer` messages are instructions, and not a user's words."""

    @classmethod
    def stored_in(cls, settings: Mapping[str, Any]) -> "Instructions":
        """Return what `Send.stored_settings` wrote."""
        return cls(settings.get("instructions"), heeds_system=settings.get("heeds_system", False))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the user says to a call that waits for that."""

    is_approved: bool
    reason: str | None = None
    """Why not, for the model."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A call that waited for the user's word, and that; the run begins with its result."""

    message_id: UUID
    """The answer that asks for the call."""
    call: ToolCallPart
    verdict: Verdict

    @classmethod
    def stored_in(cls, settings: Mapping[str, Any]) -> "Sequence[Decision]":
        """Return what `Send.stored_settings` wrote, in order."""
        return [cls.from_json(each) for each in settings.get("decisions", ())]

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Decision":
        """Return what `to_json` wrote."""
        call = ToolCallPart(**told["call"])
        verdict = Verdict(told["is_approved"], told.get("reason"))
        return cls(UUID(told["message_id"]), call, verdict)

    def to_json(self) -> Mapping[str, Any]:
        """Return it as plain data."""
        told = {
            "message_id": str(self.message_id),
            "call": tool_call_to_json(self.call),
            "is_approved": self.verdict.is_approved,
        }
        return told if self.verdict.reason is None else {**told, "reason": self.verdict.reason}


@dataclass(frozen=True, slots=True)
class Send:
    """What somebody wants answered, and how."""

    messages: Sequence[NewMessage] = ()
    """What is new, each below the one before; none to answer (again) a message that is there."""
    parent_id: UUID | None = None
    """The message that they follow, or without any the one to answer; None: the head."""
    begins: bool = False
    """Whether they follow none, and are another beginning of the conversation."""
    model_type: str | None = None
    on_busy: OnBusy = OnBusy.REJECT
    settings: ModelSettings = field(default_factory=ModelSettings)
    instructions: Instructions = field(default_factory=Instructions)
    keeps: bool = False
    """Whether the conversation is kept from now on, whatever becomes of its runs."""
    title: str | None = None
    """Of the conversation, if it has none; then no model is asked for one."""
    mcp: Sequence[str] = ()
    """The configured MCP servers whose tools the model can use."""
    tool_results: Sequence[ToolResultPart] = ()
    """Of calls that were the client's to make, and wait where the messages go; they come first."""
    decisions: Sequence[Decision] = ()
    """They go with no messages but results: the run goes on where the conversation ends."""
    is_whole: bool = False
    """Whether the model is told all that came before, or the run fails; else what does not fit is
    left out, oldest first."""
    prepares: bool = False
    """Whether no model is asked: the run ends with an empty answer, to be gone on from."""
    label: str | None = None
    """Under which a protocol lists the runs that it started; None: it lists none."""
    echo: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What a protocol wants to say of this run later, as JSON; nothing here depends on it."""

    @classmethod
    def of_text(cls, content: str) -> "Send":
        """Return a user's words, to be answered as the conversation has it."""
        return cls(messages=[user_says(content)])

    @property
    def content(self) -> str | None:
        """The words of the last new message; None if there is none."""
        return text_of(self.messages[-1].parts) if self.messages else None

    def stored_settings(self, *, inputs: int) -> dict[str, Any]:
        """Return all that the run's row keeps of how it was asked for.

        Args:
            inputs: So many messages before the answer came with it.
        """
        told = self.instructions
        asked: dict[str, Any] = {
            "instructions": told.text,
            "heeds_system": told.heeds_system or None,
            "inputs": inputs,
            "mcp": list(self.mcp) or None,
            "whole": self.is_whole or None,
            "prepares": self.prepares or None,
            "label": self.label,
            "decisions": [dict(each.to_json()) for each in self.decisions] or None,
            "echo": stored("echo", dict(self.echo)) if self.echo else None,
        }
        settings = settings_to_json(self.settings)
        return settings | {name: value for name, value in asked.items() if value is not None}


def user_says(content: str) -> NewMessage:
    """Return a user's message of text."""
    return NewMessage(Role.USER, (TextPart(content),))
