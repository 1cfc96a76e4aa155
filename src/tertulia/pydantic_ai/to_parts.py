"""What a message of pydantic-ai's says, in our words.

What only its agents understand (signatures of reasoning, instructions that changed, the tools that
are at hand …) has no words here; it is kept as they wrote it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_ai import messages as theirs

from tertulia.domain.conversations import Role
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from tertulia.llm.exact_text import storable

_SHOWN_URLS = ("https://", "http://", "data:")


@dataclass(frozen=True, slots=True)
class Share:
    """What one speaker says in a message."""

    role: Role
    parts: tuple[Part, ...]
    begin: int
    """Of its part of the message, as an index of the message's parts."""
    end: int


def shares(message: theirs.ModelMessage) -> Sequence[Share]:
    """Return who says what in a message, in its order: a response has one speaker."""
    if isinstance(message, theirs.ModelResponse):
        said = [part for each in message.parts for part in _of_response(each)]
        return [Share(Role.ASSISTANT, tuple(said), 0, len(message.parts))]
    found: list[Share] = []
    for at, part in enumerate(message.parts):
        role, said = _of_request(part)
        last = found[-1] if found else None
        if last is not None and role in (None, last.role):
            found[-1] = Share(last.role, (*last.parts, *said), last.begin, at + 1)
        elif last is not None and not last.parts and said and role is not None:
            # What came before says nothing to anybody here: it goes with what does.
            found[-1] = Share(role, said, last.begin, at + 1)
        else:
            found.append(Share(role or Role.SYSTEM, said, at, at + 1))
    return found or [Share(Role.USER, (), 0, 0)]


def _of_request(part: theirs.ModelRequestPart) -> tuple[Role | None, tuple[Part, ...]]:
    """Return who says what in a part of a request; nobody and nothing for what is not said."""
    match part:
        case theirs.SystemPromptPart():
            return Role.SYSTEM, _text(part.content)
        case theirs.UserPromptPart():
            return Role.USER, _user_content(part.content)
        case theirs.SpeechPart():
            return Role.USER, _text(part.content)
        case theirs.ToolReturnPart():
            return Role.TOOL, _tool_result(part)
        case theirs.RetryFeedbackPart():
            said = part.content if isinstance(part.content, str) else part.model_response()
            return Role.USER, _text(said)
        case theirs.CompactionPart():
            return Role.USER, _text(part.content or "")
        case _:
            return None, ()


def _of_response(part: theirs.ModelResponsePart) -> tuple[Part, ...]:
    match part:
        case theirs.TextPart() | theirs.SpeechPart() | theirs.CompactionPart():
            return _text(part.content or "")
        case theirs.ThinkingPart():
            return (ReasoningPart(storable(part.content)),) if part.content else ()
        case theirs.ToolCallPart() | theirs.NativeToolCallPart():
            return (
                ToolCallPart(
                    storable(part.tool_call_id), storable(part.tool_name), _arguments(part)
                ),
            )
        case theirs.NativeToolReturnPart():
            return _tool_result(part)
        case theirs.FilePart():
            return _file(part.content)
        case _:
            return ()


def _text(text: str) -> tuple[Part, ...]:
    return (TextPart(storable(text)),) if text else ()


def _arguments(part: theirs.ToolCallPart | theirs.NativeToolCallPart) -> str:
    """Return them as the model wrote them, if that is how they are kept."""
    said = part.args if isinstance(part.args, str) else part.args_as_json_str()
    return storable(said)


def _tool_result(part: theirs.BaseToolReturnPart) -> tuple[Part, ...]:
    said = part.model_response_str(wrap_if_error=False)
    result = ToolResultPart(storable(part.tool_call_id), storable(said))
    return (result, *(shown for each in part.files for shown in _file(each)))


def _user_content(content: str | Sequence[theirs.UserContent]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return _text(content)
    return tuple(part for each in content for part in _of_user(each))


def _of_user(content: theirs.UserContent) -> tuple[Part, ...]:
    match content:
        case str():
            return _text(content)
        case theirs.TextContent():
            return _text(content.content)
        case theirs.CachePoint():
            return ()
        case _:
            return _file(content)


def _file(content: theirs.MultiModalContent) -> tuple[Part, ...]:
    """Return the file; one that only its provider can find has no address to show."""
    if isinstance(content, theirs.UploadedFile):
        return ()
    if isinstance(content, theirs.BinaryContent):
        url, media_type = content.data_uri, content.media_type
    else:
        url, media_type = content.url, _media_type(content)
    if not url.startswith(_SHOWN_URLS):
        return ()
    detail = (content.vendor_metadata or {}).get("detail")
    return (
        FilePart(
            storable(url),
            media_type and storable(media_type),
            detail=storable(detail) if isinstance(detail, str) else None,
        ),
    )


def _media_type(content: theirs.FileUrl) -> str | None:
    try:
        return content.media_type
    except ValueError:
        return None  # it was not told, and the URL does not say
