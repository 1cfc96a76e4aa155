"""What `GET /models` of an OpenAI-compatible provider says, and what the names of models say."""

import json
import re
from typing import cast

from tertulia.domain.models import ProviderFailed

from .names import is_well_formed

MAX_MODELS = 5_000
_TOKENS_MAX = 2**31 - 1
_CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window")
"""As vLLM, OpenRouter and Groq call it; OpenAI does not tell."""
_REASONING_MODELS = re.compile(r"(^|/)(o\d|gpt-[5-9])|reason|thinking|deepseek-r\d|qwq|gpt-oss")


def reasons(model: str) -> bool:
    """Whether the name is that of a model known to reason before it answers."""
    return _REASONING_MODELS.search(model.lower()) is not None


def listed_models(body: bytes) -> list[tuple[str, int | None]]:
    """Return the names in a list of models, each with its context length in tokens if told.

    Items that are no model, or have a name that nobody could ask for, are passed over; at most
    `MAX_MODELS` are read.

    Raises:
        ProviderFailed: `provider_invalid_response`; it is no list.
    """
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProviderFailed(
            "provider_invalid_response", "The provider's list of models is not JSON"
        ) from error
    items: object = (
        cast("dict[str, object]", value).get("data") if isinstance(value, dict) else None
    )
    if not isinstance(items, list):
        raise ProviderFailed(
            "provider_invalid_response", "The provider's list of models has no list in it"
        )
    listed: list[tuple[str, int | None]] = []
    for item in cast("list[object]", items)[:MAX_MODELS]:
        fields = cast("dict[str, object]", item) if isinstance(item, dict) else {}
        if isinstance(model := fields.get("id"), str) and is_well_formed(model):
            sizes = (_size_or_none(fields.get(key)) for key in _CONTEXT_FIELDS)
            listed.append((model, next((size for size in sizes if size is not None), None)))
    return listed


def _size_or_none(value: object) -> int | None:
    # JSON's true is an int in Python.
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value <= _TOKENS_MAX else None
