"""What OpenAI's clients send as input: words, or items, each of which becomes a message."""

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictStr, Tag

from tertulia.dialects.deciding import REASON_CHARS_MAX
from tertulia.domain.conversations import NewMessage, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    part_to_json,
)

ITEMS_MAX = 2_000
"""Of one request."""
EXPANDED_CHARS_MAX = 8 * 1024 * 1024
"""Of one request, with the items that it refers to and the summaries that it unpacks."""
CONTENTS_MAX = 500
"""Of one message."""
_SUMMARY_CHARS_MAX = 1_000_000
_SUMMARY_LEAD = "Summary of the conversation so far:\n"
_NO_SUCH_ITEM = "No item of this type can be kept here"
_COMPACTED = "tertulia1."
"""With this begins what is inside a compaction item."""

Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]
CallId = Annotated[StrictStr, Field(min_length=1, max_length=200)]
ItemId = Annotated[StrictStr, Field(max_length=200)]


class _Sent(BaseModel):
    """Part of an item. What else it has is passed over: clients send back what servers told."""

    model_config = ConfigDict(extra="ignore")


class InputText(_Sent):
    """Words, of whoever it is."""

    type: Literal["input_text", "output_text", "text"]
    text: StrictStr


class InputRefusal(_Sent):
    """Words with which a model refused to answer."""

    type: Literal["refusal"]
    refusal: StrictStr


class InputImage(_Sent):
    """A picture, as a URL."""

    type: Literal["input_image"]
    image_url: StrictStr | None = None
    file_id: StrictStr | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None


class InputFile(_Sent):
    """A file, as a URL or as it is."""

    type: Literal["input_file"]
    file_data: StrictStr | None = None
    file_url: StrictStr | None = None
    file_id: StrictStr | None = None
    filename: Annotated[StrictStr, Field(max_length=255)] | None = None


def words_or_list(value: object) -> str:
    """Return which branch of a union a value belongs to: words, or a list."""
    return "(words)" if isinstance(value, str) else "(list)"


def _kind(value: Any) -> str:  # noqa: ANN401  whatever was sent
    if not isinstance(value, dict):
        return f"({getattr(value, 'type', None)})"
    # A message may be sent without saying that it is one.
    return f"({cast('dict[str, object]', value).get('type', 'message')})"


InputContent = Annotated[
    Annotated[InputText, Tag("(input_text)")]
    | Annotated[InputText, Tag("(output_text)")]
    | Annotated[InputText, Tag("(text)")]
    | Annotated[InputRefusal, Tag("(refusal)")]
    | Annotated[InputImage, Tag("(input_image)")]
    | Annotated[InputFile, Tag("(input_file)")],
    Discriminator(
        _kind,
        custom_error_type="content_type",
        custom_error_message="No content of this type can be kept here",
    ),
]
Contents = Annotated[
    Annotated[StrictStr, Tag("(words)")]
    | Annotated[list[InputContent], Field(max_length=CONTENTS_MAX), Tag("(list)")],
    Discriminator(words_or_list),
]


class InputMessage(_Sent):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Contents


class InputCall(_Sent):
    """A call of a function that a model wanted."""

    type: Literal["function_call"]
    call_id: CallId
    name: Name
    arguments: StrictStr


class InputCallOutput(_Sent):
    """What that function said."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Contents


class InputServerCall(_Sent):
    """A call that this server has made of a tool of an MCP server."""

    type: Literal["mcp_call"]
    id: CallId
    server_label: Annotated[StrictStr, Field(min_length=1, max_length=64)]
    name: Name
    arguments: StrictStr
    output: StrictStr | None = None
    approval_request_id: ItemId | None = None


class InputApprovalRequest(_Sent):
    """A question of this server's whether it may make a call."""

    type: Literal["mcp_approval_request"]


class InputApproval(_Sent):
    """What the user says to it."""

    type: Literal["mcp_approval_response"]
    approval_request_id: ItemId
    approve: StrictBool
    reason: Annotated[StrictStr, Field(max_length=REASON_CHARS_MAX)] | None = None


class _Words(_Sent):
    text: StrictStr


class InputReasoning(_Sent):
    """What a model said to itself."""

    type: Literal["reasoning"]
    summary: Annotated[list[_Words], Field(max_length=CONTENTS_MAX)] = []
    content: Annotated[list[_Words], Field(max_length=CONTENTS_MAX)] | None = None


class InputCompaction(_Sent):
    """What `POST /v1/responses/compact` made of a conversation."""

    type: Literal["compaction"]
    encrypted_content: StrictStr


class InputReference(_Sent):
    """An item that is stored here."""

    type: Literal["item_reference"]
    id: ItemId


InputItem: TypeAlias = Annotated[
    Annotated[InputMessage, Tag("(message)")]
    | Annotated[InputCall, Tag("(function_call)")]
    | Annotated[InputCallOutput, Tag("(function_call_output)")]
    | Annotated[InputServerCall, Tag("(mcp_call)")]
    | Annotated[InputApprovalRequest, Tag("(mcp_approval_request)")]
    | Annotated[InputApproval, Tag("(mcp_approval_response)")]
    | Annotated[InputReasoning, Tag("(reasoning)")]
    | Annotated[InputCompaction, Tag("(compaction)")]
    | Annotated[InputReference, Tag("(item_reference)")],
    Discriminator(_kind, custom_error_type="item_type", custom_error_message=_NO_SUCH_ITEM),
]
Input = Annotated[
    Annotated[StrictStr, Tag("(words)")]
    | Annotated[list[InputItem], Field(max_length=ITEMS_MAX), Tag("(list)")],
    Discriminator(words_or_list),
]


def messages_of(
    sent: str | Sequence[InputItem], *, field: str
) -> list[NewMessage | InputReference]:
    """Return the messages that were sent; references are still to be looked up.

    Args:
        sent: A user's words, or items.
        field: What it is called in the request, for errors.

    Raises:
        Invalid: It has content that cannot be kept.
    """
    if isinstance(sent, str):
        return [NewMessage(Role.USER, (TextPart(sent),))] if sent else []
    found: list[NewMessage | InputReference] = []
    left = EXPANDED_CHARS_MAX
    for number, each in enumerate(sent):
        messages = _messages(each, f"{field}[{number}]", left)
        left -= sum(chars_of(message) for message in messages if isinstance(message, NewMessage))
        if left < 0:
            raise too_much(field)
        found += messages
    return found


def check_kept(sent: Sequence[InputItem], *, field: str) -> None:
    """Refuse items that go with a request for a response only.

    Raises:
        Invalid: There is one.
    """
    for number, each in enumerate(sent):
        if isinstance(each, InputApproval):
            wrong = f"{field}[{number}].type"
            raise Invalid("An approval is sent with the response that goes on", field=wrong)


def chars_of(message: NewMessage) -> int:
    """Return about how much a message holds."""
    return sum(len(text) for part in message.parts for text in part_to_json(part).values())


def too_much(field: str) -> Invalid:
    """Return what is said of an input that is too large once all it refers to is there."""
    return Invalid(f"This is more than {EXPANDED_CHARS_MAX} characters, unpacked", field=field)


def compacted(summary: str) -> str:
    """Return a summary as the inside of a compaction item. It is packed, not secret."""
    packed = zlib.compress(summary.encode())
    return _COMPACTED + base64.urlsafe_b64encode(packed).decode()


def is_summary(content: str) -> bool:
    """Return whether a message's words are those of a compaction item."""
    return content.startswith(_SUMMARY_LEAD)


def _messages(sent: InputItem, field: str, left: int) -> list[NewMessage | InputReference]:
    match sent:
        case InputReference():
            return [sent]
        case InputMessage(role=role, content=content):
            parts = _parts(content, f"{field}.content")
            return [NewMessage(Role(role), parts)] if parts else []
        case InputCall(call_id=call_id, name=name, arguments=arguments):
            call = ToolCallPart(call_id, name, arguments)
            return [NewMessage(Role.ASSISTANT, (call,))]
        case InputCallOutput(call_id=call_id, output=output):
            result = ToolResultPart(call_id, _text(output, f"{field}.output"))
            return [NewMessage(Role.TOOL, (result,))]
        case InputServerCall() as called:
            return _called(called)
        case InputApprovalRequest() | InputApproval():
            # No message says this; see `responses.approvals`.
            return []
        case InputReasoning(summary=summary, content=content):
            text = "\n\n".join(words.text for words in (content or summary))
            # Without words it is another server's secret, which says nothing here.
            return [NewMessage(Role.ASSISTANT, (ReasoningPart(text),))] if text else []
        case InputCompaction(encrypted_content=packed):
            summary = _unpacked(packed, f"{field}.encrypted_content", left)
            return [NewMessage(Role.USER, (TextPart(f"{_SUMMARY_LEAD}{summary}"),))]


def _called(sent: InputServerCall) -> list[NewMessage | InputReference]:
    if sent.output is None:
        # It waits for consent, or failed: there is nothing that a model could go on from.
        return []
    name = f"{sent.server_label}__{sent.name}"
    call = ToolCallPart(sent.id, name, sent.arguments, server=sent.server_label)
    return [NewMessage(Role.ASSISTANT, (call, ToolResultPart(sent.id, sent.output)))]


def _parts(content: str | Sequence[InputContent], field: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),) if content else ()
    parts = (_part(each, f"{field}[{number}]") for number, each in enumerate(content))
    return tuple(part for part in parts if not (isinstance(part, TextPart) and not part.text))


def _part(content: InputContent, field: str) -> Part:
    match content:
        case InputText(text=text) | InputRefusal(refusal=text):
            return TextPart(text)
        case InputImage(image_url=url, detail=detail):
            return FilePart(_url(url, f"{field}.image_url"), None, None, detail)
        case InputFile(file_data=data, file_url=url, filename=name):
            place = "file_data" if data is not None else "file_url"
            return FilePart(_url(data or url, f"{field}.{place}"), _type_of(data), name)


def _url(url: str | None, field: str) -> str:
    if url is None:
        raise Invalid("Files are sent here as data or by URL; `file_id` names none", field=field)
    if not url.startswith(("data:", "https://", "http://")):
        raise Invalid("This must be a data: or an http(s):// URL", field=field)
    return url


def _type_of(data: str | None) -> str | None:
    """Return the media type that a `data:` URL names; a file is no picture unless it says so."""
    if data is None or not data.startswith("data:"):
        return "application/octet-stream"
    return data[5:].partition(",")[0].partition(";")[0] or "text/plain"


def _text(output: str | Sequence[InputContent], field: str) -> str:
    if isinstance(output, str):
        return output
    texts: list[str] = []
    for number, each in enumerate(output):
        if not isinstance(each, InputText):
            raise Invalid("A function's output is kept as text only", field=f"{field}[{number}]")
        texts.append(each.text)
    return "".join(texts)


def _unpacked(packed: str, field: str, left: int) -> str:
    wrong = Invalid("This is not a compaction of this server's", field=field)
    if not packed.startswith(_COMPACTED):
        raise wrong
    try:
        raw = base64.urlsafe_b64decode(packed.removeprefix(_COMPACTED))
        unpacker = zlib.decompressobj()
        # At least one byte: no limit is written as 0.
        text = unpacker.decompress(raw, max(1, min(left, _SUMMARY_CHARS_MAX)))
        if unpacker.unconsumed_tail:
            raise wrong if left >= _SUMMARY_CHARS_MAX else too_much(field)
        return text.decode().replace("\0", "")
    except (binascii.Error, ValueError, zlib.error):
        raise wrong from None
