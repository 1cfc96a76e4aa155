"""What was said, as messages of AG-UI."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tertulia.dialects.client_ids import as_uuid
from tertulia.domain.conversations import Message, Role
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
)

_BASE64 = ";base64"
_NUMBER_CHARS_MAX = 6
_MEDIA = ("image", "audio", "video")


def shown(message: Message) -> list[dict[str, Any]]:
    """Return a stored message as AG-UI has it: nothing while it is being written, one, or more."""
    if not message.parts:
        return []
    name = str(message.id)
    match message.role:
        case Role.USER:
            return [{"id": name, "role": "user", "content": _content(message.parts)}]
        case Role.SYSTEM | Role.DEVELOPER:
            return [{"id": name, "role": message.role.value, "content": message.content}]
        case Role.ASSISTANT:
            return [*_reasoning(name, message.parts), *_answer(name, message.parts)]
        case Role.TOOL:
            return _results(name, message.parts)


def reasoning_id(message_id: str, number: int) -> str:
    """Return what one of an answer's thoughts is called, from 0."""
    return f"{message_id}-reasoning-{number}"


def result_id(message_id: str, number: int) -> str:
    """Return what one of the results in a message is called, from 0."""
    return f"{message_id}-result-{number}"


def told_in(name: str) -> tuple[UUID, int] | None:
    """Return which message a result is shown from, and which of its results it is.

    None: `result_id` has not made this name.
    """
    message_id, separator, number = name.rpartition("-result-")
    id_ = as_uuid(message_id)
    if not separator or id_ is None or not number.isdecimal() or len(number) > _NUMBER_CHARS_MAX:
        return None
    return id_, int(number)


def results_in(message: Message) -> Sequence[ToolResultPart]:
    """Return the results in a message, in the order of their numbers."""
    return [part for part in message.parts if isinstance(part, ToolResultPart)]


def _reasoning(name: str, parts: Sequence[Part]) -> list[dict[str, Any]]:
    thoughts = [part.text for part in parts if isinstance(part, ReasoningPart)]
    return [
        {"id": reasoning_id(name, number), "role": "reasoning", "content": thought}
        for number, thought in enumerate(thoughts)
    ]


def _answer(name: str, parts: Sequence[Part]) -> list[dict[str, Any]]:
    calls = [
        {
            "id": part.call_id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in parts
        if isinstance(part, ToolCallPart)
    ]
    text = text_of(parts)
    told: dict[str, Any] = {"id": name, "role": "assistant"}
    if text:
        told["content"] = text
    if calls:
        told["toolCalls"] = calls
    said = [told] if text or calls else []
    # What was called before, and allowed since, is answered before anything is said.
    own = {part.call_id for part in parts if isinstance(part, ToolCallPart)}
    results = _results(name, parts)
    return [
        *(each for each in results if each["toolCallId"] not in own),
        *said,
        *(each for each in results if each["toolCallId"] in own),
    ]


def _results(name: str, parts: Sequence[Part]) -> list[dict[str, Any]]:
    results = [part for part in parts if isinstance(part, ToolResultPart)]
    return [
        {
            "id": result_id(name, number),
            "role": "tool",
            "toolCallId": result.call_id,
            "content": result.content,
        }
        for number, result in enumerate(results)
    ]


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, FilePart) for part in parts):
        return text_of(parts)
    return [
        _file(part) if isinstance(part, FilePart) else {"type": "text", "text": part.text}
        for part in parts
        if isinstance(part, (TextPart, FilePart))
    ]


def _file(part: FilePart) -> dict[str, Any]:
    head, comma, data = part.url.partition(",")
    if part.url.startswith("data:") and comma and head.endswith(_BASE64):
        media_type = part.media_type or head[len("data:") : -len(_BASE64)]
        source = {"type": "data", "value": data, "mimeType": media_type}
    else:
        media_type = part.media_type or ""
        source = {"type": "url", "value": part.url}
        if media_type:
            source["mimeType"] = media_type
    kind = media_type.partition("/")[0]
    return {"type": kind if kind in _MEDIA else "document", "source": source}
