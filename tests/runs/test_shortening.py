"""Models that read less than was thought."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tertulia.domain.models import Delta, ModelRequest, PromptMessage, ProviderFailed, TextDelta
from tertulia.domain.parts import TextPart
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.runs.shortening import shortened, stream_shortened
from tests.kit.scripted_provider import ScriptedProvider

MODEL = "openai:scripted"
TOO_LONG = json.dumps({"error": {"message": "This is more than the maximum context length"}})


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
async def models(provider: ScriptedProvider) -> AsyncIterator[ModelCatalog]:
    models = ModelCatalog({"openai": OpenAICompatible("openai", provider.base_url, "key")}, MODEL)
    yield models
    await models.close()


def said(role: str, text: str) -> PromptMessage:
    return PromptMessage(role, (TextPart(text),))


def long_request(**script: Any) -> ModelRequest:  # noqa: ANN401  fields of a script
    before = [said("user" if n % 2 else "assistant", f"{n} " * 20) for n in range(40)]
    asked = said("user", f"And? script:{json.dumps({'text': 'Yes.', **script})}")
    return ModelRequest(MODEL, [said("system", "Be brief"), *before, asked])


async def answer(models: ModelCatalog, request: ModelRequest) -> list[Delta]:
    return [delta async for delta in stream_shortened(models, request)]


async def test_who_cannot_read_it_all_is_told_less(
    models: ModelCatalog, provider: ScriptedProvider
) -> None:
    request = long_request(status=400, error_body=TOO_LONG, fail_times=3)

    deltas = await answer(models, request)

    assert "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)) == "Yes."
    told = [call.messages for call in provider.calls]
    sizes = [len(messages) for messages in told]
    assert len(sizes) == 4
    assert sizes[0] == 42
    assert sizes == sorted(set(sizes), reverse=True)
    for messages in told:
        # What instructs and what is asked is told always, and of the rest the newest.
        assert messages[0] == told[0][0]
        assert messages[1:] == told[0][1:][1 - len(messages) :]


async def test_a_question_that_is_too_long_by_itself_is_refused(
    models: ModelCatalog, provider: ScriptedProvider
) -> None:
    with pytest.raises(ProviderFailed) as failed:
        await answer(models, long_request(status=400, error_body=TOO_LONG))
    assert failed.value.code == "context_too_long"
    assert len(provider.calls[-1].messages) == 2


async def test_what_fails_for_another_reason_is_asked_once(
    models: ModelCatalog, provider: ScriptedProvider
) -> None:
    with pytest.raises(ProviderFailed) as failed:
        await answer(models, long_request(status=400, error_body='{"error": {"message": "No"}}'))
    assert failed.value.code == "provider_rejected"
    assert len(provider.calls) == 1


def test_nothing_is_left_to_leave_out() -> None:
    assert shortened([said("system", "x" * 100), said("user", "y" * 100)]) is None
