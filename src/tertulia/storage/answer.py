"""What a run has said so far: its events, folded into parts as they come."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tertulia.domain.parts import Part, ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from tertulia.domain.runs import EventKind, RunEvent
from tertulia.storage.repositories.runs import Outcome


@dataclass(slots=True)
class _Words:
    """A text or reasoning part while it grows; joined only when somebody asks."""

    kind: EventKind
    fragments: list[str]

    def part(self) -> Part:
        text = "".join(self.fragments)
        return TextPart(text) if self.kind is EventKind.TEXT else ReasoningPart(text)


@dataclass(slots=True)
class Answer:
    """The parts of an answer, and where in them each event ended.

    Positions count along the parts: a character (code point) of text or reasoning is one step, and
    so is a whole tool call or tool result.
    """

    seq: int = 0
    """The number of the last event."""
    restart_seq: int = 0
    restart_attempt: int | None = None
    _position: int = 0
    _marks: "array[int]" = field(default_factory=lambda: array("i"))
    _pieces: list[_Words | ToolCallPart | ToolResultPart] = field(
        default_factory=list[_Words | ToolCallPart | ToolResultPart]
    )

    @classmethod
    def of(cls, events: Iterable[RunEvent]) -> "Answer":
        """Return what these events, in order, amount to."""
        answer = cls()
        for event in events:
            answer.add(event)
        return answer

    def add(self, event: RunEvent) -> None:
        """Take the next event in."""
        self.seq = event.seq
        match event.kind:
            case EventKind.RESTART:
                self._restart(event)
                return
            case EventKind.TEXT | EventKind.REASONING:
                self._say(event.kind, event.data["delta"])
            case EventKind.TOOL_CALL:
                self._pieces.append(ToolCallPart(**event.data))
                self._position += 1
            case EventKind.TOOL_RESULT:
                self._pieces.append(ToolResultPart(**event.data))
                self._position += 1
            case EventKind.DONE:
                raise AssertionError("the end of a run is not stored as an event")
        self._marks.append(self._position)

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been said."""
        return not self._pieces

    @property
    def is_plain_text(self) -> bool:
        """Whether all that has been said is text, so that a model can go on from it."""
        return all(
            isinstance(piece, _Words) and piece.kind is EventKind.TEXT for piece in self._pieces
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """What has been said, joined."""
        return tuple(piece.part() if isinstance(piece, _Words) else piece for piece in self._pieces)

    @property
    def marks(self) -> tuple[int, ...]:
        """The position at which each event since the last restart ended."""
        return tuple(self._marks)

    def folded_into(self, outcome: Outcome) -> Outcome:
        """Return the outcome with all that is kept of this answer."""
        return replace(
            outcome,
            parts=self.parts,
            restart_seq=self.restart_seq,
            restart_attempt=self.restart_attempt,
            marks=self.marks,
        )

    def _say(self, kind: EventKind, delta: str) -> None:
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, _Words) and last.kind is kind:
            last.fragments.append(delta)
        else:
            self._pieces.append(_Words(kind, [delta]))
        self._position += len(delta)

    def _restart(self, event: RunEvent) -> None:
        self.restart_seq = event.seq
        self.restart_attempt = event.data["attempt"]
        self._position = 0
        self._marks = array("i")
        self._pieces.clear()
