"""A run's events as the chunks of a chat completion."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tertulia.dialects.openai.chat.completion import (
    SERVICE_TIER,
    Asked,
    created_s,
    finish_reason_of,
    usage_of,
)
from tertulia.dialects.openai.failures import ANSWER_RESTARTED, failure_of
from tertulia.dialects.openai.ids import completion_id
from tertulia.domain.runs import EventKind, Run, RunEvent

DONE = b"[DONE]"
_encode = msgspec.json.Encoder().encode


class Chunks:
    """The chunks of one stream. Of those with words, only the words are encoded one by one.

    Args:
        run: What is streamed.
        asked: What it was asked with.
        includes_usage: Whether the last chunk says what the answer cost.
    """

    def __init__(self, run: Run, asked: Asked, *, includes_usage: bool) -> None:
        head: dict[str, Any] = {
            "id": completion_id(run.id),
            "object": "chat.completion.chunk",
            "created": created_s(run),
            "model": asked.model,
            "service_tier": SERVICE_TIER,
            "system_fingerprint": None,
        }
        self._head = _encode(head)[:-1]
        self._before = self._head + b',"choices":[{"index":0,"delta":'
        # Who asked for the usage is told in each chunk that it is still to come.
        self._usage = b',"usage":null' if includes_usage else b""
        self._after = b',"logprobs":null,"finish_reason":null}]%b}' % self._usage
        self._includes_usage = includes_usage
        self._functions = asked.functions
        self._has_begun = False
        self._calls = 0
        self.is_over = False
        """Whether there is nothing more to tell."""

    def hear(self, event: RunEvent) -> list[bytes]:
        """Return the chunks that tell an event.

        An answer that begins again is over once something of it was told: this protocol cannot
        take anything back.
        """
        match event.kind:
            case EventKind.TEXT:
                delta = b'{"content":%b}' % _encode(event.data["delta"])
            case EventKind.REASONING:
                delta = b'{"reasoning_content":%b}' % _encode(event.data["delta"])
            case EventKind.TOOL_CALL:
                delta = self._call(event.data)
            case EventKind.RESTART if self._has_begun:
                self.is_over = True
                return [_encode(ANSWER_RESTARTED.frame())]
            case _:
                return []
        if delta is None:
            return []
        begins_with_words = event.kind is EventKind.TEXT
        begun = self._begin(b'""' if begins_with_words else b"null")
        return [*begun, b"%b%b%b" % (self._before, delta, self._after)]

    def end(self, run: Run) -> list[bytes]:
        """Return the chunks after the last event of a run, or why it did not end well."""
        self.is_over = True
        failure = failure_of(run)
        if failure is not None:
            return [_encode(failure.frame())]
        reason = finish_reason_of(run, functions=self._functions)
        last = b'{},"logprobs":null,"finish_reason":"%b"}]%b}' % (reason.encode(), self._usage)
        chunks = [*self._begin(b'""'), self._before + last]
        if self._includes_usage:
            usage = _encode(usage_of(run.usage))
            chunks.append(b'%b,"choices":[],"usage":%b}' % (self._head, usage))
        return [*chunks, DONE]

    def _begin(self, content: bytes) -> list[bytes]:
        """Return the first chunk; words that are empty would be shown as an empty part."""
        if self._has_begun:
            return []
        self._has_begun = True
        delta = b'{"role":"assistant","content":%b}' % content
        return [self._before + delta + self._after]

    def _call(self, data: Mapping[str, Any]) -> bytes | None:
        function = {"name": data["name"], "arguments": data["arguments"]}
        at, self._calls = self._calls, self._calls + 1
        if self._functions:
            return None if at else _encode({"function_call": function})
        call = {"index": at, "id": data["call_id"], "type": "function", "function": function}
        return _encode({"tool_calls": [call]})
