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
    if not replay.marks:
        return
    fits = replay.marks[-1] == _length(replay.parts)
    said = _as_said(replay) if fits else _corrected(replay)
    for seq, (kind, data) in enumerate(said, replay.restart_seq + 1):
        if seq > after:
            yield RunEvent(seq, kind, data)


def _as_said(replay: Replay) -> Iterator[tuple[EventKind, dict[str, str]]]:
    begin, end = 0, 0
    marks = iter(replay.marks)
    for part in replay.parts:
        match part:
            case TextPart(text) | ReasoningPart(text):
                kind = EventKind.TEXT if isinstance(part, TextPart) else EventKind.REASONING
                base, end_of_part = end, end + len(text)
                while end < end_of_part:
                    begin, end = end, next(marks)
                    yield kind, {"delta": text[begin - base : end - base]}
            case ToolCallPart(call_id, name, arguments):
                end = next(marks)
                yield (
                    EventKind.TOOL_CALL,
                    {"call_id": call_id, "name": name, "arguments": arguments},
                )
            case ToolResultPart(call_id, content):
                end = next(marks)
                yield EventKind.TOOL_RESULT, {"call_id": call_id, "content": content}


def _corrected(replay: Replay) -> Iterator[tuple[EventKind, dict[str, str]]]:
    text = text_of(replay.parts)
    begin = 0
    for mark in (*replay.marks[:-1], len(text)):
        end = min(mark, len(text))
        yield EventKind.TEXT, {"delta": text[begin:end]}
        begin = end


def _length(parts: Sequence[Part]) -> int:
    return sum(len(p.text) if isinstance(p, (TextPart, ReasoningPart)) else 1 for p in parts)
