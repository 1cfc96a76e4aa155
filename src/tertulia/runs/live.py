"""A run that this process is executing."""

import asyncio
import time
from dataclasses import dataclass, field, replace

from tertulia.domain.models import (
    Delta,
    Finish,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from tertulia.domain.runs import EventKind, Run, RunError, RunEvent, RunStatus
from tertulia.storage.answer import Answer
from tertulia.storage.repositories.leases import HeldRun
from tertulia.storage.repositories.runs import Outcome


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
    said_before: int = 0
    """How many events earlier attempts left of this answer: at least as many tokens."""
    received: int = 0
    """In how many pieces the provider sent it to this process: about as many tokens."""
    first_token_ms: int | None = None
    finish: Finish | None = None
    outcome: Outcome | None = None
    """Set once: the model has said everything, and the rest is the writer's."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the end is stored, or when somebody else has the run."""
    is_lost: bool = False
    task: asyncio.Task[None] | None = None
    """What listens to the model."""
    _said: list[Delta] = field(default_factory=list[Delta])
    _restarts: list[RunEvent] = field(default_factory=list[RunEvent])
    _waiting_chars: int = 0

    @property
    def tokens(self) -> int:
        """About how many tokens were received for this answer, by all its attempts."""
        return self.said_before + self.received

    def resume(self, answer: Answer, *, from_start: bool) -> None:
        """Go on with what former attempts said, or take it back and say that it begins again.

        Before anything is heard.
        """
        self.answer = answer
        if from_start:
            restart = {"attempt": self.held.attempt}
            self._restarts.append(RunEvent(answer.seq + 1, EventKind.RESTART, restart))
            answer.add(self._restarts[0])
        self.said_before = len(answer.marks)

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

    @property
    def waiting_chars(self) -> int:
        """How much has been said that is not stored."""
        return self._waiting_chars

    def take_events(self) -> list[RunEvent]:
        """Number what was said since the last call; neighbours of one kind become one event."""
        said, self._said = self._said, []
        events, self._restarts = self._restarts, []
        self._waiting_chars = 0
        begin = 0
        while begin < len(said):
            first = said[begin]
            end = begin + 1
            if not isinstance(first, ToolCall):
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
        if usage.response_tokens is None:
            return replace(usage, response_tokens=self.tokens or None)
        if usage.prompt_tokens is None:
            return usage
        # A continued answer was given its beginning back, as part of the prompt.
        before = min(self.said_before, usage.prompt_tokens)
        return replace(
            usage,
            prompt_tokens=usage.prompt_tokens - before,
            response_tokens=usage.response_tokens + before,
        )

    def _event(self, deltas: list[Delta]) -> RunEvent:
        seq = self.answer.seq + 1
        match deltas[0]:
            case ToolCall(call_id, name, arguments):
                data = {"call_id": call_id, "name": name, "arguments": arguments}
                event = RunEvent(seq, EventKind.TOOL_CALL, data)
            case TextDelta():
                event = RunEvent(seq, EventKind.TEXT, {"delta": _joined(deltas)})
            case ReasoningDelta():
                event = RunEvent(seq, EventKind.REASONING, {"delta": _joined(deltas)})
            case Finish():
                raise AssertionError("the end is not said, it is heard apart")
        self.answer.add(event)
        return event


def _joined(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, (TextDelta, ReasoningDelta)))
