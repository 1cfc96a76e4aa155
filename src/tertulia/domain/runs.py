"""Runs: answers being generated, the events their followers see, and how states may change."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from tertulia.domain.models import Usage


class RunStatus(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended; an ended run never changes again."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.RUNNING: frozenset({RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
    RunStatus.FAILED: frozenset(),
}
"""The only changes of state there are; a trigger in the database refuses all others."""


class OnBusy(StrEnum):
    """What a send does while the conversation is being answered."""

    REJECT = "reject"
    QUEUE = "queue"
    INTERRUPT = "interrupt"


class EventKind(StrEnum):
    """What a follower of a run can see."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    RESTART = "restart"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that happened in a run.

    Events of a run are numbered 1, 2, 3 … without gaps. An event is shown only when it is stored,
    and is the same for every follower, live or years later.
    """

    seq: int
    kind: EventKind
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """One answer being generated, or how it went."""

    id: UUID
    user_id: UUID
    conversation_id: UUID
    message_id: UUID
    """The answer."""
    seq: int
    """The answer's place in the conversation; runs take turns in this order."""
    status: RunStatus
    attempt: int
    """1, and one more for each process that took the run over; 0 while queued."""
    model_type: str
    settings: dict[str, Any]
    error: RunError | None
    usage: Usage | None
    finish_reason: str | None
    """Why the model stopped: `stop`, `length`, `tool_calls`, `content_filter`; None: it did not."""
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
