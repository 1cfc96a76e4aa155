"""A run as a UI message stream of AI SDK 7.

Every chunk is the JSON of one `data:` line. A replay is the same chunks again, from `start`, for
what they are made of is the same for every follower.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tertulia.dialects.ai_sdk.steps import (
    MALFORMED,
    finish_reason_of,
    input_of,
    metadata_of_run,
    output_of,
)
from tertulia.domain.conversations import Message, Role
from tertulia.domain.parts import (
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    tool_call_to_json,
)
from tertulia.domain.runs import EventKind, Run, RunEvent, RunStatus

DONE = b"[DONE]"
"""After the last chunk; not JSON."""
_encode = msgspec.json.Encoder().encode


class UIChunks:
    """Turns the events of one run into chunks, in their order.

    Args:
        run: Whose events.
        message_id: Of the message that the client shows them in.
        calls: That the client shows there already.
    """

    def __init__(self, run: Run, *, message_id: str, calls: Sequence[ToolCallPart] = ()) -> None:
        self._run = run
        self._message_id = message_id
        self._open: str | None = None
        """`text` or `reasoning`, while such a part is being written."""
        self._parts = 0
        self._calls = {call.call_id: call for call in calls}
        self._waiting: dict[str, ToolCallPart] = {}
        """Calls of this run that have no result."""
        self._delta = b""

    def begin(self, before: Sequence[Message] = ()) -> Iterator[bytes]:
        """Yield how the message begins, and the steps that it has had before this run.

        Args:
            before: The answers and results before this one, for who has not seen them.
        """
        metadata = metadata_of_run(self._run)
        # What is known at the end only is told there, so that a replay begins as the first did.
        metadata.pop("usage", None)
        metadata.pop("error", None)
        yield _encode({"type": "start", "messageId": self._message_id, "messageMetadata": metadata})
        is_in_step = False
        for message in before:
            if message.role is Role.ASSISTANT:
                if is_in_step:
                    yield _encode({"type": "finish-step"})
                yield _encode({"type": "start-step"})
                is_in_step = True
            for event in _events_of(message):
                yield from self.hear(event)
            yield from self._close()
        if is_in_step:
            yield _encode({"type": "finish-step"})
        self._waiting.clear()
        yield _encode({"type": "start-step"})

    def hear(self, event: RunEvent) -> Iterator[bytes]:
        """Yield what the next event of the run becomes."""
        data = event.data
        match event.kind:
            case EventKind.TEXT | EventKind.REASONING:
                yield from self._say(event.kind.value, data["delta"])
            case EventKind.TOOL_CALL:
                yield from self._close()
                yield from self._call(ToolCallPart(**data))
            case EventKind.TOOL_RESULT:
                yield from self._close()
                yield from self._result(data["call_id"], data["content"])
            case EventKind.RESTART:
                # The client forgets what this step has said.
                yield from self._close()
                self._waiting.clear()
                yield _encode({"type": "reset-step"})
            case EventKind.DONE:
                pass

    def end(self, run: Run) -> Iterator[bytes]:
        """Yield how the run ended."""
        yield from self._close()
        metadata = metadata_of_run(run)
        if run.status is RunStatus.FAILED and run.error is not None:
            # Before the error: clients read no further.
            yield _encode({"type": "message-metadata", "messageMetadata": metadata})
            yield _encode({"type": "error", "errorText": run.error.message})
        elif run.status is RunStatus.CANCELLED:
            yield _encode({"type": "abort", "reason": "The answer was stopped"})
        else:
            yield from self._ask()
        yield _encode({"type": "finish-step"})
        yield _encode(
            {
                "type": "finish",
                "finishReason": finish_reason_of(run),
                "messageMetadata": metadata,
            }
        )

    def _ask(self) -> Iterator[bytes]:
        """Yield the questions whether calls of this server's may be made."""
        for call_id, call in self._waiting.items():
            if call.server is not None:
                told = {"approvalId": call_id, "toolCallId": call_id}
                yield _encode({"type": "tool-approval-request", **told})

    def _say(self, kind: str, delta: str) -> Iterator[bytes]:
        if self._open != kind:
            yield from self._close()
            self._open = kind
            self._parts += 1
            name = self._name()
            self._delta = b'{"type":"%b-delta","id":"%b","delta":' % (kind.encode(), name.encode())
            yield _encode({"type": f"{kind}-start", "id": name})
        yield self._delta + _encode(delta) + b"}"

    def _close(self) -> Iterator[bytes]:
        if self._open is not None:
            yield _encode({"type": f"{self._open}-end", "id": self._name()})
            self._open = None

    def _name(self) -> str:
        return f"{self._run.id.hex}-{self._parts}"

    def _call(self, call: ToolCallPart) -> Iterator[bytes]:
        self._calls[call.call_id] = self._waiting[call.call_id] = call
        value, is_json = input_of(call.arguments)
        told: dict[str, Any] = {"toolCallId": call.call_id, "toolName": call.name}
        if call.server is not None:
            told["providerExecuted"] = True
        yield _encode({"type": "tool-input-start", **told})
        if is_json:
            yield _encode({"type": "tool-input-available", **told, "input": value})
        else:
            yield _encode(
                {"type": "tool-input-error", **told, "input": value, "errorText": MALFORMED}
            )

    def _result(self, call_id: str, content: str) -> Iterator[bytes]:
        call = self._calls.get(call_id)
        self._waiting.pop(call_id, None)
        if call is None or not input_of(call.arguments)[1]:
            # Nothing is shown that it could belong to; or its error is shown already.
            return
        told: dict[str, Any] = {"toolCallId": call_id, "output": output_of(content)}
        if call.server is not None:
            told["providerExecuted"] = True
        yield _encode({"type": "tool-output-available", **told})


def _events_of(message: Message) -> Iterator[RunEvent]:
    """Yield the events that tell a whole message."""
    for part in message.parts:
        match part:
            case TextPart(text):
                yield RunEvent(0, EventKind.TEXT, {"delta": text})
            case ReasoningPart(text):
                yield RunEvent(0, EventKind.REASONING, {"delta": text})
            case ToolCallPart():
                yield RunEvent(0, EventKind.TOOL_CALL, tool_call_to_json(part))
            case ToolResultPart(call_id, content):
                result = {"call_id": call_id, "content": content}
                yield RunEvent(0, EventKind.TOOL_RESULT, result)
            case _:
                pass
