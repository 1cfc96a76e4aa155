"""Strict JSON: what a body must be before anybody else parses it.

RFC 8259, less everything that two readers read differently or that a database cannot store:
duplicate keys, NaN and infinities (also by overflow, as in 1e999), integers beyond 64 bits, lone
surrogates, NUL, deep nesting, byte order marks. One pass over the text without recursion; it
checks and keeps nothing, and its cost is bounded by the number of values it allows.
"""

import json
import math
import re
from dataclasses import dataclass

from tertulia.http.errors import Refused

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
INT64_DIGITS = 19
"""The most digits an integer can have; longer ones are refused before Python converts them."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_KEY_SHOWN_CHARS = 64
# Possessive quantifiers: a megabyte of escapes leaves no trail to backtrack.
_SPACE = r"[ \t\n\r]*+"
_STRING = r'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"'
# No possessive groups here: those of Python 3.11.2 (Debian 12's) keep what a failed try has eaten.
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_VALUE_PATTERN = re.compile(
    rf"{_SPACE}(?:(?P<string>{_STRING})|(?P<number>{_NUMBER})"
    r"|(?P<word>true|false|null)|(?P<open>[\[{]))"
)
_KEY_PATTERN = re.compile(rf"{_SPACE}({_STRING}){_SPACE}:")
_CLOSE_PATTERN = re.compile(rf"{_SPACE}([\]}}])")
_NEXT_PATTERN = re.compile(rf"{_SPACE}([,\]}}])")
_SPACE_PATTERN = re.compile(_SPACE)
_PLAIN_KEY_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NOT_A_NUMBER_PATTERN = re.compile(r"NaN|-?Infinity")


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """How much JSON a body may hold."""

    depth: int = 32
    """Of arrays and objects inside one another."""
    values: int = 10_000
    """Scalars, arrays and objects together."""
    keys: int = 256
    """Of one object: a schema names each key that it does not know, which costs far more."""


def check_json(body: bytes, limits: JsonLimits) -> None:
    """Return if the body is one strict JSON text within the limits.

    Raises:
        Refused: `invalid_json`, with the place (`body.messages[3].content`) and the reason.
    """
    if body.startswith(_BYTE_ORDER_MARK):
        raise _fault("body", "starts with a byte order mark")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _fault("body", f"is not valid UTF-8 at byte {error.start}") from None
    _Walk(text, limits).run()


def _fault(path: str, reason: str) -> Refused:
    return Refused("invalid_json", f"{path} {reason}", field=path)


class _Frame:
    """An array or object whose values are being read."""

    __slots__ = ("close", "key", "keys")

    def __init__(self, bracket: str) -> None:
        self.close = "]" if bracket == "[" else "}"
        self.keys: set[str] | None = None if bracket == "[" else set()
        self.key: str | int = 0
        """The key or index of the value being read."""


class _Walk:
    """One pass over one text."""

    def __init__(self, text: str, limits: JsonLimits) -> None:
        self._text = text
        self._limits = limits
        self._frames: list[_Frame] = []
        self._values = 0

    def run(self) -> None:
        position = 0
        while position >= 0:
            position, is_whole = self._read_value(position)
            if is_whole:
                position = self._find_next_value(position)

    def _read_value(self, position: int) -> tuple[int, bool]:
        """Read a scalar or an empty container whole, or step into a container."""
        match = _VALUE_PATTERN.match(self._text, position)
        if match is None:
            raise self._malformed(position)
        self._values += 1
        if self._values > self._limits.values:
            raise self._fault(f"is beyond the limit of {self._limits.values} values")
        end = match.end()
        match match.lastgroup:
            case "string":
                self._check_string(match.start("string"), end)
            case "number":
                self._check_number(match["number"])
            case "open":
                return self._step_into(match["open"], end)
            case _:
                pass
        return end, True

    def _step_into(self, bracket: str, position: int) -> tuple[int, bool]:
        if len(self._frames) >= self._limits.depth:
            raise self._fault(f"is nested deeper than {self._limits.depth} levels")
        frame = _Frame(bracket)
        empty = _CLOSE_PATTERN.match(self._text, position)
        if empty is not None and empty[1] == frame.close:
            return empty.end(), True
        if frame.keys is not None:
            position = self._read_key(frame, frame.keys, position)
        self._frames.append(frame)
        return position, False

    def _find_next_value(self, position: int) -> int:
        """Close what ends here; return where the next value begins, or -1 after the last one."""
        while self._frames:
            frame = self._frames[-1]
            match = _NEXT_PATTERN.match(self._text, position)
            if match is None or match[1] not in (",", frame.close):
                raise self._malformed(position)
            position = match.end()
            if match[1] == frame.close:
                self._frames.pop()
                continue
            if frame.keys is not None:
                self._frames.pop()
                position = self._read_key(frame, frame.keys, position)
                self._frames.append(frame)
            elif isinstance(frame.key, int):
                frame.key += 1
            return position
        end = _SPACE_PATTERN.match(self._text, position)
        if end is not None and end.end() != len(self._text):
            raise self._malformed(position)
        return -1

    def _read_key(self, frame: _Frame, keys: set[str], position: int) -> int:
        """Read a key and its colon, with the frame off the stack: faults name the object."""
        match = _KEY_PATTERN.match(self._text, position)
        if match is None:
            raise self._malformed(position)
        key = match[1][1:-1]
        if "\\" in key:
            key = self._unescape(match[1], "has a key that")
        if key in keys:
            raise self._fault(f"has the key {key[:_KEY_SHOWN_CHARS]!r} twice")
        if len(keys) >= self._limits.keys:
            raise self._fault(f"has more than {self._limits.keys} keys")
        keys.add(key)
        frame.key = key
        return match.end()

    def _check_string(self, start: int, end: int) -> None:
        # Without an escape there is neither NUL nor surrogate: the text was valid UTF-8 and the
        # pattern admits no control characters.
        if self._text.find("\\", start, end) >= 0:
            self._unescape(self._text[start:end], "")

    def _unescape(self, literal: str, subject: str) -> str:
        subject = f"{subject} " if subject else ""
        try:
            value: str = json.loads(literal)
        except json.JSONDecodeError:
            raise self._fault(f"{subject}holds an invalid escape") from None
        if "\0" in value:
            raise self._fault(f"{subject}holds the character NUL")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise self._fault(f"{subject}holds half of a surrogate pair") from None
        return value

    def _check_number(self, literal: str) -> None:
        if any(mark in literal for mark in ".eE"):
            if math.isinf(float(literal)):
                raise self._fault("is a number too large for a 64-bit float")
        elif (
            len(literal.removeprefix("-")) > INT64_DIGITS
            or not INT64_MIN <= int(literal) <= INT64_MAX
        ):
            raise self._fault("is an integer too large for 64 bits")

    def _malformed(self, position: int) -> Refused:
        space = _SPACE_PATTERN.match(self._text, position)
        position = position if space is None else space.end()
        if position == len(self._text):
            return self._fault("is not JSON: it ends too early")
        if found := _NOT_A_NUMBER_PATTERN.match(self._text, position):
            return self._fault(f"is {found[0]}, which JSON does not have")
        if self._text[position] == '"':
            return self._fault(
                "is not JSON: a string is not closed, holds a raw control character, "
                f"or is out of place, at character {position}"
            )
        return self._fault(f"is not JSON: unexpected character at character {position}")

    def _fault(self, reason: str) -> Refused:
        return _fault("body" + "".join(map(_place, self._frames)), reason)


def _place(frame: _Frame) -> str:
    if isinstance(frame.key, int):
        return f"[{frame.key}]"
    if _PLAIN_KEY_PATTERN.fullmatch(frame.key):
        return f".{frame.key}"
    return f"[{json.dumps(frame.key[:_KEY_SHOWN_CHARS])}]"
