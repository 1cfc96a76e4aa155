"""A run as OpenAI's response."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias

from tertulia.dialects.openai.ids import conversation_id, response_id
from tertulia.dialects.openai.items import COMPLETED, INCOMPLETE, Item, items_of_parts
from tertulia.domain.conversations import Message, Role
from tertulia.domain.models import Usage
from tertulia.domain.parts import Part, ToolCallPart, ToolResultPart
from tertulia.domain.runs import Run, RunError, RunStatus
from tertulia.runs.send import Decision
from tertulia.runs.settings import echo_in

ResponseObject: TypeAlias = dict[str, Any]

_STATUSES: Mapping[RunStatus, str] = {
    RunStatus.QUEUED: "queued",
    RunStatus.RUNNING: "in_progress",
    RunStatus.COMPLETED: "completed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.FAILED: "failed",
}
_INCOMPLETE: Mapping[str | None, str] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}
"""Why an answer is not whole though its run went well, by its finish reason."""
_RATE_LIMITED = "provider_rate_limited"
_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "frequency_penalty": 0.0,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "auto",
}
"""What a response says of its request where that said nothing."""


APPROVALS = "approvals"
"""Under this a run keeps `requests_of`."""
_ECHOED = frozenset({*_DEFAULTS, "model", "user"})


def response_of(run: Run, answer: Message) -> ResponseObject:
    """Return the response that a run is, with its output once it has ended."""
    ended = run.status.is_terminal
    output = output_of(run, answer) if ended else []
    return finished(run, output) if ended else begun(run)


def output_of(run: Run, answer: Message) -> list[Item]:
    """Return the items of a run's answer."""
    decided = decided_calls(run)
    parts: list[Part] = []
    for part in answer.parts:
        if isinstance(part, ToolResultPart) and part.call_id in decided:
            parts.append(decided[part.call_id])
        parts.append(part)
    return items_of_parts(
        answer.id,
        Role.ASSISTANT,
        parts,
        last_status=last_status_of(run),
        requests=requests_of(run),
    )


def decided_calls(run: Run) -> Mapping[str, ToolCallPart]:
    """Return the calls that a run was told to make, or not to, by their ids."""
    calls = (decision.call for decision in Decision.stored_in(run.settings))
    return {call.call_id: replace(call, approval=None) for call in calls}


def requests_of(run: Run) -> Mapping[str, str]:
    """Return the names of the requests for approval that a run's own request answered."""
    return echo_of(run).get(APPROVALS, {})


def last_status_of(run: Run) -> str:
    """Return the status of an ended run's last item."""
    return COMPLETED if _status(run) == "completed" else INCOMPLETE


def begun(run: Run, *, status: str | None = None) -> ResponseObject:
    """Return the response of a run that has not ended, in its own state or in that named."""
    return _response(run, status or _STATUSES[run.status], [])


def finished(run: Run, output: Sequence[Item]) -> ResponseObject:
    """Return the response of a run that has ended."""
    status = _status(run)
    response = _response(run, status, output)
    if status == "completed" and run.ended_at is not None:
        response["completed_at"] = _seconds(run.ended_at)
    if status == "incomplete":
        response["incomplete_details"] = {"reason": _INCOMPLETE[run.finish_reason]}
    if run.error is not None:
        response["error"] = _error(run.error)
    if run.usage is not None:
        response["usage"] = usage_of(run.usage)
    return response


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return what an answer cost; zero where nobody said."""
    asked, answered = usage.prompt_tokens or 0, usage.response_tokens or 0
    return {
        "input_tokens": asked,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": asked + answered,
    }


def final_event_of(run: Run) -> str:
    """Return the type of the last event of an ended run's stream.

    There is none for a cancelled one in the protocol; its response says what it is.
    """
    status = _status(run)
    return f"response.{status if status in ('completed', 'failed') else 'incomplete'}"


def echo_of(run: Run) -> Mapping[str, Any]:
    """Return what the run's request said, as far as it was not the default."""
    return echo_in(run.settings)


def _response(run: Run, status: str, output: Sequence[Item]) -> ResponseObject:
    return {
        **_DEFAULTS,
        "id": response_id(run.id),
        "object": "response",
        "created_at": _seconds(run.created_at),
        "completed_at": None,
        "status": status,
        "incomplete_details": None,
        "error": None,
        "model": run.model_type,
        "conversation": {"id": conversation_id(run.conversation_id)},
        "output": list(output),
        "usage": None,
        **{name: value for name, value in echo_of(run).items() if name in _ECHOED},
    }


def _status(run: Run) -> str:
    if run.status is RunStatus.COMPLETED and run.finish_reason in _INCOMPLETE:
        return "incomplete"
    return _STATUSES[run.status]


def _error(error: RunError) -> dict[str, str]:
    # The protocol names few codes, and its clients refuse others; ours is in the message.
    code = "rate_limit_exceeded" if error.code == _RATE_LIMITED else "server_error"
    return {"code": code, "message": f"{error.message} ({error.code})"}


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
