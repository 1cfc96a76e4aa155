"""Tool calls on a branch: which wait for a result, and whose it is to answer them."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from tertulia.domain.conversations import NewMessage
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import Part, ToolCallPart, ToolResultPart
from tertulia.storage.unit_of_work import UnitOfWork

_SOUGHT_IN_MESSAGES = 200
"""The newest on the way to a result, among which its call must be."""
_NAMED_CHARS = 100
_FIELD = "body.tool_results"


class Tip(NamedTuple):
    """Where a branch ends, to which something is to be added."""

    conversation_id: UUID
    message_id: UUID | None
    """None: nothing has been said."""
    user_id: UUID


def unanswered(parts: Sequence[Part]) -> Sequence[ToolCallPart]:
    """Return the calls of an answer that have no result in it, in order."""
    answered = {part.call_id for part in parts if isinstance(part, ToolResultPart)}
    calls = (part for part in parts if isinstance(part, ToolCallPart))
    return [call for call in calls if call.call_id not in answered]


async def find_open_calls(work: UnitOfWork, tip: Tip) -> Sequence[ToolCallPart]:
    """Return the calls that wait for a result where a branch ends, in order.

    They are those of the last answer, if nothing but results came after it.
    """
    answered = set[str]()
    above = tip.message_id
    while above is not None:
        message = await work.messages.get(
            above, conversation_id=tip.conversation_id, user_id=tip.user_id
        )
        if message.generation is not None and message.generation.is_success is None:
            # It is being written, or waits for its turn.
            return []
        open_here = [call for call in unanswered(message.parts) if call.call_id not in answered]
        if open_here or any(not isinstance(part, ToolResultPart) for part in message.parts):
            return open_here
        answered |= {part.call_id for part in message.parts if isinstance(part, ToolResultPart)}
        above = message.parent_id
    return []


async def check_results(
    work: UnitOfWork, new: Sequence[NewMessage], tip: Tip | None
) -> Sequence[NewMessage]:
    """Return what of `new` is to be stored below `tip` (None: alone), if a client may tell it.

    Each result answers a call that comes before it: among what is new, which is the client's own
    story, or on the branch, where the call must be one that the client makes and nobody has
    answered. A result that the branch has already, word for word, is left out: some clients send
    all of theirs again with every request.

    Raises:
        Invalid: One does not. The field is `body.tool_results[n].call_id`, where n counts all the
            results that are new; `result_number` reads it.
    """
    told = _Told.of(new)
    if not told.results and not told.own_calls:
        return new
    wanted = {part.call_id for part in told.results.values()}
    known = await _known(work, tip, wanted | told.own_calls)
    for call_id in told.own_calls:
        call = known.get(call_id)
        if call is not None and call.server is not None and call.result is None:
            raise Invalid(_not_a_clients(call_id), field=_FIELD)
    answered = set[str]()
    repeated = set[int]()
    for number, part in told.results.items():
        call = known.get(part.call_id)
        if call is not None and part.call_id not in answered and call.has(part):
            repeated.add(number)
        elif (wrong := _fault(part.call_id, call, answered)) is not None:
            raise Invalid(wrong, field=f"{_FIELD}[{number}].call_id")
        else:
            answered.add(part.call_id)
    return _without(new, repeated) if repeated else new


def result_number(error: Invalid) -> int | None:
    """Return which of the new results an error is about, from 0; None: it is about another thing.

    See `check_results`.
    """
    number = (error.field or "").removeprefix(f"{_FIELD}[").removesuffix("].call_id")
    return int(number) if number.isdecimal() else None


class _Known(NamedTuple):
    """A call on a branch."""

    server: str | None
    result: str | None
    """None: nobody has answered it."""

    def has(self, said: ToolResultPart) -> bool:
        """Return whether this very result of the client's is there already."""
        return self.server is None and self.result == said.content


class _Told(NamedTuple):
    """What messages say of calls."""

    results: dict[int, ToolResultPart]
    """By their number among all results; without those of `own_calls`."""
    own_calls: set[str]
    """Calls that are among the messages themselves."""

    @classmethod
    def of(cls, new: Sequence[NewMessage]) -> "_Told":
        told = cls({}, set())
        number = 0
        for part in (part for message in new for part in message.parts):
            if isinstance(part, ToolCallPart):
                told.own_calls.add(part.call_id)
            elif isinstance(part, ToolResultPart):
                if part.call_id not in told.own_calls:
                    told.results[number] = part
                number += 1
        return told


def _without(new: Sequence[NewMessage], repeated: Collection[int]) -> Sequence[NewMessage]:
    """Return messages without some of their results, and without those that were nothing else."""
    kept: list[NewMessage] = []
    number = 0
    for message in new:
        parts: list[Part] = []
        for part in message.parts:
            is_result = isinstance(part, ToolResultPart)
            if not (is_result and number in repeated):
                parts.append(part)
            number += is_result
        if parts or not message.parts:
            kept.append(replace(message, parts=tuple(parts)))
    return kept


async def _known(work: UnitOfWork, tip: Tip | None, wanted: set[str]) -> dict[str, _Known]:
    """Return those of the calls that are on the branch, each as it was made last."""
    known: dict[str, _Known] = {}
    if tip is None or tip.message_id is None:
        return known
    results: dict[str, str] = {}
    sought, edge = 0, None
    while sought < _SOUGHT_IN_MESSAGES:
        page = await work.messages.list_branch(
            tip.conversation_id,
            tip_id=tip.message_id,
            user_id=tip.user_id,
            limit=_SOUGHT_IN_MESSAGES - sought,
            after_seq=edge,
            newest_first=True,
        )
        for part in (part for message in page for part in reversed(message.parts)):
            if isinstance(part, ToolResultPart):
                results.setdefault(part.call_id, part.content)
            elif isinstance(part, ToolCallPart):
                # Ids may be used again: a result belongs to the last call before it.
                result = results.pop(part.call_id, None)
                known.setdefault(part.call_id, _Known(part.server, result))
        if page.is_last or wanted <= known.keys():
            break
        # A page of long messages is short.
        sought, edge = sought + len(page), page[-1].seq
    return known


def _fault(call_id: str, call: _Known | None, answered: Collection[str]) -> str | None:
    """Return why a call cannot be given a result by a client; None: it can.

    `answered` are those that the same request gives a result.
    """
    if call is None:
        return f"There is no call {call_id[:_NAMED_CHARS]!r} here that waits for a result"
    if call.server is not None:
        return _not_a_clients(call_id)
    if call.result is not None or call_id in answered:
        return f"{_named(call_id)} has been answered already"
    return None


def _not_a_clients(call_id: str) -> str:
    return f"{_named(call_id)} is this server's own: no client answers it"


def _named(call_id: str) -> str:
    return f"The call {call_id[:_NAMED_CHARS]!r}"
