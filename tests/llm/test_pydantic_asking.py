"""The form of an answer and the choice of its tools, as they reach Anthropic."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tertulia.domain.errors import Invalid
from tertulia.domain.models import ModelSettings
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.others import OtherProvider

from .conftest import ask
from .scripted_anthropic import Anthropic, answer, provider_of, scripted_anthropic
from .test_pydantic_faults import FORM, SCHEMA, TOOL

FORMABLE = "claude-sonnet-5-5"
"""Knows schemas, and cannot be made to call a tool."""
FORCIBLE = "claude-3-haiku"
"""The other way round."""
NAMED = {"type": "function", "function": {"name": "look"}}
OTHER_TOOL = {"type": "function", "function": {"name": "listen", "parameters": {"type": "object"}}}


@pytest.fixture
async def anthropic() -> AsyncIterator[Anthropic]:
    async with scripted_anthropic() as server:
        yield server


@pytest.fixture
async def provider(anthropic: Anthropic) -> AsyncIterator[OtherProvider]:
    async with provider_of(anthropic) as provider:
        yield provider


async def asked(
    provider: OtherProvider, anthropic: Anthropic, settings: ModelSettings, model: str = FORMABLE
) -> dict[str, Any]:
    """Check, ask, and return what arrived."""
    await provider.check(model, settings, calls_tools=False)
    await answer(provider, ask(model=f"anthropic:{model}", settings=settings))
    return anthropic.asked[0]


@pytest.mark.parametrize("strict", [None, False, True])
async def test_a_schema_arrives(
    provider: OtherProvider, anthropic: Anthropic, strict: bool | None
) -> None:
    form = {**FORM, "json_schema": {"name": "weather", "schema": SCHEMA, "strict": strict}}

    body = await asked(provider, anthropic, ModelSettings(response_format=form))

    told = body["output_config"]["format"]
    assert told["type"] == "json_schema"
    for name, value in SCHEMA.items():
        assert told["schema"][name] == value
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
    ]


async def test_a_schema_arrives_beside_tools(provider: OtherProvider, anthropic: Anthropic) -> None:
    settings = ModelSettings(response_format=FORM, tools=(TOOL,), tool_choice="auto")

    body = await asked(provider, anthropic, settings)

    assert body["output_config"]["format"]["type"] == "json_schema"
    assert [tool["name"] for tool in body["tools"]] == ["look"]


@pytest.mark.parametrize(
    ("choice", "arrives"),
    [
        ("none", {"type": "none"}),
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        (NAMED, {"type": "tool", "name": "look"}),
    ],
)
async def test_a_choice_among_tools_arrives(
    provider: OtherProvider,
    anthropic: Anthropic,
    choice: str | Mapping[str, Any],
    arrives: Mapping[str, str],
) -> None:
    settings = ModelSettings(tools=(TOOL, OTHER_TOOL), tool_choice=choice)

    body = await asked(provider, anthropic, settings, FORCIBLE)

    assert body["tool_choice"] == arrives
    assert {tool["name"] for tool in body["tools"]} == {"look", "listen"}


async def test_a_choice_without_tools_is_left_out(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    body = await asked(provider, anthropic, ModelSettings(tool_choice="none"))

    assert "tool_choice" not in body
    assert "tools" not in body


@pytest.mark.parametrize(
    ("model", "settings", "field"),
    [
        (FORCIBLE, ModelSettings(response_format=FORM), "body.response_format"),
        (
            FORMABLE,
            ModelSettings(response_format={"type": "json_object"}),
            "body.response_format",
        ),
        (FORMABLE, ModelSettings(tools=(TOOL,), tool_choice="required"), "body.tool_choice"),
        (FORMABLE, ModelSettings(tools=(TOOL,), tool_choice=NAMED), "body.tool_choice"),
    ],
)
async def test_what_a_model_cannot_do_is_refused_and_not_left_out(
    provider: OtherProvider, anthropic: Anthropic, model: str, settings: ModelSettings, field: str
) -> None:
    catalog = ModelCatalog({"anthropic": provider}, f"anthropic:{FORMABLE}")

    with pytest.raises(Invalid) as refused:
        await catalog.check(f"anthropic:{model}", settings, calls_tools=False)

    assert refused.value.field == field
    assert anthropic.asked == []


async def test_a_provider_that_is_not_installed_refuses_nothing_yet() -> None:
    provider = OtherProvider("mistral", {"api_key": "some-secret-key"})

    await provider.check("mistral-large", ModelSettings(response_format=FORM), calls_tools=False)
