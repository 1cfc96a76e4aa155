from decimal import Decimal

import pytest

from tertulia.domain.models import Usage
from tertulia.llm.pricing import cost_usd

SOME = Usage(prompt_tokens=1_000_000, response_tokens=1_000_000)


def test_the_tokens_of_a_known_model_have_a_price() -> None:
    cost = cost_usd("gpt-4o", SOME, api_url="https://api.openai.com/v1")

    assert cost == Decimal("12.5")


def test_cached_tokens_are_cheaper() -> None:
    cached = Usage(prompt_tokens=1_000_000, response_tokens=1_000_000, cached_tokens=1_000_000)

    cost = cost_usd("gpt-4o", cached, api_url="https://api.openai.com/v1")

    assert cost is not None
    assert cost < Decimal("12.5")


def test_a_provider_can_be_named_instead_of_its_address() -> None:
    assert (cost_usd("claude-sonnet-4-5", SOME, provider_id="anthropic") or 0) > 0


@pytest.mark.parametrize(
    ("model", "usage", "api_url"),
    [
        ("gpt-4o", SOME, "http://localhost:8000/v1"),
        ("no-such-model", SOME, "https://api.openai.com/v1"),
        ("gpt-4o", Usage(prompt_tokens=5), "https://api.openai.com/v1"),
        ("gpt-4o", Usage(), "https://api.openai.com/v1"),
        ("gpt-4o", Usage(5, 5, cached_tokens=50), "https://api.openai.com/v1"),
        ("gpt-4o", SOME, None),
    ],
)
def test_what_is_unknown_has_no_price(model: str, usage: Usage, api_url: str | None) -> None:
    assert cost_usd(model, usage, api_url=api_url) is None
