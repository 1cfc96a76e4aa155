"""What chat clients send as messages, as the messages of a conversation."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr

from tertulia.domain.conversations import NewMessage, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import FilePart, Part, TextPart, ToolCallPart, ToolResultPart

MESSAGES_MAX = 2_000
"""Of one request."""
PARTS_MAX = 500
"""Of one message."""
CALLS_MAX = 128
"""Of one message."""
_URL_STARTS = ("data:", "https://", "http://")

Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class _Sent(BaseModel):
    """Part of a message. What else it has is passed over: clients send back what servers told."""

    model_config = ConfigDict(extra="ignore")


class ImageUrl(_Sent):
    """Where a picture is."""

    url: Annotated[StrictStr, Field(min_length=1)]
    detail: Literal["auto", "low", "high", "original"] | None = None


class SentFile(_Sent):
    """A file as it is."""

    file_data: StrictStr | None = None
    file_id: StrictStr | None = None
    filename: Annotated[StrictStr, Field(max_length=255)] | None = None


class ContentPart(_Sent):
    """A piece of a message; it has the field that its type names."""

    type: Literal["text", "refusal", "image_url", "file"]
    text: StrictStr | None = None
    refusal: StrictStr | None = None
    image_url: ImageUrl | None = None
    file: SentFile | None = None


class SentFunction(_Sent):
    """What a model wanted to have called."""

    name: Name
    arguments: StrictStr


class SentToolCall(_Sent):
    """A tool call that an earlier answer ended with."""

    id: Name
    type: Literal["function"] = "function"
    function: SentFunction


def _as_parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Content = Annotated[
    list[ContentPart],
    Field(max_length=PARTS_MAX),
    BeforeValidator(_as_parts, json_schema_input_type=str | list[ContentPart]),
]


class ChatMessage(_Sent):
    """One message, whoever says it; which fields it needs depends on its role."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    name: Annotated[StrictStr, Field(max_length=200)] | None = None
    refusal: StrictStr | None = None
    tool_calls: Annotated[list[SentToolCall], Field(max_length=CALLS_MAX)] | None = None
    tool_call_id: Name | None = None
    function_call: SentFunction | None = None
    audio: Annotated[Any, Field(description="Only null: answers are words here.")] = None


def read_messages(sent: Sequence[ChatMessage], *, field: str) -> list[NewMessage]:
    """Return the messages that were sent, in their order.

    Args:
        sent: As the client has them.
        field: What they are called in the request, for errors.

    Raises:
        Invalid: One says nothing, says what its role cannot, or answers a call that nobody made.
    """
    reading = _Reading()
    messages = [reading.message(each, f"{field}[{at}]") for at, each in enumerate(sent)]
    if not any(message.parts for message in messages):
        raise Invalid("There is nothing to answer", field=field)
    return messages


class _Reading:
    """Reads messages from the first to the last, and knows what was called so far."""

    def __init__(self) -> None:
        self._call_ids: set[str] = set()
        self._id_by_function: dict[str, str] = {}

    def message(self, sent: ChatMessage, field: str) -> NewMessage:
        match sent.role:
            case "system" | "developer":
                return NewMessage(Role(sent.role), _words(sent, field))
            case "user":
                return NewMessage(Role.USER, _parts(sent, field))
            case "assistant":
                return NewMessage(Role.ASSISTANT, self._answer_parts(sent, field))
            case "tool":
                result = ToolResultPart(self._call_id(sent, field), _joined(sent, field))
            case "function":
                text = "" if sent.content is None else _joined(sent, field)
                result = ToolResultPart(self._function_id(sent, field), text)
        return NewMessage(Role.TOOL, (result,))

    def _answer_parts(self, sent: ChatMessage, field: str) -> tuple[Part, ...]:
        if sent.audio is not None:
            raise Invalid("Spoken answers are not kept here", field=f"{field}.audio")
        parts: list[Part] = list(_words(sent, field)) if sent.content else []
        if sent.refusal:
            parts.append(TextPart(sent.refusal))
        parts += [
            ToolCallPart(call.id, call.function.name, call.function.arguments)
            for call in sent.tool_calls or ()
        ]
        if sent.function_call is not None:
            called = sent.function_call
            # Functions were called one at a time, and their calls had no name of their own.
            call_id = f"call_{len(self._call_ids)}_{called.name}"
            parts.append(ToolCallPart(call_id, called.name, called.arguments))
            self._id_by_function[called.name] = call_id
        if not parts and not sent.content:
            raise Invalid(
                "An assistant's message needs content, or calls", field=f"{field}.content"
            )
        self._call_ids |= {part.call_id for part in parts if isinstance(part, ToolCallPart)}
        return tuple(parts)

    def _call_id(self, sent: ChatMessage, field: str) -> str:
        field = f"{field}.tool_call_id"
        if sent.tool_call_id is None:
            raise Invalid("A tool's message needs the id of the call that it answers", field=field)
        if sent.tool_call_id not in self._call_ids:
            raise Invalid("No message before this one has a tool call of this id", field=field)
        return sent.tool_call_id

    def _function_id(self, sent: ChatMessage, field: str) -> str:
        call_id = self._id_by_function.get(sent.name or "")
        if call_id is None:
            raise Invalid("No message before this one calls this function", field=f"{field}.name")
        return call_id


def _parts(sent: ChatMessage, field: str) -> tuple[Part, ...]:
    content = enumerate(_content(sent, field))
    parts = (_part(part, f"{field}.content[{at}]") for at, part in content)
    # Nothing is no part: some providers refuse empty ones.
    return tuple(part for part in parts if not isinstance(part, TextPart) or part.text)


def _words(sent: ChatMessage, field: str) -> tuple[TextPart, ...]:
    for at, part in enumerate(_content(sent, field)):
        if part.type not in ("text", "refusal"):
            place = f"{field}.content[{at}].type"
            raise Invalid(f"A message of this role has words only, no {part.type}", field=place)
    return tuple(part for part in _parts(sent, field) if isinstance(part, TextPart))


def _joined(sent: ChatMessage, field: str) -> str:
    return "".join(part.text for part in _words(sent, field))


def _content(sent: ChatMessage, field: str) -> Sequence[ContentPart]:
    if not sent.content:
        raise Invalid("A message of this role needs content", field=f"{field}.content")
    return sent.content


def _part(sent: ContentPart, field: str) -> Part:
    match sent.type:
        case "text":
            return TextPart(_present(sent.text, f"{field}.text"))
        case "refusal":
            return TextPart(_present(sent.refusal, f"{field}.refusal"))
        case "image_url":
            picture = sent.image_url
            if picture is None:
                raise Invalid("A picture needs its URL", field=f"{field}.image_url")
            url = _url(picture.url, f"{field}.image_url.url")
            return FilePart(url, None, None, picture.detail)
        case "file":
            return _file(sent.file, f"{field}.file")


def _present(text: str | None, field: str) -> str:
    if text is None:
        raise Invalid("A part needs the field that its type names", field=field)
    return text


def _file(file: SentFile | None, field: str) -> FilePart:
    if file is not None and file.file_id is not None and file.file_data is None:
        raise Invalid("No files are stored here: send it as `file_data`", field=f"{field}.file_id")
    if file is None or file.file_data is None:
        raise Invalid("A file needs its data", field=f"{field}.file_data")
    data = file.file_data
    if not data.startswith("data:"):
        raise Invalid("This must be a data: URL", field=f"{field}.file_data")
    # RFC 2397: without a type it is plain text.
    media_type = data[5:].partition(",")[0].partition(";")[0] or "text/plain"
    return FilePart(data, media_type, file.filename)


def _url(url: str, field: str) -> str:
    if not url.startswith(_URL_STARTS):
        raise Invalid("This must be a data: or an http(s):// URL", field=field)
    return url
