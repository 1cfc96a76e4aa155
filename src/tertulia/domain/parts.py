"""What a message is made of."""

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class TextPart:
    """Words meant for the reader."""

    text: str
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class ReasoningPart:
    """Words a model wrote to itself before answering."""

    text: str
    type: Literal["reasoning"] = "reasoning"


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A model's wish to have a tool called."""

    call_id: str
    name: str
    arguments: str
    """JSON text as the model wrote it; it may be malformed, for a model wrote it."""
    server: str | None = None
    """The configured MCP server that makes the call; None: the client does."""
    approval: Literal["ask"] | None = None
    """`ask`: the server makes it only when the user allows it."""
    type: Literal["tool_call"] = "tool_call"


@dataclass(frozen=True, slots=True)
class ToolResultPart:
    """What a tool answered."""

    call_id: str
    content: str
    type: Literal["tool_result"] = "tool_result"


@dataclass(frozen=True, slots=True)
class FilePart:
    """A picture or another file, for models that can read it."""

    url: str
    """`data:…` or `https://…`. It is handed to the model's provider; nobody here follows it."""
    media_type: str | None = None
    """As in `image/png`; None where only the URL can tell."""
    name: str | None = None
    detail: str | None = None
    """How closely a picture is looked at: `low`, `high` or `auto`."""
    type: Literal["file"] = "file"


Part: TypeAlias = TextPart | ReasoningPart | ToolCallPart | ToolResultPart | FilePart

_BY_TYPE: dict[str, type[Part]] = {
    "text": TextPart,
    "reasoning": ReasoningPart,
    "tool_call": ToolCallPart,
    "tool_result": ToolResultPart,
    "file": FilePart,
}


def part_from_json(value: dict[str, Any]) -> Part:
    """Return the part that `part_to_json` wrote."""
    fields = dict(value)
    return _BY_TYPE[fields.pop("type")](**fields)


def part_to_json(part: Part) -> dict[str, str]:
    """Return the part as plain data, its `type` first."""
    match part:
        case TextPart(text) | ReasoningPart(text):
            return {"type": part.type, "text": text}
        case ToolCallPart():
            return {"type": part.type, **tool_call_to_json(part)}
        case ToolResultPart(call_id, content):
            return {"type": part.type, "call_id": call_id, "content": content}
        case FilePart(url, media_type, name, detail):
            told = {"url": url, "media_type": media_type, "name": name, "detail": detail}
            return {"type": part.type, **{key: said for key, said in told.items() if said}}


def tool_call_to_json(call: ToolCallPart) -> dict[str, str]:
    """Return a call without its type: also what the event says that brings it."""
    told = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    known = {"server": call.server, "approval": call.approval}
    return told | {name: value for name, value in known.items() if value is not None}


def is_picture(part: FilePart) -> bool:
    """Return whether the file is a picture, as far as its type or its name can tell."""
    kind = part.media_type or mimetypes.guess_type(part.name or part.url[:2_000])[0] or "image/*"
    return kind.startswith("image/")


def is_plain(parts: Sequence[Part]) -> bool:
    """Return whether `text_of` says all that the parts say."""
    return not parts or (len(parts) == 1 and isinstance(parts[0], TextPart))


def text_of(parts: Sequence[Part]) -> str:
    """Return the words meant for the reader: all text parts, joined."""
    return "".join(part.text for part in parts if isinstance(part, TextPart))
