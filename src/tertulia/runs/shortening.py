"""Asking a model that cannot read as much as was thought: it is told less, the oldest left out.

What a conversation takes is estimated before it is sent (`llm.history`). A text of numbers, or of a
language that a tokenizer hardly knows, takes up to three times that; and how much a model reads at
once, its provider may not have told.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from tertulia.domain.models import Delta, ModelRequest, PromptMessage, ProviderFailed
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.history import estimate_tokens, fit

_LEFT = 2 / 3
"""Of what was told in vain."""
_TRIES_MAX = 12
"""Then it is a hundredth."""


async def stream_shortened(
    models: ModelCatalog, request: ModelRequest
) -> AsyncGenerator[Delta, None]:
    """Stream one answer; see `ModelCatalog.stream`.

    Raises:
        ProviderFailed: `context_too_long` only if the question alone is.
    """
    for left in range(_TRIES_MAX - 1, -1, -1):
        has_begun = False
        try:
            async with aclosing(models.stream(request)) as deltas:
                async for delta in deltas:
                    has_begun = True
                    yield delta
        except ProviderFailed as failed:
            shorter = shortened(request.messages)
            if failed.code != "context_too_long" or has_begun or shorter is None or not left:
                raise
            request = replace(request, messages=shorter)
        else:
            return


def shortened(messages: Sequence[PromptMessage]) -> list[PromptMessage] | None:
    """Return the messages without the oldest; None if each of them is needed."""
    tokens = sum(map(estimate_tokens, messages))
    shorter = fit(messages, budget_tokens=int(tokens * _LEFT))
    return shorter if len(shorter) < len(messages) else None
