from typing import Any

import pytest

from tertulia.http.errors import Refused
from tertulia.http.target import check_target


def scope_of(raw_path: bytes = b"/", query: bytes = b"") -> dict[str, Any]:
    return {"type": "http", "path": "/", "raw_path": raw_path, "query_string": query}


def code_of(scope: dict[str, Any]) -> str:
    with pytest.raises(Refused) as caught:
        check_target(scope, limit_bytes=100)
    return caught.value.code


@pytest.mark.parametrize(
    "query", [b"a=%", b"a=%4", b"a=%zz", b"a=%00", b"%00=1", b"a=%ff", b"\xff"]
)
def test_a_query_that_is_not_encoded_text_is_refused(query: bytes) -> None:
    assert code_of(scope_of(query=query)) == "invalid_query"


@pytest.mark.parametrize("query", [b"a=%ED%A0%BD%ED%B8%80", b"a=%C0%80", b"a=%ed%a0%80"])
def test_a_query_in_cesu_8_or_overlong_is_refused(query: bytes) -> None:
    assert code_of(scope_of(query=query)) == "invalid_query"


@pytest.mark.parametrize("path", [b"/%", b"/a%0", b"/%00", b"/%ff", b"/%ED%A0%BD"])
def test_no_route_has_a_path_that_is_not_encoded_text(path: bytes) -> None:
    assert code_of(scope_of(path)) == "route_not_found"


def test_a_long_target_is_refused() -> None:
    assert code_of(scope_of(b"/" + b"a" * 50, b"b" * 50)) == "target_too_long"


def test_a_target_at_the_limit_passes() -> None:
    check_target(scope_of(b"/" + b"a" * 49, b"b" * 50), limit_bytes=100)


@pytest.mark.parametrize(
    "query", [b"", b"a=1&A=2&b", b"&a=1&&", b"q=a+b%20c%2B", b"q=%F0%9F%99%82", b"&&=="]
)
def test_an_ordinary_query_passes_unchanged(query: bytes) -> None:
    scope = scope_of(b"/caf%C3%A9", query)
    check_target(scope, limit_bytes=100)
    assert scope["query_string"] == query


@pytest.mark.parametrize(
    "query", [b"limit=abc&limit=1", b"limit&b=1&limit", b"li%6dit=1&limit=1", b"limit=&limit="]
)
def test_a_parameter_given_twice_is_refused(query: bytes) -> None:
    with pytest.raises(Refused) as caught:
        check_target(scope_of(query=query), limit_bytes=100)
    assert (caught.value.code, caught.value.field) == ("invalid_query", "query.limit")


def test_raw_utf_8_in_a_query_is_encoded() -> None:
    scope = scope_of(query="q=你%20b".encode())
    check_target(scope, limit_bytes=100)
    assert scope["query_string"] == b"q=%E4%BD%A0%20b"


def test_a_server_without_raw_paths_is_served_too() -> None:
    scope = {"type": "http", "path": "/100%/你", "query_string": b""}
    check_target(scope, limit_bytes=100)
