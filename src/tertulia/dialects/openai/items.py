"""Messages as OpenAI's items: one for each run of words, tool call, tool result or reasoning.

A call that this server makes itself, of an MCP server's tool, is one item with its result, or the
question whether it may be made.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID

from tertulia.dialects.openai.ids import item_id
from tertulia.domain.conversations import Message, Role
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    is_picture,
)

Item: TypeAlias = dict[str, Any]

COMPLETED = "completed"
IN_PROGRESS = "in_progress"
INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class ItemParts:
    """The parts of a message that are one item."""

    prefix: str
    """Of its id."""
    first: int
    """The index of its first part in the message."""
    parts: tuple[Part, ...]


def split(parts: Sequence[Part]) -> list[ItemParts]:
    """Return which parts make which item, in order: words and files go together."""
    items: list[ItemParts] = []
    own_calls: dict[str, int] = {}
    for index, part in enumerate(parts):
        if isinstance(part, ToolResultPart) and part.call_id in own_calls:
            place = own_calls.pop(part.call_id)
            items[place] = replace(items[place], parts=(*items[place].parts, part))
            continue
        prefix = prefix_of(part)
        if isinstance(part, ToolCallPart) and part.server is not None:
            own_calls[part.call_id] = len(items)
        if prefix == "msg" and items and items[-1].prefix == "msg":
            last = items[-1]
            items[-1] = ItemParts("msg", last.first, (*last.parts, part))
        else:
            items.append(ItemParts(prefix, index, (part,)))
    return items


def prefix_of(part: Part) -> str:
    """Return with what the id of an item begins that holds this part."""
    match part:
        case TextPart() | FilePart():
            return "msg"
        case ReasoningPart():
            return "rs"
        case ToolCallPart(server=None):
            return "fc"
        case ToolCallPart(approval="ask"):
            return "mcpr"
        case ToolCallPart():
            return "mcp"
        case ToolResultPart():
            return "fco"


def items_of(message: Message) -> list[Item]:
    """Return the items of a stored message; none while it is being written."""
    generation = message.generation
    if generation is not None and generation.is_success is None:
        return []
    status = COMPLETED if generation is None or generation.is_success else INCOMPLETE
    return items_of_parts(message.id, message.role, message.parts, last_status=status)


def items_of_parts(
    message_id: UUID,
    role: Role,
    parts: Sequence[Part],
    *,
    last_status: str = COMPLETED,
    requests: Mapping[str, str] | None = None,
) -> list[Item]:
    """Return the items that these parts of a message make.

    Args:
        message_id: Of the message.
        role: Of the message.
        parts: All of them.
        last_status: Of the last item; those before it were completed.
        requests: The names of the approval requests of calls that are made since, by their ids.
    """
    found = split(parts)
    last = len(found) - 1
    return [
        item(
            message_id,
            number,
            each.parts,
            role=role,
            status=last_status if number == last else COMPLETED,
            requests=requests,
        )
        for number, each in enumerate(found)
        # One that was deleted, behind which others keep their names.
        if each.parts != (ReasoningPart(""),)
    ]


def item(
    message_id: UUID,
    number: int,
    parts: Sequence[Part],
    *,
    role: Role,
    status: str,
    requests: Mapping[str, str] | None = None,
) -> Item:
    """Return one item.

    Args:
        message_id: Of which message.
        number: Which of its items, from 0.
        parts: What it holds: one part, or more that are words and files.
        role: Of the message.
        status: `completed`, `in_progress` or `incomplete`.
        requests: As in `items_of_parts`.
    """
    first = parts[0]
    name = item_id(prefix_of(first), message_id, number)
    match first:
        case ReasoningPart(text):
            summary = [{"type": "summary_text", "text": text}] if text else []
            return {"id": name, "type": "reasoning", "summary": summary, "status": status}
        case ToolCallPart(approval="ask"):
            return {"id": name, "type": "mcp_approval_request", **_called(first)}
        case ToolCallPart(server=str()):
            request = (requests or {}).get(first.call_id)
            return _own_call(name, first, parts[1:], status) | {"approval_request_id": request}
        case ToolCallPart(call_id, tool, arguments):
            return {
                "id": name,
                "type": "function_call",
                "call_id": call_id,
                "name": tool,
                "arguments": arguments,
                "status": status,
            }
        case ToolResultPart(call_id, content):
            return {
                "id": name,
                "type": "function_call_output",
                "call_id": call_id,
                "output": content,
                "status": status,
            }
        case _:
            return {
                "id": name,
                "type": "message",
                "role": role.value,
                "status": status,
                "content": contents(parts, role=role),
            }


def _own_call(name: str, call: ToolCallPart, rest: Sequence[Part], status: str) -> Item:
    result = next((part.content for part in rest if isinstance(part, ToolResultPart)), None)
    return {
        "id": name,
        "type": "mcp_call",
        **_called(call),
        "output": result,
        "error": None,
        "status": INCOMPLETE if result is None and status == COMPLETED else status,
    }


def _called(call: ToolCallPart) -> Item:
    return {
        "server_label": call.server,
        "name": call.name.partition("__")[2] or call.name,
        "arguments": call.arguments,
    }


def contents(parts: Iterable[Part], *, role: Role) -> list[dict[str, Any]]:
    """Return words and files as the content of a message."""
    told: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case TextPart(text) if role is Role.ASSISTANT:
                told.append(output_text(text))
            case TextPart(text):
                told.append({"type": "input_text", "text": text})
            case FilePart(url, _, name, detail) if is_picture(part):
                told.append({"type": "input_image", "image_url": url, "detail": detail or "auto"})
            case FilePart(url, _, name, _):
                place = "file_data" if url.startswith("data:") else "file_url"
                told.append({"type": "input_file", place: url, "filename": name or "file"})
            case _:
                pass
    return told


def output_text(text: str) -> dict[str, Any]:
    """Return an answer's words as a content part."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
