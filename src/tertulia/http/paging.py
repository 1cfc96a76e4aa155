"""Pages of lists: plain arrays, and where the next page begins in a `Link` header (RFC 8288).

A cursor is the sort key of the last row shown, so a page costs the same wherever it is. It is a
place, not a permission: whose rows are listed is decided by the caller's credentials alone. Its
checksum tells a client that it has mangled one, nothing more.
"""

import base64
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, NoReturn, TypeAlias, TypeVar, cast, overload
from urllib.parse import parse_qsl, quote, urlencode
from uuid import UUID

from fastapi import Query, Request, Response
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tertulia.domain.errors import Invalid
from tertulia.http.query import read_once

SKIP_MAX = 10_000
"""Rows; beyond, follow `Link: rel="next"`, which costs the same at any depth."""
LIMIT_MAX = 200
"""Rows of one page."""
CURSOR_CHARS_MAX = 256

Item = TypeVar("Item")
First = TypeVar("First", datetime, int, UUID)
Second = TypeVar("Second", datetime, int, UUID)
Third = TypeVar("Third", datetime, int, UUID)
CursorValue: TypeAlias = datetime | int | UUID


def _require_digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.removeprefix("-").isdigit()):
        raise PydanticCustomError("whole_number", "Input should be a whole number, in digits")
    return value


IN_DIGITS = BeforeValidator(_require_digits)
"""A number in a query is: none of ` 5`, `+5`, `5.0` and `1_0`, which Python would read.

It stands behind the number's bounds. Bounds around it, or around an optional number, hold as well,
but OpenAPI's page has no name for them.
"""
SomeRows = Annotated[int, Field(ge=1, le=LIMIT_MAX), IN_DIGITS]
"""As many as a page has."""
Skip = Annotated[
    Annotated[int, Field(ge=0, le=SKIP_MAX), IN_DIGITS],
    Query(description="Rows to leave out first, at most 10,000; follow the `Link` header instead."),
]
Limit = Annotated[SomeRows, Query(description="Rows of one page, at most 200.")]
Cursor = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=CURSOR_CHARS_MAX,
        description="Where the page begins, from a `Link` header; opaque.",
    ),
]

_CHECKSUM_BYTES = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT64 = struct.Struct(">q")
_UUID_BYTES = 16
_REPLACED_PARAMETERS = frozenset({"cursor", "skip", "offset"})


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list."""

    items: Sequence[Item]
    next_cursor: str | None
    """Where the next page begins; None on the last one."""


def encode_cursor(*values: CursorValue) -> str:
    """Return the values as one opaque, url-safe word.

    Args:
        values: Times (with a zone; microseconds are kept), integers of 64 bits, or ids.
    """
    payload = b"".join(map(_pack, values))
    raw = _checksum(payload) + payload
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


@overload
def decode_cursor(cursor: str, kinds: tuple[type[First]]) -> tuple[First]: ...
@overload
def decode_cursor(cursor: str, kinds: tuple[type[First], type[Second]]) -> tuple[First, Second]: ...
@overload
def decode_cursor(
    cursor: str, kinds: tuple[type[First], type[Second], type[Third]]
) -> tuple[First, Second, Third]: ...
def decode_cursor(cursor: str, kinds: tuple[type[CursorValue], ...]) -> tuple[CursorValue, ...]:
    """Return the values that `encode_cursor` was given; times come back in UTC.

    Args:
        cursor: From a client.
        kinds: The type of each value: a cursor of another list has others.

    Raises:
        Invalid: It is not, to the character, what `encode_cursor` returns for such values.
    """
    if len(cursor) > CURSOR_CHARS_MAX or not cursor.isascii():
        _refuse()
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        values = _unpack(raw[_CHECKSUM_BYTES:])
        written = encode_cursor(*values)
    except (ValueError, OverflowError, struct.error):
        _refuse()
    # Written again it must be the same word: that proves checksum, padding and spelling at once.
    if written != cursor or tuple(map(type, values)) != kinds:
        _refuse()
    return values


def next_link(request: Request, cursor: str) -> str:
    """Return the `Link` header's value for the page that begins at `cursor`.

    The other query parameters stay, those that say where to begin go. The link is an absolute
    path: the `Host` header belongs to the caller and is never repeated.
    """
    path = "/" + quote(str(request.scope["path"]).lstrip("/"), safe="/:@!$&'()*+,;=~")
    return f'<{path}?{_kept(request.scope["query_string"])}cursor={cursor}>; rel="next"'


def show_page(request: Request, response: Response, page: Page[Item]) -> Sequence[Item]:
    """Return the page's items for the body, its `Link` header set if there is a next page."""
    response.headers.update(page_headers(request, page))
    return page.items


def page_headers(request: Request, page: Page[Item]) -> Mapping[str, str]:
    """Return the headers of a page: `Link` if there is a next one."""
    cursor = page.next_cursor
    return {} if cursor is None else {"Link": next_link(request, cursor)}


@read_once
def _kept(query: bytes) -> str:
    """Return a query without what says where to begin, to be gone on from."""
    given = parse_qsl(query.decode(), keep_blank_values=True)
    kept = urlencode([each for each in given if each[0] not in _REPLACED_PARAMETERS])
    return f"{kept}&" if kept else ""


def _checksum(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_CHECKSUM_BYTES).digest()


def _pack(value: CursorValue) -> bytes:
    match value:
        case datetime():
            return b"t" + _INT64.pack((value - _EPOCH) // _MICROSECOND)
        case UUID():
            return b"u" + value.bytes
        case int():
            return b"i" + _INT64.pack(value)


def _unpack(payload: bytes) -> tuple[CursorValue, ...]:
    values: list[CursorValue] = []
    while payload:
        size_bytes = _UUID_BYTES if payload[:1] == b"u" else _INT64.size
        kind, packed, payload = payload[:1], payload[1 : 1 + size_bytes], payload[1 + size_bytes :]
        match kind:
            case b"u":
                values.append(UUID(bytes=packed))
            case b"t":
                (microseconds,) = cast("tuple[int]", _INT64.unpack(packed))
                values.append(_EPOCH + microseconds * _MICROSECOND)
            case b"i":
                values.append(cast("tuple[int]", _INT64.unpack(packed))[0])
            case _:
                raise ValueError("no such kind of value")
    return tuple(values)


def _refuse() -> NoReturn:
    raise Invalid("The cursor is not one of this list's", field="query.cursor")
