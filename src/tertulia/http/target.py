"""The request target: what a path and a query string must be before anything routes by them."""

import re
from urllib.parse import quote, unquote_to_bytes

from starlette.types import Scope

from tertulia.http.errors import Refused

_BROKEN_ESCAPE_PATTERN = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NAME_CHARS_MAX = 64
_LISTS = frozenset({b"include"})
_RAW_NON_ASCII_PATTERN = re.compile(rb"[\x80-\xff]")


def check_target(scope: Scope, *, limit_bytes: int) -> None:
    """Return if path and query string are short enough and percent-encoded UTF-8 without NUL.

    A query names a parameter once: of two values one would be ignored, and not everybody ignores
    the same one. Except a list's: `include=a&include=b`, or `name[]` as some clients write it.

    Raw UTF-8 in a query (uvicorn's parser knows none; `protocol` encodes it) is percent-encoded in
    the scope whatever the server: frameworks would read its bytes as Latin-1.

    Raises:
        Refused: `target_too_long`, `invalid_query`, or for a path `route_not_found`: no route is
            named by bytes that are not text.
    """
    query: bytes = scope.get("query_string", b"")
    raw_path: bytes = scope.get("raw_path") or quote(scope["path"], errors="replace").encode()
    if len(raw_path) + len(query) > limit_bytes:
        raise Refused(
            "target_too_long", f"Path and query string are longer than {limit_bytes} bytes"
        )
    if _fault_of(raw_path) is not None or "\0" in scope["path"]:
        raise Refused("route_not_found", "Not Found")
    if (fault := _fault_of(query)) is not None:
        raise Refused("invalid_query", f"The query string {fault}", field="query")
    if b"&" in query and (name := _repeated(query)) is not None:
        raise Refused("invalid_query", "A parameter is given twice", field=f"query.{name}")
    if not query.isascii():
        scope["query_string"] = _RAW_NON_ASCII_PATTERN.sub(_escape, query)


def _fault_of(encoded: bytes) -> str | None:
    if b"%" in encoded and _BROKEN_ESCAPE_PATTERN.search(encoded):
        return "holds a percent sign without two hexadecimal digits"
    decoded = unquote_to_bytes(encoded)
    if b"\0" in decoded:
        return "holds the character NUL"
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8"
    return None


def _repeated(query: bytes) -> str | None:
    pairs = [pair for pair in query.split(b"&") if pair]
    names = [pair.partition(b"=")[0] for pair in pairs]
    if b"%" in query or b"+" in query:
        names = [unquote_to_bytes(name.replace(b"+", b" ")) for name in names]
    if len(set(names)) == len(names):
        return None
    seen: set[bytes] = set()
    for name in names:
        if name in seen and not (name in _LISTS or name.endswith(b"[]")):
            return name.decode()[:_NAME_CHARS_MAX]
        seen.add(name)
    return None


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
