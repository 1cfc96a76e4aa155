"""A run that this process is executing."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from tertulia.domain.conversations import NewMessage
from tertulia.domain.models import (
    Delta,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    tool_call_to_json,
)
from tertulia.domain.runs import EventKind, Run, RunError, RunEvent, RunStatus
from tertulia.storage.answer import Answer
from tertulia.storage.repositories.leases import HeldRun
from tertulia.storage.repositories.runs import Outcome

_Said: TypeAlias = TextDelta | ReasoningDelta | ToolCall | ToolResultPart


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The last thing a follower sees; nothing is shown after it."""

    seq: int
    run: Run


@dataclass(slots=True, eq=False)
class LiveRun:
    """A held run between the model, which speaks, and the writer, which stores.

    The model's deltas gather in `_said` until the writer is ready for the next batch; only then do
    they become numbered events, so that a busy database makes events larger, not more numerous.
    """

    held: HeldRun
    answer: Answer
    started: float = field(default_factory=time.monotonic)
    shown: int | None = None
    """The number of the last event that is stored; None while only the database can tell."""
    branch: Sequence[NewMessage] | None = None
    """All that leads to the answer, if this process has just stored it and need not read it."""
    said_before: int = 0
    """How many events earlier attempts left of this answer: at least as many tokens."""
    received: int = 0
    """In how many pieces the provider sent it to this process: about as many tokens."""
    first_token_ms: int | None = None
    finish: Finish | None = None
    """Of the model's last answer; a run whose tools are called here has several."""
    outcome: Outcome | None = None
    """Set once: the model has said everything, and the rest is the writer's."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the end is stored, or when somebody else has the run."""
    is_lost: bool = False
    task: asyncio.Task[None] | None = None
    """What listens to the model."""
    _said: list[_Said] = field(default_factory=list[_Said])
    _numbered: list[RunEvent] = field(default_factory=list[RunEvent])
    """Events that come before what is in `_said`."""
    _waiting_chars: int = 0
    _spent: Usage = field(default_factory=Usage)
    """By the model's answers before the last."""
    _is_untold: bool = False
    """Whether nobody said how many tokens one of them had."""

    @property
    def tokens(self) -> int:
        """About how many tokens were received for this answer, by all its attempts."""
        return self.said_before + self.received

    def resume(self, answer: Answer) -> None:
        """Go on with what former attempts said. Before anything is heard."""
        self.answer = answer
        self.said_before = len(answer.marks)

    def restart(self, kept: Sequence[Part]) -> None:
        """Take back what former attempts said, but for its beginning, which is said again.

        Before anything is heard. All of it is stored at once, or nothing.
        """
        self._number(EventKind.RESTART, {"attempt": self.held.attempt})
        for part in kept:
            match part:
                case TextPart(text):
                    self._number(EventKind.TEXT, {"delta": text})
                case ReasoningPart(text):
                    self._number(EventKind.REASONING, {"delta": text})
                case ToolCallPart():
                    self._number(EventKind.TOOL_CALL, dict(tool_call_to_json(part)))
                case ToolResultPart():
                    self._number(EventKind.TOOL_RESULT, _result(part))
                case FilePart():
                    raise AssertionError("no model answers with files")
        self.said_before = len(self.answer.marks)

    def begin_answer(self) -> None:
        """The model is about to be asked; its answer follows what was said before."""
        if self.finish is None:
            return
        self._is_untold |= self.finish.usage.response_tokens is None
        self._spent += self.finish.usage
        self.finish = None

    def hear(self, delta: Delta) -> None:
        """Take what the model says next."""
        if isinstance(delta, Finish):
            self.finish = delta
            return
        if not isinstance(delta, ToolCall) and not delta.text:
            # An event without a length would be lost when the answer is folded into its message.
            return
        # When an earlier attempt said its first token, nobody noted.
        if self.received == 0 and self.answer.seq == 0:
            waited_s = self.held.age_s + time.monotonic() - self.started
            self.first_token_ms = round(waited_s * 1000)
        self.received += 1 if isinstance(delta, ToolCall) else delta.pieces
        self._said.append(delta)
        if not isinstance(delta, ToolCall):
            self._waiting_chars += len(delta.text)

    def hear_result(self, result: ToolResultPart) -> None:
        """Take what a tool answered."""
        self._said.append(result)

    @property
    def waiting_chars(self) -> int:
        """How much has been said that is not stored."""
        return self._waiting_chars

    def take_events(self) -> list[RunEvent]:
        """Number what was said since the last call; neighbours of one kind become one event."""
        said, self._said = self._said, []
        events, self._numbered = self._numbered, []
        self._waiting_chars = 0
        begin = 0
        while begin < len(said):
            first = said[begin]
            end = begin + 1
            if isinstance(first, (TextDelta, ReasoningDelta)):
                while end < len(said) and type(said[end]) is type(first):
                    end += 1
            events.append(self._event(said[begin:end]))
            begin = end
        return events

    def end(
        self,
        status: RunStatus,
        *,
        error: RunError | None = None,
        status_code: int = 200,
    ) -> None:
        """Say how it went. What was said and is not stored yet is stored with it."""
        finish = self.finish
        self.outcome = Outcome(
            status=status,
            error=error,
            status_code=status_code,
            usage=self._usage(),
            finish_reason=finish.reason if finish else None,
            first_token_ms=self.first_token_ms,
            provider_request_id=finish.request_id if finish else None,
        )

    def lose(self) -> None:
        """Somebody else has the run: nothing more may be said or stored here, its model stops."""
        self.is_lost = True
        self.ended.set()
        if self.task is not None and self.outcome is None:
            self.task.cancel()

    def _usage(self) -> Usage:
        """Return the tokens of the whole answer: as billed, else as many as were received."""
        usage = self.finish.usage if self.finish else Usage()
        is_told = usage.response_tokens is not None and not self._is_untold
        usage = self._spent + usage
        if not is_told:
            received = max(self.tokens, usage.response_tokens or 0)
            return replace(usage, response_tokens=received or None)
        if usage.prompt_tokens is None or usage.response_tokens is None:
            return usage
        # A continued answer was given its beginning back, as part of the prompt.
        before = min(self.said_before, usage.prompt_tokens)
        return replace(
            usage,
            prompt_tokens=usage.prompt_tokens - before,
            response_tokens=usage.response_tokens + before,
        )

    def _number(self, kind: EventKind, data: dict[str, Any]) -> None:
        event = RunEvent(self.answer.seq + 1, kind, data)
        self.answer.add(event)
        self._numbered.append(event)

    def _event(self, said: Sequence[_Said]) -> RunEvent:
        seq, first = self.answer.seq + 1, said[0]
        match first:
            case ToolCall(call_id, name, arguments, server, approval):
                call = ToolCallPart(call_id, name, arguments, server, approval)
                event = RunEvent(seq, EventKind.TOOL_CALL, dict(tool_call_to_json(call)))
            case ToolResultPart():
                event = RunEvent(seq, EventKind.TOOL_RESULT, _result(first))
            case TextDelta():
                event = RunEvent(seq, EventKind.TEXT, {"delta": _joined(said)})
            case ReasoningDelta():
                event = RunEvent(seq, EventKind.REASONING, {"delta": _joined(said)})
        self.answer.add(event)
        return event


def _joined(said: Sequence[_Said]) -> str:
    return "".join(delta.text for delta in said if isinstance(delta, (TextDelta, ReasoningDelta)))


def _result(part: ToolResultPart) -> dict[str, str]:
    return {"call_id": part.call_id, "content": part.content}
