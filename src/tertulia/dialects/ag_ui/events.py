"""A run as events of AG-UI 1.0, in an order that its client verifies."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tertulia.dialects.ag_ui.history import reasoning_id, result_id
from tertulia.dialects.ag_ui.schemas import AgMessage, RunInput
from tertulia.domain.models import Usage
from tertulia.domain.parts import ToolCallPart
from tertulia.domain.runs import EventKind, Run, RunEvent, RunStatus
from tertulia.llm.names import provider_of

PROTOCOL_VERSION = "1.0"
_TEXT, _REASONING = EventKind.TEXT, EventKind.REASONING
_APPROVAL = {"type": "object", "properties": {"approved": {"type": "boolean"}}}
_encode = msgspec.json.Encoder().encode


class AgEvents:
    """Turns the events of one run into AG-UI's, in their order.

    Args:
        run: Whose events.
        asked: What the client asked for; it is answered under its own ids.
    """

    def __init__(self, run: Run, asked: RunInput) -> None:
        self._run = run
        self._asked = asked
        self._message_id = str(run.message_id)
        self._open: EventKind | None = None
        self._reasoning: list[str] = []
        """The ids of its reasoning messages."""
        self._has_text = False
        self._has_calls = False
        self._pending: list[str] = []
        """Calls that are the client's to make."""
        self._waiting: dict[str, ToolCallPart] = {}
        """Calls of this server's without a result."""
        self._results = 0
        self._delta = b""

    def begin(self) -> Iterator[bytes]:
        """Yield how the run begins."""
        told = {} if self._asked.protocol_version is None else {"protocolVersion": PROTOCOL_VERSION}
        yield self._event("RUN_STARTED", **self._ids(), **told)

    def hear(self, event: RunEvent) -> Iterator[bytes]:
        """Yield what the next event of the run becomes."""
        data = event.data
        match event.kind:
            case EventKind.TEXT | EventKind.REASONING:
                yield from self._say(event.kind, data["delta"])
            case EventKind.TOOL_CALL:
                yield from self._close()
                yield from self._call(ToolCallPart(**data))
            case EventKind.TOOL_RESULT:
                yield from self._close()
                self._waiting.pop(data["call_id"], None)
                name = result_id(self._message_id, self._results)
                self._results += 1
                yield self._result(name, data["call_id"], data["content"])
            case EventKind.RESTART:
                yield from self._close()
                yield self._forget()
            case EventKind.DONE:
                pass

    def end(self, run: Run) -> Iterator[bytes]:
        """Yield how the run ended."""
        yield from self._close()
        usage = _usage(run)
        if run.status is RunStatus.FAILED and run.error is not None:
            yield self._event("RUN_ERROR", message=run.error.message, code=run.error.code, **usage)
            return
        result = {
            "conversationId": str(run.conversation_id),
            "messageId": self._message_id,
            "runId": str(run.id),
            "finishReason": run.finish_reason,
        }
        outcome: dict[str, Any] = {}
        if run.status is RunStatus.CANCELLED:
            outcome = {"outcome": {"type": "cancelled"}}
        elif self._waiting:
            outcome = {"outcome": {"type": "interrupt", "interrupts": self._interrupts()}}
        elif self._pending:
            outcome = {"outcome": {"type": "success", "pendingToolCallIds": self._pending}}
        if run.status is not RunStatus.CANCELLED and not self._waiting:
            outcome["result"] = result
        yield self._event("RUN_FINISHED", **self._ids(), **outcome, **usage)

    def break_off(self, message: str, code: str) -> Iterator[bytes]:
        """Yield that there is nothing more to come."""
        yield from self._close()
        yield self._event("RUN_ERROR", message=message, code=code)

    def _ids(self) -> dict[str, str]:
        return {"threadId": self._asked.thread_id, "runId": self._asked.run_id}

    def _event(self, kind: str, **fields: Any) -> bytes:  # noqa: ANN401  whatever it says
        return _encode({"type": kind, **fields})

    def _say(self, kind: EventKind, delta: str) -> Iterator[bytes]:
        if self._open is not kind:
            yield from self._close()
            yield from self._begin_words(kind)
        yield self._delta + _encode(delta) + b"}"

    def _begin_words(self, kind: EventKind) -> Iterator[bytes]:
        self._open = kind
        if kind is _TEXT:
            self._has_text = True
            name, prefix = self._message_id, "TEXT_MESSAGE"
            yield self._event("TEXT_MESSAGE_START", messageId=name, role="assistant")
        else:
            name = reasoning_id(self._message_id, len(self._reasoning))
            prefix = "REASONING_MESSAGE"
            self._reasoning.append(name)
            yield self._event("REASONING_START", messageId=name)
            yield self._event("REASONING_MESSAGE_START", messageId=name, role="reasoning")
        self._delta = b'{"type":"%b_CONTENT","messageId":"%b","delta":' % (
            prefix.encode(),
            name.encode(),
        )

    def _close(self) -> Iterator[bytes]:
        kind, self._open = self._open, None
        if kind is _TEXT:
            yield self._event("TEXT_MESSAGE_END", messageId=self._message_id)
        elif kind is _REASONING:
            name = self._reasoning[-1]
            yield self._event("REASONING_MESSAGE_END", messageId=name)
            yield self._event("REASONING_END", messageId=name)

    def _call(self, call: ToolCallPart) -> Iterator[bytes]:
        self._has_calls = True
        if call.server is None:
            self._pending.append(call.call_id)
        else:
            self._waiting[call.call_id] = call
        yield self._event(
            "TOOL_CALL_START",
            toolCallId=call.call_id,
            toolCallName=call.name,
            parentMessageId=self._message_id,
        )
        yield self._event("TOOL_CALL_ARGS", toolCallId=call.call_id, delta=call.arguments)
        yield self._event("TOOL_CALL_END", toolCallId=call.call_id)

    def _result(self, name: str, call_id: str, content: str) -> bytes:
        return self._event(
            "TOOL_CALL_RESULT", messageId=name, toolCallId=call_id, content=content, role="tool"
        )

    def _interrupts(self) -> list[dict[str, Any]]:
        """Return the questions whether calls of this server's may be made."""
        return [
            {
                "id": call_id,
                "reason": "tool_call",
                "message": f"May {call.name} be called?",
                "toolCallId": call_id,
                "responseSchema": _APPROVAL,
            }
            for call_id, call in self._waiting.items()
        ]

    def _forget(self) -> bytes:
        """Return the conversation as the client sent it, and this answer empty in it again."""
        said: list[dict[str, Any]] = [
            {"id": name, "role": "reasoning", "content": ""} for name in self._reasoning
        ]
        if self._has_text or self._has_calls:
            said.append({"id": self._message_id, "role": "assistant", "content": ""})
        self._reasoning.clear()
        self._pending.clear()
        self._waiting.clear()
        self._results = 0
        return self._event("MESSAGES_SNAPSHOT", messages=[*_told(self._asked.messages), *said])


def _told(messages: Sequence[AgMessage]) -> list[dict[str, Any]]:
    return [
        message.model_dump(by_alias=True, exclude_unset=True)
        for message in messages
        if message.role != "activity"
    ]


def _usage(run: Run) -> dict[str, Any]:
    usage = run.usage
    if usage is None or usage == Usage():
        return {}
    counts = {
        "inputTokens": usage.prompt_tokens,
        "outputTokens": usage.response_tokens,
        "totalTokens": usage.total_tokens,
        "reasoningTokens": usage.reasoning_tokens,
        "cachedInputTokens": usage.cached_tokens,
    }
    told = {name: count for name, count in counts.items() if count is not None}
    return {"usage": [{"provider": provider_of(run.model_type), "model": run.model_type, **told}]}
