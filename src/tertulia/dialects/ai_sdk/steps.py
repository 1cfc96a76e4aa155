"""What an answer is to AI SDK UI: one message, of one or more steps.

Here every call for tools ends an answer, their results are a message, and what is said then is
another answer. There all of it is one message, and each answer a step of it. It is known by the
first answer's id.
"""

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from tertulia.domain.conversations import Message, Role
from tertulia.domain.models import Usage
from tertulia.domain.parts import (
    FilePart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tertulia.domain.runs import Run

MALFORMED = "The model called this tool with something that is not JSON"
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
}
_ANY_TYPE = "application/octet-stream"


def grouped(messages: Sequence[Message]) -> list[list[Message]]:
    """Return the messages of a branch, those together that are shown as one."""
    groups: list[list[Message]] = []
    for message in messages:
        if groups and _is_answer(message) and _is_answer(groups[-1][-1]):
            groups[-1].append(message)
        else:
            groups.append([message])
    return groups


def is_shown(message: Message) -> bool:
    """Return whether there is something to show: an answer that is being written is empty."""
    return bool(message.parts)


def begins_alone(message: Message) -> bool:
    """Return whether a message is the first of those that are shown as one, whatever precedes."""
    return not _is_answer(message)


def shown(group: Sequence[Message]) -> dict[str, Any]:
    """Return the messages as the one that they are there: `id`, `role`, `metadata`, `parts`."""
    first = group[0]
    if not _is_answer(first):
        role = "user" if first.role is Role.USER else "system"
        parts = [shown_part(part) for part in first.parts if isinstance(part, (TextPart, FilePart))]
    else:
        role = "assistant"
        parts = _parts_of_steps(group)
    return {
        "id": str(first.id),
        "role": role,
        "metadata": metadata_of(group[-1]),
        "parts": parts,
    }


def metadata_of(message: Message) -> dict[str, Any]:
    """Return what is told of a message beside what it says; an answer's is that of its end."""
    metadata: dict[str, Any] = {
        "conversationId": str(message.conversation_id),
        "messageId": str(message.id),
        "createdAt": message.created_at.isoformat(),
    }
    generation = message.generation
    if generation is not None:
        metadata["runId"] = str(generation.run_id)
        metadata["model"] = generation.model_type
        usage = {
            "inputTokens": generation.prompt_tokens,
            "outputTokens": generation.response_tokens,
            "totalTokens": generation.total_tokens,
        }
        if any(count is not None for count in usage.values()):
            metadata["usage"] = usage
    return metadata


def metadata_of_run(run: Run) -> dict[str, Any]:
    """Return the same of an answer, from its run."""
    metadata: dict[str, Any] = {
        "conversationId": str(run.conversation_id),
        "messageId": str(run.message_id),
        "createdAt": run.created_at.isoformat(),
        "runId": str(run.id),
        "model": run.model_type,
    }
    if run.usage is not None and run.usage != Usage():
        metadata["usage"] = {
            "inputTokens": run.usage.prompt_tokens,
            "outputTokens": run.usage.response_tokens,
            "totalTokens": run.usage.total_tokens,
        }
    if run.error is not None:
        metadata["error"] = {"code": run.error.code, "message": run.error.message}
    return metadata


def finish_reason_of(run: Run) -> str:
    """Return why an answer ended, in the SDK's words."""
    if run.error is not None:
        return "error"
    return _FINISH_REASONS.get(run.finish_reason or "", "other")


def shown_part(part: TextPart | ReasoningPart | FilePart) -> dict[str, Any]:
    """Return words, or a file, as a part of a message."""
    if not isinstance(part, FilePart):
        return {"type": part.type, "text": part.text, "state": "done"}
    media_type = part.media_type
    if media_type is None and part.url.startswith("data:"):
        media_type = part.url[5:].partition(",")[0].partition(";")[0]
    told = {"type": "file", "mediaType": media_type or _ANY_TYPE, "url": part.url}
    return told if part.name is None else {**told, "filename": part.name}


def input_of(arguments: str) -> tuple[msgspec.Raw | str, bool]:
    """Return a tool's input to be written as it is, and whether it is JSON; else it is text."""
    value = _json_of(arguments or "{}")
    return (arguments, False) if value is None else (value, True)


def output_of(content: str) -> msgspec.Raw | str:
    """Return what a tool answered: as it is if that is JSON, else as text."""
    return content if (value := _json_of(content)) is None else value


def _parts_of_steps(group: Sequence[Message]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    calls: dict[str, dict[str, Any]] = {}
    for message in group:
        if message.role is Role.ASSISTANT and is_shown(message):
            parts.append({"type": "step-start"})
        for part in message.parts:
            match part:
                case ToolCallPart():
                    calls[part.call_id] = _shown_call(part)
                    parts.append(calls[part.call_id])
                case ToolResultPart(call_id, content):
                    # A result without its call is nothing to show.
                    if call_id in calls:
                        calls[call_id].update(_shown_result(calls[call_id], content))
                case _:
                    parts.append(shown_part(part))
    return parts


def _shown_call(call: ToolCallPart) -> dict[str, Any]:
    value, is_json = input_of(call.arguments)
    told: dict[str, Any] = {"type": f"tool-{call.name}", "toolCallId": call.call_id, "input": value}
    if call.server is not None:
        told["providerExecuted"] = True
    if is_json and call.server is not None:
        # One without a result waits for the user's word.
        return {**told, "state": "approval-requested", "approval": {"id": call.call_id}}
    if is_json:
        return {**told, "state": "input-available"}
    return {**told, "state": "output-error", "errorText": MALFORMED}


def _shown_result(call: dict[str, Any], content: str) -> dict[str, Any]:
    if call["state"] == "output-error":
        return {"errorText": content}
    call.pop("approval", None)
    return {"state": "output-available", "output": output_of(content)}


def _is_answer(message: Message) -> bool:
    return message.role in (Role.ASSISTANT, Role.TOOL)


def _json_of(text: str) -> msgspec.Raw | None:
    """Return JSON as it was written, for it may hold numbers that no number here can."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return None if isinstance(value, str) else msgspec.Raw(text.encode())


def _refuse(constant: str) -> NoReturn:
    # Python would read NaN and Infinity.
    raise ValueError(constant)
