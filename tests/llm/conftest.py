"""A scripted provider on a socket of its own, and what a test says to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tertulia.domain.models import Delta, ModelRequest, ModelSettings, PromptMessage, TextDelta
from tertulia.domain.parts import TextPart
from tests.kit.scripted_provider import ScriptedProvider


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


def ask(
    words: str = "Hello",
    /,
    *,
    model: str = "openai:scripted",
    prefix: str = "",
    settings: ModelSettings | None = None,
    **script: Any,  # noqa: ANN401  fields of a script
) -> ModelRequest:
    """Return a request whose answer follows the script, if one is given."""
    said = f"{words} script:{json.dumps(script)}" if script else words
    return ModelRequest(
        model=model,
        messages=[PromptMessage("user", (TextPart(said),))],
        settings=settings or ModelSettings(),
        prefix=prefix,
    )


def text_in(deltas: list[Delta]) -> str:
    """Return all text, joined."""
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def until(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    """Wait for something that another task does; fail if it does not come at all."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  what is waited for sets no event
            await asyncio.sleep(0.005)
