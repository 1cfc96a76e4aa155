"""What is said to `POST /embeddings` of an OpenAI-compatible provider, and what comes back."""

import base64
import binascii
import sys
from array import array
from math import isfinite
from typing import Any

import msgspec

from tertulia.domain.embeddings import Embedded, EmbeddingRequest, Vector

from . import faults

MAX_REPLY_BYTES = 64 * 1024 * 1024
"""2048 vectors of 3072 dimensions in base64 are 34 MB."""
_FLOAT_BYTES = 4
_TOKENS_MAX = 2**31 - 1


class _Item(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _Reply(msgspec.Struct):
    data: list[_Item]
    usage: msgspec.Raw = msgspec.Raw()


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


def embeddings_body(request: EmbeddingRequest, model: str) -> dict[str, Any]:
    """Return the body; base64 is asked for, a quarter of the size of decimal numbers.

    Args:
        request: What to embed.
        model: As the provider calls it.
    """
    body: dict[str, Any] = {
        "model": model,
        "input": request.inputs,
        "encoding_format": "base64",
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.kind is not None:
        # As NVIDIA's servers have it; OpenAI's own models know no such difference.
        body["input_type"] = request.kind
    return body


def read_embeddings(body: bytes, count: int) -> Embedded:
    """Return the vectors, which servers without base64 send as decimal numbers.

    It takes up to a second for the largest reply: not for the event loop's thread.

    Args:
        body: The whole reply.
        count: How many vectors were asked for.

    Raises:
        Fault: The reply is something else.
    """
    try:
        reply = msgspec.json.decode(body, type=_Reply)
    except (msgspec.DecodeError, RecursionError) as error:
        if said := faults.upstream_message(body[: faults.MAX_MESSAGE_CHARS * 20]):
            raise faults.of_stream_error(said) from error
        raise faults.invalid_response("something else than embeddings") from error
    vectors: list[Vector | None] = [None] * count
    for at, item in enumerate(reply.data):
        place = at if item.index is None else item.index
        if not 0 <= place < count or vectors[place] is not None:
            raise faults.invalid_response("embeddings of something else")
        vectors[place] = _vector(item.embedding)
    whole = [vector for vector in vectors if vector is not None]
    if len(whole) < count or len({len(vector) for vector in whole}) > 1:
        raise faults.invalid_response("too few embeddings, or of different lengths")
    return Embedded(whole, _tokens(reply.usage))


def _vector(raw: msgspec.Raw) -> Vector:
    try:
        value = msgspec.json.decode(raw, type=str | list[float])
        if isinstance(value, str):
            vector = array("f", base64.b64decode(value, validate=True))
            if sys.byteorder == "big":
                vector.byteswap()
        else:
            vector = array("f", value)
    except (msgspec.DecodeError, binascii.Error, ValueError, OverflowError) as error:
        raise faults.invalid_response("an embedding that is none") from error
    if not vector or not all(map(isfinite, vector)):
        raise faults.invalid_response("an embedding without numbers")
    return vector


def _tokens(raw: msgspec.Raw) -> int | None:
    try:
        usage = msgspec.json.decode(raw, type=_Usage)
    except msgspec.DecodeError:
        return None
    tokens = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    return tokens if tokens is not None and 0 <= tokens <= _TOKENS_MAX else None
