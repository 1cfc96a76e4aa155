"""What an OpenAI-compatible provider streams: chunks of JSON, read into deltas."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from tertulia.domain.models import Delta, Finish, ReasoningDelta, TextDelta, ToolCall, Usage

from . import faults
from .continuation import Seam
from .exact_text import TextMender, storable
from .faults import Fault

MAX_TOOL_CALLS = 128
MAX_TOOL_CHARS = 1_000_000
MAX_REQUEST_ID_CHARS = 200

_FINISH_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
"""Whatever else a provider says (`stop`, `eos`, `end_turn` …) is an ordinary end."""


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolPiece(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolPiece] | None = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    id: Any = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None
    object: Any = None
    message: Any = None


@dataclass(slots=True)
class _OpenCall:
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


class ChunkReader:
    """Reads the payloads of one stream, each exactly once, in order.

    Args:
        seam: Where the answer goes on, if it goes on from a stored beginning.
        request_id: The provider's name for the request, if its headers told one.
    """

    def __init__(self, *, seam: Seam, request_id: str | None) -> None:
        self._decoder = msgspec.json.Decoder(_Chunk)
        self._seam = seam
        self._request_id = request_id
        self._text = TextMender()
        self._reasoning = TextMender()
        self._calls: list[_OpenCall] = []
        self._call_at: dict[int, _OpenCall] = {}
        self._tool_chars = 0
        self._usage = Usage()
        self._has_output = bool(seam.sent)
        self._has_text = False
        self.finish_reason: str | None = None
        """Why the model stopped, once it said so."""
        self.saw_done = False
        """Whether `[DONE]` came; nothing of the answer follows it."""
        self.began = False
        """Whether the model has produced anything."""
        self.fault: Fault | None = None
        """What was wrong with a payload; nothing is read after it."""

    def read(self, payloads: Iterable[bytes]) -> list[Delta]:
        """Return what these payloads add to the answer, neighbours of one kind put together.

        What came before a faulty payload is returned; the fault itself is left in `fault`.
        """
        deltas: list[Delta] = []
        for payload in payloads:
            if payload.strip() == b"[DONE]":
                self.saw_done = True
                break
            try:
                if payload.strip():
                    self._read_chunk(payload, deltas)
            except Fault as fault:
                self.fault = fault
                break
        return deltas

    def finish(self) -> list[Delta]:
        """Return what ends the answer: waiting text, the tool calls, and `Finish`.

        Raises:
            Fault: The answer is not whole, or there is nothing in it.
        """
        if self.finish_reason is None and not self.saw_done:
            raise faults.incomplete()
        deltas: list[Delta] = []
        self._append(deltas, ReasoningDelta, self._reasoning.rest())
        self._append(deltas, TextDelta, self._text.rest())
        deltas.extend(self._whole_calls())
        reason = _FINISH_REASONS.get(self.finish_reason or "stop", "stop")
        if reason == "content_filter" and not self._has_text:
            raise faults.content_filtered()
        if not self._has_output:
            raise faults.empty_answer()
        if self._calls and reason == "stop":
            reason = "tool_calls"
        deltas.append(Finish(reason, self._usage, self._request_id))
        return deltas

    def _read_chunk(self, payload: bytes, deltas: list[Delta]) -> None:
        chunk = self._decode(payload)
        if chunk.error is not None:
            raise faults.of_stream_error(chunk.error)
        if chunk.object == "error":
            raise faults.of_stream_error(chunk.message)
        if self._request_id is None and isinstance(chunk.id, str) and chunk.id:
            self._request_id = storable(chunk.id[:MAX_REQUEST_ID_CHARS])
        if chunk.usage != b"null":
            self._usage = _usage_of(chunk.usage) or self._usage
        for choice in chunk.choices or ():
            # Only one answer was asked for.
            if not choice.index:
                self._read_choice(choice, deltas)

    def _read_choice(self, choice: _Choice, deltas: list[Delta]) -> None:
        delta = choice.delta
        if delta is not None:
            if reasoning := delta.reasoning_content or delta.reasoning:
                self._append(deltas, ReasoningDelta, self._reasoning.mend(reasoning))
            if text := delta.content or delta.refusal:
                self.began = self._has_text = True
                self._append(deltas, TextDelta, self._seam.join(self._text.mend(text)))
            for piece in delta.tool_calls or ():
                self._read_tool_piece(piece)
        if choice.finish_reason:
            if choice.finish_reason == "insufficient_system_resource":
                # DeepSeek's word for being interrupted for lack of room.
                raise faults.overloaded()
            self.finish_reason = choice.finish_reason

    def _append(
        self, deltas: list[Delta], kind: type[TextDelta | ReasoningDelta], text: str
    ) -> None:
        if not text:
            return
        self.began = self._has_output = True
        if deltas and isinstance(last := deltas[-1], kind):
            deltas[-1] = kind(last.text + text, last.pieces + 1)
        else:
            deltas.append(kind(text))

    def _read_tool_piece(self, piece: _ToolPiece) -> None:
        self.began = True
        call = self._call_of(piece)
        if piece.id and piece.id != call.call_id:
            call.call_id = piece.id
            self._tool_chars += len(piece.id)
        function = piece.function or _Function()
        if function.name:
            call.name += function.name
            self._tool_chars += len(function.name)
        if function.arguments:
            call.arguments.append(function.arguments)
            self._tool_chars += len(function.arguments)
        if self._tool_chars > MAX_TOOL_CHARS:
            raise faults.invalid_response("a tool call that is too large")

    def _call_of(self, piece: _ToolPiece) -> _OpenCall:
        """Find the call that a piece belongs to.

        Some servers leave the index out; there a new id begins a new call.
        """
        if piece.index is not None and piece.index in self._call_at:
            return self._call_at[piece.index]
        if piece.index is None and self._calls and piece.id in (None, self._calls[-1].call_id):
            return self._calls[-1]
        if len(self._calls) >= MAX_TOOL_CALLS:
            raise faults.invalid_response("too many tool calls")
        call = _OpenCall()
        self._calls.append(call)
        if piece.index is not None:
            self._call_at[piece.index] = call
        return call

    def _whole_calls(self) -> list[ToolCall]:
        whole: list[ToolCall] = []
        for number, call in enumerate(self._calls):
            if not call.name:
                raise faults.invalid_response("a tool call without a name")
            self._has_output = True
            whole.append(
                ToolCall(
                    storable(call.call_id) or f"call_{number}",
                    storable(call.name),
                    storable("".join(call.arguments)),
                )
            )
        return whole

    def _decode(self, payload: bytes) -> _Chunk:
        try:
            return self._decoder.decode(payload)
        except msgspec.ValidationError as error:
            raise faults.invalid_response("a chunk with a field of the wrong type") from error
        except (ValueError, RecursionError):
            return _decode_leniently(payload)


def _decode_leniently(payload: bytes) -> _Chunk:
    """Decode what is not quite JSON in UTF-8: lone surrogates in escapes, invalid bytes."""
    try:
        value: object = json.loads(payload.decode("utf-8", "replace"))
        return msgspec.convert(_without_usage(value), _Chunk)
    except msgspec.ValidationError as error:
        raise faults.invalid_response("a chunk with a field of the wrong type") from error
    except (ValueError, RecursionError) as error:
        raise faults.invalid_response("a chunk that is not JSON") from error


def _without_usage(value: object) -> object:
    """Leave out the usage, which a chunk with text in it does not need."""
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    return {name: field for name, field in fields.items() if name != "usage"}


def _usage_of(raw: msgspec.Raw) -> Usage | None:
    """Return the numbers of a usage object; None if it is not one.

    A number that is missing or no number is None: an answer is not lost for its bill.
    """
    try:
        value: object = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    usage = cast("dict[str, object]", value)
    return Usage(
        prompt_tokens=_count(usage, "prompt_tokens"),
        response_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(value: object, name: str) -> int | None:
    if not isinstance(value, dict):
        return None
    return count_or_none(cast("dict[str, object]", value).get(name))


def count_or_none(value: object) -> int | None:
    """Return a number of tokens as told; None if it is none, or more than can be stored."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    # An integer column of PostgreSQL holds no more than this.
    return value if 0 <= value < 2**31 else None
