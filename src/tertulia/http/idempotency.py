"""Idempotency keys: how a client says that two requests are one.

(IETF draft-ietf-httpapi-idempotency-key-header; the key is taken as it is written.)
"""

import hashlib
import json
import re
from typing import Annotated

from fastapi import Depends, Header, Request

from tertulia.domain.errors import Invalid
from tertulia.domain.idempotency import IdempotentRequest

_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")
_FIELD = "header.Idempotency-Key"


def parse_idempotency_key(value: str) -> str:
    """Return the key as it is.

    Raises:
        Invalid: It is not 1 to 255 visible ASCII characters (no spaces).
    """
    if _KEY_PATTERN.fullmatch(value) is None:
        raise Invalid("Idempotency-Key must be 1 to 255 visible ASCII characters", field=_FIELD)
    return value


def fingerprint(method: str, path: str, body: bytes) -> bytes:
    """Return 32 bytes (SHA-256) that are equal for requests that ask for the same.

    Two JSON bodies are the same whatever the order of their keys and their white space; any other
    body is compared byte by byte. Each part is hashed with its length, so that none runs into
    the next.
    """
    digest = hashlib.sha256()
    for part in (method.upper().encode(), path.encode(), _canonical(body)):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _canonical(body: bytes) -> bytes:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return body
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


async def _find_request(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 visible ASCII characters. A retry with the same key and the "
            "same body gets the first request's answer and does nothing twice.",
        ),
    ] = None,
) -> IdempotentRequest | None:
    # Read from the request: a parameter would silently take one of several headers.
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) > 1:
        raise Invalid("Idempotency-Key was sent more than once", field=_FIELD)
    key = parse_idempotency_key(values[0])
    target = f"{request.url.path}?{request.url.query}"
    return IdempotentRequest(key, fingerprint(request.method, target, await request.body()))


Idempotent = Annotated[IdempotentRequest | None, Depends(_find_request)]
"""A route's parameter: the request as one that must happen once, or None."""

REPLAYED = {"Idempotent-Replayed": "true"}
"""The header of an answer about a thing that an earlier request with the key made."""
