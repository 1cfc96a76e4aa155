"""Runs, and what happens in them, for tests of what a protocol makes of that."""

from datetime import UTC, datetime
from typing import Any

from tertulia.domain.ids import new_id
from tertulia.domain.models import Usage
from tertulia.domain.runs import EventKind, Run, RunError, RunEvent, RunStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_run(
    status: RunStatus = RunStatus.COMPLETED,
    *,
    finish_reason: str | None = "stop",
    error: RunError | None = None,
) -> Run:
    ended = status.is_terminal
    return Run(
        id=new_id(),
        user_id=new_id(),
        conversation_id=new_id(),
        message_id=new_id(),
        seq=2,
        status=status,
        attempt=1,
        model_type="openai:scripted",
        settings={},
        error=error,
        usage=Usage(1, 2) if ended else None,
        finish_reason=finish_reason if status is RunStatus.COMPLETED else None,
        created_at=NOW,
        started_at=NOW,
        ended_at=NOW if ended else None,
    )


def text(delta: str) -> RunEvent:
    return RunEvent(1, EventKind.TEXT, {"delta": delta})


def reasoning(delta: str) -> RunEvent:
    return RunEvent(1, EventKind.REASONING, {"delta": delta})


def call(arguments: str = "{}", call_id: str = "c", **more: Any) -> RunEvent:  # noqa: ANN401  JSON
    data = {"call_id": call_id, "name": "look_up", "arguments": arguments, **more}
    return RunEvent(1, EventKind.TOOL_CALL, data)


def result(content: str, call_id: str = "c") -> RunEvent:
    return RunEvent(1, EventKind.TOOL_RESULT, {"call_id": call_id, "content": content})


RESTART = RunEvent(1, EventKind.RESTART, {"attempt": 2})
