import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tertulia.llm.sse import EventTooLarge, SseDecoder

LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
# The separators that `str.splitlines` would also cut at, and other rare ones.
AWKWARD = st.text(
    st.one_of(
        st.sampled_from("\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\ufeff\u200d👩\U0010ffff é的"),
        st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]),
    )
)

# A BOM (only the first is one), U+2028, ends of lines, data, comments and other fields.
LINE_PIECES = (
    b"\xef\xbb\xbf,\xe2\x80\xa8,\n,\r,\r\n,data:,data: x,data,:, ,id: 1,y,event: z,datax: 1"
).split(b",")


def decode(stream: bytes, cuts: list[int] | None = None) -> list[bytes]:
    decoder = SseDecoder()
    edges = [0, *sorted(cuts or []), len(stream)]
    return [
        payload for begin, end in pairwise(edges) for payload in decoder.feed(stream[begin:end])
    ]


def decode_as_the_standard_says(stream: bytes) -> list[bytes]:
    """The whole stream at once, step by step as in WHATWG HTML, section 9.2.6."""
    text = stream.removeprefix(b"\xef\xbb\xbf")
    lines = re.split(rb"\r\n|\n|\r", text)[:-1]
    events: list[bytes] = []
    data = b""
    for line in lines:
        field, _, value = line.partition(b":")
        if not line:
            if data:
                events.append(data[:-1])
            data = b""
        elif field == b"data":
            data += value.removeprefix(b" ") + b"\n"
    return events


@given(
    events=st.lists(AWKWARD),
    end=LINE_ENDS,
    cuts=st.lists(st.integers(0, 400)),
    bom=st.booleans(),
)
def test_text_survives_any_cut_of_the_stream(
    events: list[str], end: str, cuts: list[int], bom: bool
) -> None:
    payloads = [json.dumps(event, ensure_ascii=False) for event in events]
    stream = "".join(f"data: {payload}{end}{end}" for payload in payloads)
    encoded = (b"\xef\xbb\xbf" if bom else b"") + stream.encode()

    decoded = decode(encoded, [cut % (len(encoded) + 1) for cut in cuts])

    assert [json.loads(payload) for payload in decoded] == events


@given(
    stream=st.lists(
        st.sampled_from(LINE_PIECES),
        max_size=30,
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 400)),
)
def test_any_bytes_are_read_as_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    decoded = decode(stream, [cut % (len(stream) + 1) for cut in cuts])

    assert decoded == decode_as_the_standard_says(stream)


def test_a_stream_fed_byte_by_byte_is_the_same() -> None:
    stream = 'data: {"a": "π👩\u200d🚀\u2028"}\r\n\r\ndata: 2\r\r: hello\ndata: [DONE]\n\n'.encode()

    assert decode(stream, list(range(len(stream)))) == decode(stream)


def test_an_event_without_its_closing_line_comes_at_the_end() -> None:
    decoder = SseDecoder()

    assert decoder.feed(b"data: 1\n\ndata: [DONE]\n") == [b"1"]
    assert decoder.end() == [b"[DONE]"]


def test_half_a_line_is_dropped_at_the_end() -> None:
    decoder = SseDecoder()

    assert decoder.feed(b'data: {"content": "hal') == []
    assert decoder.end() == []


def test_a_line_that_never_ends_is_refused() -> None:
    decoder = SseDecoder(max_line_bytes=1000)

    for _ in range(16):
        decoder.feed(b"x" * 60)

    with pytest.raises(EventTooLarge):
        decoder.feed(b"x" * 60)


def test_an_event_of_endless_lines_is_refused() -> None:
    decoder = SseDecoder(max_line_bytes=1000)

    with pytest.raises(EventTooLarge):
        decoder.feed(b"data: xxxxxxxxxxxxxxxxxxxxxxx\n" * 100)
