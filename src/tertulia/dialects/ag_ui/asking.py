"""What a run of AG-UI wants answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast
from uuid import UUID

from tertulia.conversations.messages import MessageService
from tertulia.dialects.ag_ui.history import results_in, told_in
from tertulia.dialects.ag_ui.schemas import PARTS_MAX, AgMessage, RunInput
from tertulia.dialects.deciding import Decided
from tertulia.dialects.placing import Placing, Said
from tertulia.domain.conversations import Message, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import FilePart, Part, TextPart, ToolResultPart
from tertulia.runs.schemas import CONTENT_CHARS_MAX
from tertulia.runs.send import Send, Verdict

FILES_MAX = 20
"""Of one message."""
_MEDIA_TYPE_CHARS_MAX = 255
_FILES = ("image", "audio", "video", "document")
_PASSED_OVER = ("activity", "reasoning")
"""Roles of what a client shows and nobody answers."""


_Told: TypeAlias = tuple[str, AgMessage]
"""A message that the client tells, and what it is called in an error."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to have answered."""

    send: Send
    decided: Decided | None = None
    """If there is something, this and the results of `send` are all that is asked."""
    result_fields: Sequence[str] = ()
    """What the calls of the new results are called in an error."""


async def asked_for(
    run: RunInput, conversation_id: UUID, messages: MessageService, *, user_id: UUID
) -> Asked:
    """Return what a run shall answer: tools' results and a user's message at the end.

    Or what the user says to the calls that another run was interrupted for.

    Raises:
        Invalid: There is nothing to answer, or what cannot be kept; or it allows a call and says
            more at once, or the answer that asks is not in it.
    """
    placing = Placing(messages, conversation_id, user_id)
    told = [
        (f"body.messages[{at}]", each)
        for at, each in enumerate(run.messages)
        if each.role not in _PASSED_OVER
    ]
    said: list[Said] = []
    if told and told[-1][1].role == "user":
        field, message = told.pop()
        said.append(_user(message, field))
    results: list[_Told] = []
    while told and told[-1][1].role == "tool":
        results.insert(0, told.pop())
    shown_in, new = await _new_results(placing, results)
    fields = [f"{field}.toolCallId" for field, _ in new]
    outputs = _tools(new) if new else None
    if run.resume and not _goes_on_without(run, said):
        decided = await _decided(run, placing)
        return Asked(Send(tool_results=_results_of(outputs)), decided, fields)
    if outputs is not None:
        said.insert(0, outputs)
    if not said and shown_in is not None and shown_in.role is Role.TOOL:
        # They were stored, and their answer never reached the client.
        return Asked(Send(parent_id=shown_in.id))
    if not said:
        raise Invalid(
            "There is no user's message, and no tool's result, at the end of this",
            field="body.messages",
        )
    above = [shown_in.id] if shown_in is not None else await _above(placing, told)
    return Asked(await placing.below(said, above), result_fields=fields)


def _goes_on_without(run: RunInput, said: Sequence[Said]) -> bool:
    """Return whether the user says something else instead of allowing calls."""
    if not said:
        return False
    if any(entry.is_approval for entry in run.resume or ()):
        raise Invalid("Say more when the calls have been made", field="body.resume")
    return True


async def _decided(run: RunInput, placing: Placing) -> Decided:
    answers = [message for message in run.messages if message.role == "assistant"]
    answer = await placing.find([answers[-1].id]) if answers else None
    verdicts = {each.interrupt_id: Verdict(each.is_approval) for each in run.resume or ()}
    decided = None if answer is None else Decided.about(answer, verdicts)
    for at, each in enumerate(run.resume or ()):
        if decided is None or each.interrupt_id not in decided.verdicts:
            wrong = f"body.resume[{at}].interruptId"
            raise Invalid("The last answer here has not asked for this", field=wrong)
    assert decided is not None, "there are entries"
    return decided


async def _new_results(
    placing: Placing, told: Sequence[_Told]
) -> tuple[Message | None, Sequence[_Told]]:
    """Return the stored message that the last of these results is shown from, and those after it.

    Clients tell all that they show, also what this server's own tools have said.
    """
    places = [told_in(message.id) for _, message in told]
    stored = await placing.find_ours([place[0] for place in places if place is not None])
    for at in reversed(range(len(told))):
        place = places[at]
        message = stored.get(place[0]) if place is not None else None
        if place is None or message is None:
            continue
        calls = [result.call_id for result in results_in(message)]
        if calls[place[1] : place[1] + 1] == [told[at][1].tool_call_id]:
            return message, told[at + 1 :]
    return None, told


async def _above(placing: Placing, told: Sequence[_Told]) -> Sequence[UUID]:
    """Return which message the new ones follow."""
    if not told:
        return ()
    field, message = told[-1]
    if message.role == "user":
        try:
            return placing.ids_of(_user(message, field))
        except Invalid:
            # It was refused, so it is not there.
            return ()
    found = await placing.find([message.id]) if message.role == "assistant" else None
    return () if found is None else [found.id]


def _user(message: AgMessage, field: str) -> Said:
    content = message.content
    sent: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else []
    if isinstance(content, list):
        sent = content
    if len(sent) > PARTS_MAX:
        raise Invalid(f"A message has at most {PARTS_MAX} parts", field=f"{field}.content")
    found = [_part(part, f"{field}.content[{at}]") for at, part in enumerate(sent)]
    parts = tuple(part for part in found if part != TextPart(""))
    if not parts:
        raise Invalid("The message says nothing", field=f"{field}.content")
    if sum(isinstance(part, FilePart) for part in parts) > FILES_MAX:
        raise Invalid(f"A message has at most {FILES_MAX} files", field=f"{field}.content")
    _check_length(sum(len(p.text) for p in parts if isinstance(p, TextPart)), f"{field}.content")
    return Said(message.id, Role.USER, parts)


def _results_of(outputs: Said | None) -> Sequence[ToolResultPart]:
    parts = () if outputs is None else outputs.parts
    return [part for part in parts if isinstance(part, ToolResultPart)]


def _tools(results: Sequence[_Told]) -> Said:
    """Return the results that follow one answer as one message."""
    parts: list[Part] = []
    for field, message in results:
        if message.tool_call_id is None:
            raise Invalid("A result names its call", field=f"{field}.toolCallId")
        parts.append(ToolResultPart(message.tool_call_id, _words(message, f"{field}.content")))
    return Said(" ".join(message.id for _, message in results), Role.TOOL, tuple(parts))


def _words(message: AgMessage, field: str) -> str:
    content = message.content
    if isinstance(content, list):
        found = [_part(part, f"{field}[{at}]") for at, part in enumerate(content)]
        if not all(isinstance(part, TextPart) for part in found):
            raise Invalid("A tool's result is kept as text only", field=field)
        content = "".join(part.text for part in found if isinstance(part, TextPart))
    if not isinstance(content, str):
        raise Invalid("This must be text", field=field)
    _check_length(len(content), field)
    return content


def _part(part: object, field: str) -> TextPart | FilePart:
    value = _fields(part)
    kind = value.get("type")
    if kind == "text":
        if not isinstance(text := value.get("text"), str):
            raise Invalid("This must be text", field=f"{field}.text")
        return TextPart(text)
    if kind not in _FILES:
        raise Invalid("A part is text, or image, audio, video or document", field=f"{field}.type")
    return _file(value.get("source"), f"{field}.source")


def _file(source: object, field: str) -> FilePart:
    told = _fields(source)
    kind, value, media_type = told.get("type"), told.get("value"), told.get("mimeType")
    if not isinstance(value, str) or not value:
        raise Invalid("This must be text", field=f"{field}.value")
    if media_type is not None and not (
        isinstance(media_type, str) and 0 < len(media_type) <= _MEDIA_TYPE_CHARS_MAX
    ):
        raise Invalid("This must be a media type", field=f"{field}.mimeType")
    if kind == "data":
        if media_type is None:
            raise Invalid("Data says what type it is", field=f"{field}.mimeType")
        return FilePart(f"data:{media_type};base64,{value}", media_type)
    if kind == "url" and value.startswith(("data:", "https://", "http://")):
        return FilePart(value, media_type)
    raise Invalid("Files are sent as data, or by an https:// URL", field=field)


def _fields(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _check_length(chars: int, field: str) -> None:
    if chars > CONTENT_CHARS_MAX:
        raise Invalid(f"This is longer than {CONTENT_CHARS_MAX} characters", field=field)
