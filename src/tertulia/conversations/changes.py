"""What a caller asks to be made or changed, in plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, TypeVar
from uuid import UUID

Thing = TypeVar("Thing")


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET
"""Nothing was said about it; None, where it is allowed, says something."""


@dataclass(frozen=True, slots=True)
class ConversationChange:
    """What shall be different about a conversation."""

    title: str | None = None
    """None keeps it. An empty one: untitled again, so that the model may give it a title."""
    model_type: str | None = None
    """None keeps it."""
    is_archived: bool | None = None
    """None keeps it."""
    metadata: Mapping[str, str] | None = None
    """All of its owner's notes; None keeps those there are."""
    keeps: bool = True
    """Whether a conversation that is there for its runs is kept from now on."""
    head_id: UUID | Unset | None = UNSET
    """The message at which the conversation ends from now on; None: before its first."""


@dataclass(frozen=True, slots=True)
class Made(Generic[Thing]):
    """A thing, and whether an earlier request with the same key made it."""

    thing: Thing
    is_replay: bool
