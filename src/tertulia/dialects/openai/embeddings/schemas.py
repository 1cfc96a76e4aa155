"""What embeddings look like on OpenAI's wire."""

import base64
import sys
from array import array
from typing import Annotated, Any, Literal, cast

import msgspec
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tertulia.domain.embeddings import (
    Embedded,
    EmbeddingInput,
    EmbeddingRequest,
    InputKind,
    Vector,
)
from tertulia.domain.errors import Invalid

INPUTS_MAX = 2048
INPUT_CHARS_MAX = 100_000
INPUT_TOKENS_MAX = 8192
DIMENSIONS_MAX = 16_384
_TOKEN_MAX = 2**31 - 1
_TEXTS = {"type": "string", "minLength": 1, "maxLength": INPUT_CHARS_MAX}
_TOKENS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": _TOKEN_MAX},
    "minItems": 1,
    "maxItems": INPUT_TOKENS_MAX,
}
_INPUT_SCHEMA = {
    "anyOf": [
        _TEXTS,
        {"type": "array", "items": _TEXTS, "minItems": 1, "maxItems": INPUTS_MAX},
        _TOKENS,
        {"type": "array", "items": _TOKENS, "minItems": 1, "maxItems": INPUTS_MAX},
    ]
}

EncodingFormat = Literal["float", "base64"]


class EmbeddingsCreate(BaseModel):
    """Which texts to embed, and how."""

    model_config = ConfigDict(extra="forbid")

    # Any: pydantic's words for a union of four name none of them well.
    input: Annotated[Any, WithJsonSchema(_INPUT_SCHEMA)] = Field(
        description="A text, texts, the tokens of a text, or the tokens of texts."
    )
    model: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="`provider:model`; a bare name means OpenAI's. Default: the bundled model.",
    )
    encoding_format: EncodingFormat | None = Field(
        None, description="`float` (the default): numbers; `base64`: of little-endian float32."
    )
    dimensions: int | None = Field(
        None, ge=1, le=DIMENSIONS_MAX, strict=True, description="Default: the model's."
    )
    user: str | None = Field(None, max_length=512, description="Ignored: the caller is the user.")
    input_type: InputKind | None = Field(
        None,
        description="No field of OpenAI's. `query`: texts to search with; `passage`: texts to be "
        "found. Leave it out to compare texts of one kind.",
    )

    def to_request(self, model: str) -> EmbeddingRequest:
        """Return it in the domain's words.

        Args:
            model: The full name of what `model` means.

        Raises:
            Invalid: What `input` is cannot be embedded.
        """
        return EmbeddingRequest(
            model=model,
            inputs=read_inputs(self.input),
            dimensions=self.dimensions,
            kind=self.input_type,
        )


class EmbeddingResponse(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(BaseModel):
    """What was read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """A vector for each input, in their order."""

    object: Literal["list"]
    data: list[EmbeddingResponse]
    model: str
    usage: EmbeddingsUsage


def read_inputs(value: object) -> tuple[EmbeddingInput, ...]:
    """Return what is to be embedded, whichever of the four shapes it has.

    Raises:
        Invalid: It has none of them, is empty or too large; the field names the place.
    """
    if not isinstance(value, list):
        return (_text(value, "input"),)
    items = cast("list[object]", value)
    if not items:
        raise Invalid("input must not be empty", field="input")
    if _is_token(items[0]):
        return (_tokens(items, "input"),)
    if len(items) > INPUTS_MAX:
        raise Invalid(f"input may have at most {INPUTS_MAX} items", field="input")
    read = _tokens if isinstance(items[0], list) else _text
    return tuple(read(item, f"input[{at}]") for at, item in enumerate(items))


def write_embeddings(embedded: Embedded, model: str, encoding: EncodingFormat) -> bytes:
    """Return the answer's body.

    Of 2048 vectors it takes a good part of a second, in small steps: write it in a thread.
    """
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, _number(vector, encoding))
        for index, vector in enumerate(embedded.vectors)
    )
    tokens = embedded.tokens or 0
    usage = EmbeddingsUsage(prompt_tokens=tokens, total_tokens=tokens)
    return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (
        data,
        msgspec.json.encode(model),
        usage.model_dump_json().encode(),
    )


def _number(vector: Vector, encoding: EncodingFormat) -> bytes:
    if encoding == "float":
        return msgspec.json.encode(vector.tolist())
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return b'"%b"' % base64.b64encode(vector.tobytes())


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise Invalid(f"{field} must be a string, or a list of token ids", field=field)
    if not value:
        raise Invalid(f"{field} must not be empty", field=field)
    if len(value) > INPUT_CHARS_MAX:
        raise Invalid(f"{field} may have at most {INPUT_CHARS_MAX} characters", field=field)
    return value


def _tokens(value: object, field: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise Invalid(f"{field} must be a list of token ids, like the first", field=field)
    tokens = cast("list[object]", value)
    if not tokens:
        raise Invalid(f"{field} must not be empty", field=field)
    if len(tokens) > INPUT_TOKENS_MAX:
        raise Invalid(f"{field} may have at most {INPUT_TOKENS_MAX} tokens", field=field)
    for at, token in enumerate(tokens):
        if not _is_token(token):
            place = f"{field}[{at}]"
            raise Invalid(f"{place} must be a token id: an integer from 0 on", field=place)
    return tuple(cast("list[int]", tokens))


def _is_token(value: object) -> bool:
    # JSON's true is an int in Python.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _TOKEN_MAX
