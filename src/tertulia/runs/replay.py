"""The events of an ended run, rebuilt from its message: what makes a cursor good for ever.

When a run ends, its events are folded into its message (`answer.Answer`) and deleted. What remains
beside the message are marks: where in its parts each event ended. So a follower that comes back
years later is given the very events it has not seen, number by number.
"""

from collections.abc import Iterator

from tertulia.domain.parts import (
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    tool_call_to_json,
)
from tertulia.domain.runs import EventKind, RunEvent
from tertulia.storage.repositories.runs import Replay


def last_seq(replay: Replay) -> int:
    """Return the number of the `done` event, which comes after all others."""
    return replay.restart_seq + len(replay.marks) + 1


def events_after(replay: Replay, after: int) -> Iterator[RunEvent]:
    """Yield the events numbered above `after`, without `done`."""
    if after < replay.restart_seq:
        yield RunEvent(replay.restart_seq, EventKind.RESTART, {"attempt": replay.restart_attempt})
    seq, begin, end = replay.restart_seq, 0, 0
    marks = iter(replay.marks)
    for part in replay.parts:
        if isinstance(part, (TextPart, ReasoningPart)):
            kind = EventKind.TEXT if isinstance(part, TextPart) else EventKind.REASONING
            base, end_of_part = end, end + len(part.text)
            while end < end_of_part:
                seq, begin, end = seq + 1, end, next(marks)
                if seq > after:
                    yield RunEvent(seq, kind, {"delta": part.text[begin - base : end - base]})
        else:
            seq, end = seq + 1, next(marks)
            if seq > after and (event := _event_of(part, seq)) is not None:
                yield event


def _event_of(part: Part, seq: int) -> RunEvent | None:
    """Return the event that brought a whole part; None if none did."""
    match part:
        case ToolCallPart():
            return RunEvent(seq, EventKind.TOOL_CALL, dict(tool_call_to_json(part)))
        case ToolResultPart(call_id, content):
            return RunEvent(seq, EventKind.TOOL_RESULT, {"call_id": call_id, "content": content})
        case _:
            return None
