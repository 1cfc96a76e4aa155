"""The events of an ended run, rebuilt from its message: what makes a cursor good for ever.

When a run ends, its events are folded into its message (`answer.Answer`) and deleted. What remains
beside the message are marks: where in its parts each event ended. So a follower that comes back
years later is given the very events it has not seen, number by number.

An answer that somebody corrected afterwards is one text of another length. Its events keep their
numbers and places; the last reaches to the end of what the message says now.
"""

from collections.abc import Iterator, Sequence

from tertulia.domain.parts import (
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
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
    if replay.marks and replay.marks[-1] != _length(replay.parts):
        yield from _corrected(replay, after)
        return
    marks = iter(replay.marks)
    for part in replay.parts:
        match part:
            case TextPart(text) | ReasoningPart(text):
                kind = EventKind.TEXT if isinstance(part, TextPart) else EventKind.REASONING
                base, end_of_part = end, end + len(text)
                while end < end_of_part:
                    seq, begin, end = seq + 1, end, next(marks)
                    if seq > after:
                        yield RunEvent(seq, kind, {"delta": text[begin - base : end - base]})
            case ToolCallPart(call_id, name, arguments):
                seq, end = seq + 1, next(marks)
                if seq > after:
                    data = {"call_id": call_id, "name": name, "arguments": arguments}
                    yield RunEvent(seq, EventKind.TOOL_CALL, data)
            case ToolResultPart(call_id, content):
                seq, end = seq + 1, next(marks)
                if seq > after:
                    data = {"call_id": call_id, "content": content}
                    yield RunEvent(seq, EventKind.TOOL_RESULT, data)


def _length(parts: Sequence[Part]) -> int:
    return sum(len(p.text) if isinstance(p, (TextPart, ReasoningPart)) else 1 for p in parts)


def _corrected(replay: Replay, after: int) -> Iterator[RunEvent]:
    text = text_of(replay.parts)
    begin = 0
    for seq, mark in enumerate(replay.marks, replay.restart_seq + 1):
        end = len(text) if seq == last_seq(replay) - 1 else min(mark, len(text))
        if seq > after:
            yield RunEvent(seq, EventKind.TEXT, {"delta": text[begin:end]})
        begin = end
