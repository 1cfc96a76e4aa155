"""How many tokens a prompt is to llama.cpp's server, which has the model's own tokenizer."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import aiohttp

from tertulia.domain.models import ProviderFailed

_PATH = "/v1/chat/completions/input_tokens"
_COUNT_S = 60.0
_REPLY_BYTES_MAX = 100_000


async def count_tokens(address: str, key: str, body: Mapping[str, Any]) -> int:
    """Return the tokens of what a chat completion with this body would begin with.

    Args:
        address: Of the server, without a path.
        key: That it knows.
        body: As of `POST /chat/completions`.

    Raises:
        ProviderFailed: `provider_unavailable`; it does not say.
    """
    timeout = aiohttp.ClientTimeout(total=_COUNT_S)
    headers = {"Authorization": f"Bearer {key}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.post(f"{address}{_PATH}", json=dict(body)) as response,
        ):
            said = await response.content.read(_REPLY_BYTES_MAX)
            if response.status == HTTPStatus.OK:
                return int(cast("dict[str, Any]", json.loads(said))["input_tokens"])
    except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
        raise _failed() from error
    raise _failed()


def _failed() -> ProviderFailed:
    return ProviderFailed("provider_unavailable", "The model cannot count tokens now", status=503)
