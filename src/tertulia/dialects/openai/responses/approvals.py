"""What an input says of calls: outputs of functions, and whether this server may make its own."""

from collections.abc import Sequence
from uuid import UUID

from tertulia.conversations.messages import MessageService
from tertulia.conversations.tool_calls import result_number
from tertulia.dialects.deciding import Decided
from tertulia.dialects.openai.ids import ItemPlace, parse_item_id
from tertulia.dialects.openai.input_items import (
    Input,
    InputApproval,
    InputCall,
    InputCallOutput,
    InputItem,
    InputServerCall,
)
from tertulia.dialects.openai.items import split
from tertulia.domain.conversations import Message, NewMessage
from tertulia.domain.errors import Invalid, ItemNotFound
from tertulia.domain.parts import ToolCallPart, ToolResultPart
from tertulia.runs.send import Verdict

_NAMED_CHARS = 100
_NAMES = {
    "body.content": "body.input",
    "body.parent_id": "body.input",
    "body.response_format": "body.text.format",
    "body.mcp": "body.tools",
}
"""Of fields of a native request, by how they begin."""


def check_outputs(sent: Input | None) -> None:
    """Accept an input in which every call has one output at most.

    Raises:
        Invalid: One has more.
    """
    answered = set[str]()
    for number, each in enumerate(_items(sent)):
        if isinstance(each, InputCall):
            # Some models use an id again.
            answered.discard(each.call_id)
        elif isinstance(each, InputCallOutput):
            if each.call_id in answered:
                raise Invalid(
                    f"The call {each.call_id[:_NAMED_CHARS]!r} has an output already",
                    field=f"body.input[{number}].call_id",
                )
            answered.add(each.call_id)


def as_sent(error: Invalid, sent: Input | None, new: Sequence[NewMessage]) -> Invalid | None:
    """Return an error about a run as one about the request for a response, if that is different.

    Args:
        error: Whose field is named as in a native request.
        sent: The input.
        new: What was made of it.
    """
    field = error.field or ""
    if field.startswith("body.tool_results"):
        return Invalid(error.detail, field=_output_field(error, sent, new))
    known = (name for start, name in _NAMES.items() if field.startswith(start))
    name = next(known, None)
    return None if name is None else Invalid(error.detail, field=name)


def _output_field(error: Invalid, sent: Input | None, new: Sequence[NewMessage]) -> str:
    number = result_number(error)
    if number is None:
        return "body.input"
    parts = (part for message in new for part in message.parts)
    call_id = [part for part in parts if isinstance(part, ToolResultPart)][number].call_id
    places = [
        at
        for at, each in enumerate(_items(sent))
        if isinstance(each, InputCallOutput) and each.call_id == call_id
    ]
    return f"body.input[{places[-1]}].call_id" if places else "body.input"


async def approvals_in(
    sent: Input | None, conversation_id: UUID | None, messages: MessageService, *, user_id: UUID
) -> tuple[Decided, dict[str, str]] | None:
    """Return what an input says to requests for approval, and their names by the calls' ids.

    Args:
        sent: The input.
        conversation_id: Which it goes on; None: a new one.
        messages: Where the requests are.
        user_id: Whose.

    Raises:
        Invalid: It answers no such request, or one twice, or those of several responses.
    """
    items = _items(sent)
    # Who sends all that was said sends also what was decided long ago.
    made = {each.approval_request_id for each in items if isinstance(each, InputServerCall)}
    given: dict[str, tuple[str, InputApproval]] = {}
    for number, each in enumerate(items):
        if isinstance(each, InputApproval) and each.approval_request_id not in made:
            field = f"body.input[{number}].approval_request_id"
            if each.approval_request_id in given:
                raise Invalid("This request is answered twice", field=field)
            given[each.approval_request_id] = (field, each)
    if not given:
        return None
    places = {name: _place(name, field) for name, (field, _) in given.items()}
    first_field = next(iter(given.values()))[0]
    if len({place.message_id for place in places.values()}) > 1:
        raise Invalid("Answer the requests of one response at a time", field=first_field)
    asking_id = next(iter(places.values())).message_id
    asking = (await messages.find_many([asking_id], user_id=user_id)).get(asking_id)
    if asking is None or asking.conversation_id != conversation_id:
        raise Invalid(
            "No such request was made in what this goes on from; "
            "name that with `previous_response_id` or `conversation`",
            field=first_field,
        )
    verdicts: dict[str, Verdict] = {}
    names: dict[str, str] = {}
    for name, (field, each) in given.items():
        call = _requested(asking, places[name], field)
        verdicts[call.call_id] = Verdict(each.approve, each.reason)
        names[call.call_id] = name
    decided = Decided.about(asking, verdicts)
    assert decided is not None, "its calls were found"
    return decided, names


def _items(sent: Input | None) -> Sequence[InputItem]:
    return () if sent is None or isinstance(sent, str) else sent


def _place(name: str, field: str) -> ItemPlace:
    try:
        return parse_item_id(name)
    except ItemNotFound:
        raise _no_such_request(field) from None


def _requested(asking: Message, place: ItemPlace, field: str) -> ToolCallPart:
    items = split(asking.parts)
    if asking.generation is None or place.number >= len(items):
        raise _no_such_request(field)
    found = items[place.number]
    call = found.parts[0]
    if found.prefix != place.prefix or not isinstance(call, ToolCallPart) or call.approval is None:
        raise _no_such_request(field)
    return call


def _no_such_request(field: str) -> Invalid:
    return Invalid("There is no such request for approval", field=field)
