"""How much a response would have to read."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.dialects.openai.responses.test_sdk import MODEL, WEATHER, ask, strict
from tests.kit.person import Person


async def count(sdk: AsyncOpenAI, **asked: Any) -> int:  # noqa: ANN401  the SDK's
    ask_for: Any = sdk.responses.input_tokens.count
    counted = await ask_for(**{"model": MODEL, **asked})
    assert counted.object == "response.input_tokens"
    return counted.input_tokens


async def test_all_that_is_told_counts(ana: Person) -> None:
    async with strict(ana) as sdk:
        alone = await count(sdk, input="Hello there")
        # Two words of eleven bytes, and what a template adds.
        assert alone == 4 + 8
        assert await count(sdk, input="Hello there", instructions="Be brief") > alone
        assert await count(sdk, input="Hello there", tools=[WEATHER]) > alone
        response = await ask(sdk, "Hello there")
        after = await count(sdk, input="Hello there", previous_response_id=response.id)
        assert after > 2 * alone
        assert response.conversation is not None
        named: Any = response.conversation.id
        assert await count(sdk, input="Hello there", conversation=named) == after


async def test_what_cannot_be_asked_cannot_be_counted(ana: Person) -> None:
    async with strict(ana) as sdk:
        for asked, param in (
            ({"model": "nobody:nothing", "input": "x"}, "model"),
            ({}, "input"),
            ({"input": "x", "previous_response_id": f"resp_{'0' * 32}"}, "previous_response_id"),
            ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ):
            with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
                await count(sdk, **asked)
            assert refused.value.param == param


async def test_another_users_response_is_missing(ana: Person, bob: Person) -> None:
    async with strict(ana) as sdk, strict(bob) as bobs:
        response = await ask(sdk, "Hello there")
        with pytest.raises(openai.BadRequestError) as refused:
            await count(bobs, input="x", previous_response_id=response.id)
        assert refused.value.code == "previous_response_not_found"
