"""Reading a request's body: at once, within a size and a time, as JSON in UTF-8."""

import asyncio
import re

from starlette.types import Message, Receive, Scope

from tertulia.http.errors import Refused
from tertulia.http.headers import header

_JSON_TYPE_PATTERN = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json")


_LENGTH_DIGITS = 20


class ClientLeft(Exception):  # noqa: N818  named for what happened
    """The client closed the connection before its request was whole."""


def is_announced(scope: Scope) -> bool:
    """Whether the head of the request says that a body follows."""
    if header(scope, b"transfer-encoding") is not None:
        return True
    return (header(scope, b"content-length") or b"0") != b"0"


def announced_bytes(scope: Scope) -> int:
    """Return the request's `Content-Length`; 0 if it has none, or none that can be meant."""
    length = header(scope, b"content-length") or b""
    return int(length) if length.isdigit() and len(length) < _LENGTH_DIGITS else 0


def check_announced_size(scope: Scope, *, limit_bytes: int) -> None:
    """Refuse a body by its `Content-Length`, before a byte of it is read.

    Raises:
        Refused: `body_too_large`.
    """
    length = header(scope, b"content-length") or b""
    # A length of twenty digits is too large whatever it says.
    if length.isdigit() and (len(length) >= _LENGTH_DIGITS or int(length) > limit_bytes):
        raise _too_large(limit_bytes)


async def read_body(receive: Receive, *, limit_bytes: int, deadline_s: float) -> bytes:
    """Return the whole body.

    Raises:
        Refused: `body_too_large` as soon as it is, or `body_timeout` when it is not whole after
            `deadline_s` seconds, however steadily it drips.
        ClientLeft: The client went away.
    """
    chunks: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                chunk: bytes = message.get("body", b"")
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise _too_large(limit_bytes)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise Refused(
            "body_timeout", f"The request body was not complete after {deadline_s:g} seconds"
        ) from None


async def discard_body(receive: Receive, *, deadline_s: float) -> None:
    """Read and drop what still comes, until it ends, the client leaves or time is up.

    A socket closed with unread data in it is reset, and the answer lost with it: a client that
    is still sending gets the time to see why it should stop.
    """
    try:
        async with asyncio.timeout(deadline_s):
            while (message := await receive())["type"] == "http.request":
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body whole, then whatever the server says next."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def check_media_type(scope: Scope) -> None:
    """Return if the body is declared as JSON in UTF-8, not compressed.

    Raises:
        Refused: `unsupported_media_type`.
    """
    encoding = (header(scope, b"content-encoding") or b"identity").strip().lower()
    if encoding != b"identity":
        raise _unsupported("A compressed body is not accepted; send it without Content-Encoding")
    declared = (header(scope, b"content-type") or b"").decode("latin-1").lower()
    media_type, *parameters = (part.strip() for part in declared.split(";"))
    if not _JSON_TYPE_PATTERN.fullmatch(media_type):
        raise _unsupported("The body must be JSON; send Content-Type: application/json")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"')
        if name.strip() == "charset" and charset not in ("utf-8", "utf8"):
            raise _unsupported("The body must be encoded in UTF-8")


def _too_large(limit_bytes: int) -> Refused:
    return Refused("body_too_large", f"The request body is larger than {limit_bytes} bytes")


def _unsupported(detail: str) -> Refused:
    return Refused("unsupported_media_type", detail, field="header.Content-Type")
