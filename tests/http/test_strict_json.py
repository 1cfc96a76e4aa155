import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tertulia.http.errors import Refused
from tertulia.http.strict_json import JsonLimits, check_json

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(alphabet=st.characters(codec=None))
    | st.text(alphabet='\x00\\"ud83\ud83d\udc00\n你🙂', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=20,
)


def refusal_of(body: bytes | str, **limits: int) -> str:
    encoded = body if isinstance(body, bytes) else body.encode()
    with pytest.raises(Refused) as caught:
        check_json(encoded, JsonLimits(**limits))
    assert caught.value.code == "invalid_json"
    return caught.value.detail


class TestAccepts:
    @pytest.mark.parametrize(
        "text",
        [
            "null",
            " \t\r\n{ } \n",
            "[]",
            "[[ ], {}]",
            "0",
            "-0",
            "-1.5e-10",
            "1E+2",
            "1e-400",
            "9223372036854775807",
            "-9223372036854775808",
            '"\\u00e9\\ud83d\\ude00\\n\\/"',
            '{"a": [1, "你好🙂", {"b": null, "c": [true, false]}], "": ""}',
            '"\u2028\x7f"',
        ],
    )
    def test_a_strict_text_passes(self, text: str) -> None:
        check_json(text.encode(), JsonLimits())

    def test_the_deepest_allowed_nesting_passes(self) -> None:
        check_json(b"[" * 32 + b"]" * 32, JsonLimits(depth=32))

    def test_as_many_keys_as_allowed_pass(self) -> None:
        check_json(b'[{"a":1,"b":2},{"c":{"d":1,"e":2},"f":3}]', JsonLimits(keys=2))

    def test_as_many_values_as_allowed_pass(self) -> None:
        check_json(b"[1,2,3]", JsonLimits(values=4))


class TestRefuses:
    def test_an_object_with_more_keys_than_any_schema_has(self) -> None:
        detail = "body.a has more than 2 keys"
        assert refusal_of('{"a":{"b":1,"c":2,"d":3}}', keys=2) == detail

    @pytest.mark.parametrize(
        ("body", "detail"),
        [
            (b"\xef\xbb\xbf{}", "body starts with a byte order mark"),
            (b'{"a":"\xff"}', "body is not valid UTF-8 at byte 6"),
            (b'"\xed\xa0\xbd\xed\xb8\x80"', "body is not valid UTF-8 at byte 1"),  # CESU-8
            ('{"a":1}'.encode("utf-16"), "body is not valid UTF-8 at byte 0"),
            (b'{"a":NaN}', "body.a is NaN, which JSON does not have"),
            (b"[1,-Infinity]", "body[1] is -Infinity, which JSON does not have"),
            (b'{"a":[0,1e999]}', "body.a[1] is a number too large for a 64-bit float"),
            (b"-1e999", "body is a number too large for a 64-bit float"),
            (b'{"n":9223372036854775808}', "body.n is an integer too large for 64 bits"),
            (b"-9223372036854775809", "body is an integer too large for 64 bits"),
            (b"1" * 100_000, "body is an integer too large for 64 bits"),
            (b'{"a":{"b":"\\u0000"}}', "body.a.b holds the character NUL"),
            (b'{"a":["x\\ud800"]}', "body.a[0] holds half of a surrogate pair"),
            (b'"\\udc00\\ud800"', "body holds half of a surrogate pair"),
            (b'{"a":{"\\u0000":1}}', "body.a has a key that holds the character NUL"),
            (b'{"\\ud800":1}', "body has a key that holds half of a surrogate pair"),
            (b'{"a":1,"b":2,"a":3}', "body has the key 'a' twice"),
            (b'{"m":[{"a":1,"\\u0061":2}]}', "body.m[0] has the key 'a' twice"),
            (b'{"odd key":{"a":1e999}}', 'body["odd key"].a is a number too large'),
            (b'"\\x41"', "body holds an invalid escape"),
            (b'{"a":"\\u12"}', "body.a holds an invalid escape"),
        ],
    )
    def test_with_the_place_and_the_reason(self, body: bytes, detail: str) -> None:
        assert refusal_of(body).startswith(detail)

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "   ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            '{"a"}',
            '{"a":}',
            '{"a":1,}',
            '{"a":1]',
            "[1}",
            "{1:2}",
            "{'a':1}",
            '"open',
            '"a\nb"',
            '"\\',
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "- 1",
            "0x10",
            "tru",
            "True",
            "nulll",
            "[] []",
            "1 2",
            "// no",
            "[1]\x00",
            "\u00a0[]",
            "\u0663",
        ],
    )
    def test_what_is_not_json(self, body: str) -> None:
        assert "is not JSON" in refusal_of(body)

    def test_deep_nesting_without_recursion(self) -> None:
        assert refusal_of(b"[" * 500_000).endswith("is nested deeper than 32 levels")

    def test_deep_nesting_of_objects(self) -> None:
        detail = refusal_of(b'{"a":' * 33 + b"1" + b"}" * 33)
        assert detail == "body" + ".a" * 32 + " is nested deeper than 32 levels"

    def test_more_values_than_allowed(self) -> None:
        assert refusal_of("[1,2,3]", values=3) == "body[2] is beyond the limit of 3 values"

    def test_many_empty_containers(self) -> None:
        assert "beyond the limit" in refusal_of(b"[" + b"[]," * 300_000)

    def test_a_long_key_is_shown_in_part(self) -> None:
        assert len(refusal_of(json.dumps({"k" * 50_000: {"a": [float("inf")]}}))) < 200


class TestEveryText:
    @given(st.binary(max_size=200))
    def test_of_random_bytes_is_refused_or_json(self, body: bytes) -> None:
        try:
            check_json(body, JsonLimits())
        except Refused:
            return
        json.loads(body)

    @given(json_values, st.booleans())
    def test_that_is_accepted_can_be_stored_by_postgresql(
        self, value: object, escaped: bool
    ) -> None:
        body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
        try:
            check_json(body, JsonLimits())
        except Refused:
            return
        text = json.dumps(json.loads(body), ensure_ascii=False, allow_nan=False)
        assert json.loads(text.encode("utf-8")) == json.loads(body)
        assert "\\u0000" not in text.replace("\\\\", "")

    @given(
        st.recursive(
            st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.lists
        )
    )
    def test_that_is_harmless_is_accepted(self, value: object) -> None:
        check_json(json.dumps(value).encode(), JsonLimits(depth=1000))
