import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tertulia.domain.models import Delta, Finish, ReasoningDelta, TextDelta, ToolCall, Usage
from tertulia.llm.continuation import Seam
from tertulia.llm.faults import Fault
from tertulia.llm.openai_chunks import MAX_TOOL_CALLS, MAX_TOOL_CHARS, ChunkReader


def chunk(
    delta: dict[str, Any] | None = None, finish_reason: str | None = None, **fields: object
) -> bytes:
    choice: dict[str, object] = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], **fields}).encode()


def read(*payloads: bytes, prefix: str = "") -> list[Delta]:
    reader = ChunkReader(seam=Seam(prefix), request_id=None)
    deltas = [delta for payload in payloads for delta in reader.read([payload])]
    if reader.fault is not None:
        raise reader.fault
    return deltas + reader.finish()


def failure_code(*payloads: bytes) -> str:
    with pytest.raises(Fault) as fault:
        read(*payloads)
    return fault.value.failure.code


STOP = chunk(finish_reason="stop")
TEXT = chunk({"content": "Hi"})


def finish_of(*payloads: bytes) -> Finish:
    last = read(*payloads)[-1]
    assert isinstance(last, Finish)
    return last


def test_neighbours_of_one_read_are_put_together() -> None:
    reader = ChunkReader(seam=Seam(""), request_id=None)

    deltas = reader.read(
        [
            chunk({"reasoning_content": "a"}),
            chunk({"reasoning": "b"}),
            TEXT,
            chunk({"content": "!"}),
        ]
    )

    assert deltas == [ReasoningDelta("ab"), TextDelta("Hi!")]
    assert [delta.pieces for delta in deltas if not isinstance(delta, (ToolCall, Finish))] == [2, 2]


def test_tool_calls_are_put_together_from_interleaved_pieces() -> None:
    pieces = [
        {"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"x"'}},
        {"index": 1, "id": "b", "function": {"name": "go", "arguments": ""}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]

    deltas = read(*(chunk({"tool_calls": [piece]}) for piece in pieces), STOP)

    assert deltas[:2] == [ToolCall("a", "look", '{"x": 1}'), ToolCall("b", "go", "{}")]
    assert isinstance(deltas[2], Finish)
    assert deltas[2].reason == "tool_calls"


def test_tool_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    pieces = [
        {"id": "a", "function": {"name": "look", "arguments": "{}"}},
        {"id": "b", "function": {"name": "go", "arguments": "{"}},
        {"function": {"arguments": "}"}},
    ]

    deltas = read(chunk({"tool_calls": pieces}), STOP)

    assert deltas[:2] == [ToolCall("a", "look", "{}"), ToolCall("b", "go", "{}")]


def test_too_many_tool_calls_are_refused() -> None:
    pieces = [{"index": at, "function": {"name": "f"}} for at in range(MAX_TOOL_CALLS + 1)]

    assert failure_code(chunk({"tool_calls": pieces})) == "provider_invalid_response"


def test_a_tool_call_that_grows_without_end_is_refused() -> None:
    piece = {"index": 0, "function": {"name": "f", "arguments": "x" * (MAX_TOOL_CHARS // 4)}}

    assert failure_code(*[chunk({"tool_calls": [piece]})] * 5) == "provider_invalid_response"


def test_an_id_of_a_tool_call_that_grows_without_end_is_refused() -> None:
    pieces = [{"index": 0, "id": mark * (MAX_TOOL_CHARS // 4)} for mark in "abcde"]
    chunks = [chunk({"tool_calls": [piece]}) for piece in pieces]

    assert failure_code(*chunks) == "provider_invalid_response"


def test_usage_is_read_in_detail() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }

    finish = finish_of(TEXT, STOP, json.dumps({"choices": [], "usage": usage}).encode())

    assert finish.usage == Usage(9, 5, 4, 3)


@pytest.mark.parametrize("usage", ["many", [], {"prompt_tokens": "9"}, {"prompt_tokens": -1}, {}])
def test_an_answer_is_not_lost_for_its_bill(usage: object) -> None:
    assert finish_of(TEXT, STOP, chunk(usage=usage)).usage == Usage()


def test_a_refusal_is_shown_as_text() -> None:
    assert read(chunk({"refusal": "I cannot."}), STOP)[0] == TextDelta("I cannot.")


@pytest.mark.parametrize(
    ("said", "reason"),
    [("stop", "stop"), ("eos", "stop"), ("length", "length"), ("content_filter", "content_filter")],
)
def test_reasons_to_finish_are_four(said: str, reason: str) -> None:
    assert finish_of(TEXT, chunk(finish_reason=said)).reason == reason


def test_an_interrupted_deepseek_is_overloaded() -> None:
    code = failure_code(TEXT, chunk(finish_reason="insufficient_system_resource"))

    assert code == "provider_overloaded"


def test_only_the_first_choice_is_read() -> None:
    other = b'{"choices": [{"index": 1, "delta": {"content": "other"}}]}'

    assert read(TEXT, other, STOP)[:-1] == [TextDelta("Hi")]


def test_an_empty_continuation_says_that_the_stored_text_was_whole() -> None:
    assert [type(delta) for delta in read(STOP, prefix="All said.")] == [Finish]


def test_lone_surrogates_and_nul_become_replacement_characters() -> None:
    payload = b'{"choices": [{"delta": {"content": "a\\ud800b\\u0000c"}}]}'

    assert read(payload, STOP)[0] == TextDelta("a\ufffdb\ufffdc")


def test_a_pair_of_surrogates_in_two_chunks_is_one_character() -> None:
    high = b'{"choices": [{"delta": {"content": "a\\ud83d"}}]}'
    low = b'{"choices": [{"delta": {"content": "\\ude00"}}], "usage": {"prompt_tokens": 1}}'

    assert read(high, low, STOP)[:2] == [TextDelta("a"), TextDelta("😀")]


def test_bytes_that_are_not_utf8_become_replacement_characters() -> None:
    payload = b'{"choices": [{"delta": {"content": "a\xffb"}}]}'

    assert read(payload, STOP)[0] == TextDelta("a\ufffdb")


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"null",
        b"[1]",
        b'"text"',
        b'{"choices": "none"}',
        b'{"choices": [null]}',
        b'{"choices": [{"delta": {"content": 5}}]}',
        b'{"choices": [{"delta": {"content": "\\ud800", "role": 5, "tool_calls": 7}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"function": {"name": ""}}]}}]}',
        b'{"x": ' + b"[" * 200_000,
    ],
)
def test_nonsense_is_an_invalid_response(payload: bytes) -> None:
    assert failure_code(TEXT, payload, STOP) == "provider_invalid_response"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "index", "usage", "error", "tool_calls"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON.map(json.dumps).map(str.encode) | st.binary(), max_size=4))
def test_no_payload_raises_anything_but_a_fault(payloads: list[bytes]) -> None:
    reader = ChunkReader(seam=Seam(""), request_id=None)
    reader.read(payloads)
    with suppress(Fault):
        reader.finish()
