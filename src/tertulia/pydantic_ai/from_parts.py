"""What our parts say, as messages of pydantic-ai's: for conversations that no agent wrote."""

import binascii
import mimetypes
from collections.abc import Mapping, MutableMapping, Sequence

from pydantic_ai import messages as theirs
from pydantic_ai.usage import RequestUsage

from tertulia.domain.conversations import Role
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tertulia.storage.repositories.agents import EntryMessage

_UNKNOWN_TOOL = "unknown"
"""The name of a tool whose call is not in what is read."""
_FINISH_REASONS: Mapping[str, theirs.FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_call",
    "content_filter": "content_filter",
}


def messages_of(
    message: EntryMessage, tool_names: MutableMapping[str, str]
) -> Sequence[theirs.ModelMessage]:
    """Return what a message says: one of theirs, or more where tools answer in the middle of it.

    What a client calls `system` is a user's words here as everywhere: it never instructs an agent.

    Args:
        message: Ours; its parts say it all.
        tool_names: By the ids of the calls before it; its own are added.
    """
    if message.role is not Role.ASSISTANT:
        return [_request(message, message.parts, tool_names)]
    found: list[theirs.ModelMessage] = []
    said: list[Part] = []
    for part in message.parts:
        if said and isinstance(part, ToolResultPart) is not isinstance(said[-1], ToolResultPart):
            found.append(_turn(message, said, tool_names))
            said = []
        said.append(part)
    if said or not found:
        found.append(_turn(message, said, tool_names))
    if isinstance(last := found[-1], theirs.ModelResponse):
        last.usage = RequestUsage(
            input_tokens=message.prompt_tokens or 0,
            output_tokens=message.response_tokens or 0,
            cache_read_tokens=message.cached_tokens or 0,
            details={"reasoning_tokens": message.reasoning_tokens}
            if message.reasoning_tokens
            else {},
        )
        last.finish_reason = _FINISH_REASONS.get(message.finish_reason or "")
    return found


def _turn(
    message: EntryMessage, said: Sequence[Part], tool_names: MutableMapping[str, str]
) -> theirs.ModelMessage:
    if said and isinstance(said[-1], ToolResultPart):
        return _request(message, said, tool_names)
    parts: list[theirs.ModelResponsePart] = []
    for part in said:
        match part:
            case TextPart(text):
                parts.append(theirs.TextPart(text))
            case ReasoningPart(text):
                parts.append(theirs.ThinkingPart(text))
            case ToolCallPart():
                tool_names[part.call_id] = part.name
                parts.append(theirs.ToolCallPart(part.name, part.arguments, part.call_id))
            case FilePart():
                file = _file(part)
                if isinstance(file, theirs.BinaryContent):
                    parts.append(theirs.FilePart(file))
                else:
                    parts.append(theirs.TextPart(part.url))
            case ToolResultPart():
                raise AssertionError("tool results are told in requests")
    model = message.model_type
    return theirs.ModelResponse(
        parts,
        model_name=model.partition(":")[2] or model if model else None,
        model_id=model,
        timestamp=message.created_at,
    )


def _request(
    message: EntryMessage, said: Sequence[Part], tool_names: Mapping[str, str]
) -> theirs.ModelRequest:
    parts: list[theirs.ModelRequestPart] = []
    prompt: list[theirs.UserContent] = []
    at = message.created_at
    for part in said:
        match part:
            case ToolResultPart(call_id, content):
                name = tool_names.get(call_id, _UNKNOWN_TOOL)
                parts.append(theirs.ToolReturnPart(name, content, call_id, timestamp=at))
            case FilePart():
                prompt.append(_file(part))
            case TextPart(text) | ReasoningPart(text):
                prompt.append(text)
            case ToolCallPart():
                prompt.append(part.arguments)
    if prompt or not parts:
        match prompt:
            case []:
                content = ""
            case [str(text)]:
                content = text
            case _:
                content = prompt
        parts.append(theirs.UserPromptPart(content, timestamp=at))
    return theirs.ModelRequest(parts, timestamp=at)


def _file(part: FilePart) -> theirs.MultiModalContent:
    about = {"detail": part.detail} if part.detail else None
    if part.url.startswith("data:"):
        try:
            file = theirs.BinaryContent.from_data_uri(part.url)
        except (ValueError, binascii.Error):
            pass  # percent-encoded, or broken: whoever reads it may know better
        else:
            file.vendor_metadata = about
            return file
    kind = part.media_type or mimetypes.guess_type(part.name or part.url[:2_000])[0] or "image/*"
    match kind.partition("/")[0]:
        case "image":
            url_of = theirs.ImageUrl
        case "audio":
            url_of = theirs.AudioUrl
        case "video":
            url_of = theirs.VideoUrl
        case _:
            url_of = theirs.DocumentUrl
    return url_of(part.url, media_type=part.media_type, vendor_metadata=about)
