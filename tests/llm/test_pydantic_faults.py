"""The faults of `docs/provider-faults.md`, at a provider that pydantic-ai speaks to.

Each is caused twice: with nothing but words asked for, and with tools and a JSON schema.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tertulia.domain.models import Delta, Finish, ModelSettings, ProviderFailed, ToolCall, Usage
from tertulia.llm.others import OtherProvider
from tertulia.llm.patience import Patience

from .conftest import ask, text_in
from .scripted_anthropic import (
    MODEL,
    START,
    Anthropic,
    Event,
    answer,
    block,
    end,
    provider_of,
    scripted_anthropic,
    text_block,
)

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"sky": {"type": "string"}},
    "required": ["sky"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}}
WRONG_TYPE = {"type": "text_delta", "text": 5}
NO_TOKENS = {"input_tokens": 0, "output_tokens": 0}
WORDS = ModelSettings()
FORMED = ModelSettings(tools=(TOOL,), tool_choice="auto", response_format=FORM)
ALL_TRIES = 1 + Patience().retries


@pytest.fixture
async def anthropic() -> AsyncIterator[Anthropic]:
    async with scripted_anthropic() as server:
        yield server


@pytest.fixture
async def provider(anthropic: Anthropic) -> AsyncIterator[OtherProvider]:
    async with provider_of(anthropic) as provider:
        yield provider


def tool_block(index: int, *pieces: str, name: str = "look") -> list[Event]:
    tool: Event = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    return block(index, tool, *deltas)


def error_event(kind: str, message: str) -> Event:
    return {"type": "error", "error": {"type": kind, "message": message}}


@dataclass(frozen=True)
class Case:
    """What the provider does, and what becomes of it."""

    code: str
    status: int
    tries: int
    does: Mapping[str, Any] = field(default_factory=dict[str, Any])


CASES = {
    "400": Case("provider_rejected", 400, 1, {"status": 400}),
    "404": Case("provider_rejected", 404, 1, {"status": 404}),
    "409": Case("provider_rejected", 409, ALL_TRIES, {"status": 409}),
    "413": Case("context_too_long", 400, 1, {"status": 413}),
    "400 about the context": Case(
        "context_too_long", 400, 1, {"status": 400, "error": "prompt is too long: 9 tokens > 8"}
    ),
    "401": Case("provider_unauthorized", 401, 1, {"status": 401}),
    "403": Case("provider_unauthorized", 403, 1, {"status": 403}),
    "408": Case("provider_timeout", 504, ALL_TRIES, {"status": 408}),
    "429": Case("provider_rate_limited", 429, ALL_TRIES, {"status": 429}),
    "429 for long": Case(
        "provider_rate_limited", 429, 1, {"status": 429, "headers": {"Retry-After": "3600"}}
    ),
    "500": Case("provider_error", 502, ALL_TRIES, {"status": 500}),
    "501": Case("provider_error", 502, 1, {"status": 501}),
    "502": Case("provider_error", 502, ALL_TRIES, {"status": 502}),
    "503": Case("provider_overloaded", 503, ALL_TRIES, {"status": 503}),
    "504": Case("provider_timeout", 504, ALL_TRIES, {"status": 504}),
    "529": Case("provider_overloaded", 503, ALL_TRIES, {"status": 529}),
    "a redirect": Case(
        "provider_invalid_response",
        502,
        1,
        {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}},
    ),
    "no first byte": Case("provider_timeout", 504, 1, {"events": [], "stall": True}),
    "silence after a word": Case(
        "provider_timeout", 504, 1, {"events": [START, *text_block(0, "Hel")], "stall": True}
    ),
    "cut before a word": Case(
        "provider_disconnected", 502, ALL_TRIES, {"events": [START], "cut": True}
    ),
    "cut after a word": Case(
        "provider_disconnected", 502, 1, {"events": [START, *text_block(0, "Hel")], "cut": True}
    ),
    "cut in a tool call": Case(
        "provider_disconnected", 502, 1, {"events": [START, *tool_block(0, '{"x')], "cut": True}
    ),
    "ended before a word": Case("provider_incomplete", 502, ALL_TRIES, {"events": [START]}),
    "ended after a word": Case(
        "provider_incomplete", 502, 1, {"events": [START, *text_block(0, "Hel")]}
    ),
    "ended in a tool call": Case(
        "provider_incomplete", 502, 1, {"events": [START, *tool_block(0, '{"x')]}
    ),
    "nothing said": Case("empty_answer", 502, 1, {"events": [START, *end()]}),
    "all filtered": Case("content_filtered", 400, 1, {"events": [START, *end("refusal")]}),
    "overloaded in the stream": Case(
        "provider_overloaded",
        503,
        1,
        {"events": [START, *text_block(0, "Hel"), error_event("overloaded_error", "Overloaded")]},
    ),
    "an error in the stream": Case(
        "provider_error",
        502,
        1,
        {"events": [START, *text_block(0, "Hel"), error_event("api_error", "Oh")]},
    ),
    "what is no JSON": Case(
        "provider_invalid_response",
        502,
        1,
        {"events": [START], "raw": b"event: content_block_delta\ndata: {oops\n\n"},
    ),
    "a field of the wrong type": Case(
        "provider_invalid_response",
        502,
        1,
        {"events": [START, *block(0, {"type": "text", "text": ""}, WRONG_TYPE)]},
    ),
    "a web page": Case(
        "provider_invalid_response", 502, 1, {"document": ("text/html", b"<html>Welcome</html>")}
    ),
    "a document": Case(
        "provider_invalid_response", 502, 1, {"document": ("application/json", b'{"id": "x"}')}
    ),
    "too many tool calls": Case(
        "provider_invalid_response",
        502,
        1,
        {"events": [START, *(each for n in range(129) for each in tool_block(n, "{}"))]},
    ),
    "a tool call too large": Case(
        "provider_invalid_response",
        502,
        1,
        {"events": [START, *tool_block(0, *(["x" * 100_000] * 11))], "stall": True},
    ),
    "a tool call without a name": Case(
        "provider_invalid_response",
        502,
        1,
        {"events": [START, *tool_block(0, "{}", name=""), *end("tool_use")]},
    ),
}


@pytest.mark.parametrize("settings", [WORDS, FORMED], ids=["words", "a form and tools"])
@pytest.mark.parametrize("name", CASES)
async def test_every_fault_has_its_stated_end(
    provider: OtherProvider, anthropic: Anthropic, name: str, settings: ModelSettings
) -> None:
    case = CASES[name]
    for attribute, value in case.does.items():
        setattr(anthropic, attribute, value)

    with pytest.raises(ProviderFailed) as failed:
        await answer(provider, ask(model=MODEL, settings=settings))

    failure = failed.value
    assert (failure.code, failure.status, len(anthropic.asked)) == (
        case.code,
        case.status,
        case.tries,
    ), failure.message
    assert len(failure.message) <= 300
    assert "secret" not in failure.message


async def whole(provider: OtherProvider) -> tuple[list[Delta], Finish]:
    deltas = await answer(provider, ask(model=MODEL, settings=FORMED))
    finish = deltas[-1]
    assert isinstance(finish, Finish)
    return deltas, finish


async def test_arguments_that_are_not_json_are_kept_as_they_are(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *tool_block(0, "not {", "JSON"), *end("tool_use")]

    deltas, _ = await whole(provider)

    assert deltas[0] == ToolCall("toolu_0", "look", "not {JSON")


async def test_an_answer_of_tool_calls_ends_with_those(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *tool_block(0), *end()]

    deltas, finish = await whole(provider)

    assert deltas[0] == ToolCall("toolu_0", "look", "{}")
    assert finish.reason == "tool_calls"


async def test_what_came_before_the_filter_stays(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *text_block(0, "Hel"), *end("refusal")]

    deltas, finish = await whole(provider)

    assert (text_in(deltas), finish.reason) == ("Hel", "content_filter")


async def test_an_end_that_nobody_has_heard_of_is_an_ordinary_one(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *text_block(0, "Hel"), *end("something_new")]

    _, finish = await whole(provider)

    assert finish.reason == "stop"


async def test_nobody_knows_the_usage_of_an_answer_that_does_not_tell(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    start = {**START, "message": {**START["message"], "usage": NO_TOKENS}}
    last, stop = end()
    anthropic.events = [start, *text_block(0, "Hel"), {**last, "usage": NO_TOKENS}, stop]

    _, finish = await whole(provider)

    assert finish.usage == Usage()
