"""What a client's message says, in the words of this server."""

import json
from collections.abc import Collection, Mapping
from typing import Any, cast

from tertulia.dialects.ai_sdk.schemas import UIMessage
from tertulia.dialects.ai_sdk.steps import MALFORMED
from tertulia.dialects.deciding import REASON_CHARS_MAX
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import FilePart, Part, TextPart, ToolResultPart
from tertulia.runs.schemas import CONTENT_CHARS_MAX
from tertulia.runs.send import Verdict

FILES_MAX = 20
"""Of one message."""
_NAME_CHARS_MAX = 255
_SCHEMES = ("data:", "https://", "http://")
_ANSWERED = ("output-available", "output-error", "output-denied")


def user_parts(message: UIMessage, field: str) -> tuple[Part, ...]:
    """Return what a user says.

    Parts that are the client's alone (`data-…`) are passed over, as the SDK itself does it when it
    tells a model.

    Raises:
        Invalid: It says nothing, too much, or something that cannot be kept.
    """
    parts: list[Part] = []
    for number, part in enumerate(message.parts):
        where = f"{field}.parts[{number}]"
        match part.get("type"):
            case "text":
                text = _text(part, "text", where)
                if text:
                    parts.append(TextPart(text))
            case "file":
                parts.append(_file(part, where))
            case str(kind) if kind.startswith("data-"):
                pass
            case _:
                raise Invalid("A user's message has text and files", field=f"{where}.type")
    if not parts:
        raise Invalid("The message says nothing", field=f"{field}.parts")
    if sum(len(part.text) for part in parts if isinstance(part, TextPart)) > CONTENT_CHARS_MAX:
        raise Invalid(
            f"The text must not be longer than {CONTENT_CHARS_MAX} characters",
            field=f"{field}.parts",
        )
    if sum(isinstance(part, FilePart) for part in parts) > FILES_MAX:
        raise Invalid(f"A message has at most {FILES_MAX} files", field=f"{field}.parts")
    return tuple(parts)


def tool_results(
    message: UIMessage, field: str, *, calls: Collection[str]
) -> tuple[ToolResultPart, ...]:
    """Return what the client's tools answered to these calls, of those that they answered.

    Raises:
        Invalid: It is too long.
    """
    results: dict[str, ToolResultPart] = {}
    for number, part in enumerate(message.parts):
        call_id = part.get("toolCallId")
        if isinstance(call_id, str) and call_id in calls and _is_tool(part):
            content = _output(part, f"{field}.parts[{number}]")
            if content is not None:
                results[call_id] = ToolResultPart(call_id, content)
    return tuple(results.values())


def check_own_calls(message: UIMessage, field: str, *, calls: Collection[str]) -> None:
    """Refuse a message that tells a result of one of these calls, which this server makes itself.

    Raises:
        Invalid: It does.
    """
    for number, part in enumerate(message.parts):
        call_id = part.get("toolCallId")
        is_malformed = part.get("errorText") == MALFORMED
        if call_id not in calls or not _is_tool(part) or is_malformed:
            continue
        if part.get("state") in _ANSWERED:
            raise Invalid(
                f"The call {call_id!r} is this server's own: no client answers it",
                field=f"{field}.parts[{number}]",
            )


def approvals(message: UIMessage, field: str) -> Mapping[str, Verdict]:
    """Return what the user said about calls that are made only with consent.

    Raises:
        Invalid: A reason is too long.
    """
    told: dict[str, Verdict] = {}
    for number, part in enumerate(message.parts):
        call_id, approval = part.get("toolCallId"), part.get("approval")
        if isinstance(call_id, str) and isinstance(approval, dict) and _is_tool(part):
            said = cast("Mapping[str, Any]", approval)
            if part.get("state") == "approval-responded" and isinstance(said.get("approved"), bool):
                where = f"{field}.parts[{number}].approval"
                told[call_id] = Verdict(said["approved"], _reason(said, where))
    return told


def _reason(approval: Mapping[str, Any], field: str) -> str | None:
    if approval.get("reason") is None:
        return None
    return _text(approval, "reason", field, limit=REASON_CHARS_MAX)


def _is_tool(part: Mapping[str, Any]) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and (kind.startswith("tool-") or kind == "dynamic-tool")


def _output(part: Mapping[str, Any], field: str) -> str | None:
    """Return what a model is told of a call; None if there is no answer to it yet."""
    match part.get("state"):
        case "output-available":
            output = part.get("output")
            # As the SDK does it: words as they are, anything else as JSON.
            content = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        case "output-error":
            content = _text(part, "errorText", field)
        case "output-denied":
            content = "The user did not allow this call."
        case _:
            return None
    if len(content) > CONTENT_CHARS_MAX:
        raise Invalid(
            f"A tool's output must not be longer than {CONTENT_CHARS_MAX} characters",
            field=f"{field}.output",
        )
    return content


def _file(part: Mapping[str, Any], field: str) -> FilePart:
    url = _text(part, "url", field)
    if not url.startswith(_SCHEMES):
        raise Invalid("A file's URL begins with data: or https://", field=f"{field}.url")
    media_type = _text(part, "mediaType", field, limit=_NAME_CHARS_MAX)
    name = _text(part, "filename", field, limit=_NAME_CHARS_MAX) if part.get("filename") else None
    return FilePart(url, media_type or None, name)


def _text(part: Mapping[str, Any], name: str, field: str, *, limit: int | None = None) -> str:
    value = part.get(name)
    if not isinstance(value, str):
        raise Invalid("This must be text", field=f"{field}.{name}")
    if limit is not None and len(value) > limit:
        raise Invalid(f"This is longer than {limit} characters", field=f"{field}.{name}")
    return value
