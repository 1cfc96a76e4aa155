"""Anthropic's protocol, spoken by a server here, through the real SDK."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tertulia.domain.models import (
    Finish,
    ModelRequest,
    ModelSettings,
    PromptMessage,
    ProviderFailed,
    ReasoningDelta,
    ToolCall,
    Usage,
)
from tertulia.domain.parts import FilePart, TextPart, ToolCallPart, ToolResultPart
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.others import OtherProvider

from .conftest import ask, text_in, until
from .scripted_anthropic import (
    MODEL,
    QUICK,
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


@pytest.fixture
async def anthropic() -> AsyncIterator[Anthropic]:
    async with scripted_anthropic() as server:
        yield server


@pytest.fixture
async def provider(anthropic: Anthropic) -> AsyncIterator[OtherProvider]:
    async with provider_of(anthropic) as provider:
        yield provider


async def failure_code(provider: OtherProvider) -> str:
    with pytest.raises(ProviderFailed) as failed:
        await answer(provider)
    assert "secret" not in failed.value.message
    return failed.value.code


async def test_an_answer_is_streamed_and_ends_with_its_usage(provider: OtherProvider) -> None:
    deltas = await answer(provider)

    assert text_in(deltas) == "Hello"
    finish = deltas[-1]
    assert isinstance(finish, Finish)
    assert (finish.reason, finish.request_id) == ("stop", "msg_1")
    assert replace(finish.usage, cached_tokens=None) == Usage(9, 5)


async def test_thinking_and_tool_calls_are_told_apart(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    thinking = {"type": "thinking_delta", "thinking": "Let me see."}
    tool: Event = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": part} for part in ('{"x"', ": 1}")]
    anthropic.events = [
        START,
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, thinking),
        *block(1, tool, *pieces),
        *end("tool_use"),
    ]

    deltas = await answer(provider)

    assert deltas[0] == ReasoningDelta("Let me see.")
    assert deltas[1] == ToolCall("toolu_1", "look", '{"x": 1}')
    assert isinstance(deltas[2], Finish)
    assert deltas[2].reason == "tool_calls"


async def test_a_whole_conversation_and_settings_reach_the_provider(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    talk = [
        PromptMessage("system", (TextPart("Be brief."),)),
        PromptMessage("user", (TextPart("Weather?"),)),
        PromptMessage("assistant", (TextPart("Hm."), ToolCallPart("c1", "look", '{"at": 1}'))),
        PromptMessage("tool", (ToolResultPart("c1", "sunny"),)),
    ]
    settings = ModelSettings(max_tokens=77, stop=("END",), tools=(tool,))

    await answer(provider, ModelRequest(MODEL, talk, settings))

    asked = anthropic.asked[0]
    assert asked["model"] == "claude-sonnet-5-5"
    assert (asked["max_tokens"], asked["stop_sequences"]) == (77, ["END"])
    assert asked["tools"][0]["name"] == "look"
    assert "Be brief." in json.dumps(asked["system"])
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "user"]
    assert asked["messages"][1]["content"][1]["input"] == {"at": 1}
    assert "sunny" in json.dumps(asked["messages"][2])


async def test_a_picture_is_handed_over_as_data(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    parts = (TextPart("See?"), FilePart("data:image/png;base64,AAAA", "image/png"))

    await answer(provider, ModelRequest(MODEL, [PromptMessage("user", parts)]))

    (words, picture) = anthropic.asked[0]["messages"][0]["content"]
    assert words["text"] == "See?"
    assert picture["source"] == {"type": "base64", "media_type": "image/png", "data": "AAAA"}


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "data:image/png,AAAA"])
async def test_a_file_is_never_fetched_for_a_provider(
    provider: OtherProvider, anthropic: Anthropic, url: str
) -> None:
    talk = [PromptMessage("user", (FilePart(url, "image/png"),))]

    with pytest.raises(ProviderFailed) as failed:
        await answer(provider, ModelRequest(MODEL, talk))

    assert failed.value.code == "provider_rejected"
    assert anthropic.asked == []


@pytest.mark.parametrize(
    ("status", "code", "calls"),
    [
        (400, "provider_rejected", 1),
        (401, "provider_unauthorized", 1),
        (429, "provider_rate_limited", 3),
        (500, "provider_error", 3),
        (529, "provider_overloaded", 3),
    ],
)
async def test_refusals_have_the_same_codes_as_everywhere(
    provider: OtherProvider, anthropic: Anthropic, status: int, code: str, calls: int
) -> None:
    anthropic.status = status

    assert await failure_code(provider) == code
    assert len(anthropic.asked) == calls


async def test_an_answer_that_comes_at_the_second_try_is_whole(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.status, anthropic.fail_times = 500, 1

    assert text_in(await answer(provider)) == "Hello"


async def test_a_cut_after_a_token_is_not_tried_again(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *text_block(0, "Hel")]
    anthropic.cut = True

    assert await failure_code(provider) == "provider_disconnected"
    assert len(anthropic.asked) == 1


async def test_a_stream_that_just_ends_is_incomplete(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *text_block(0, "Hel")]

    assert await failure_code(provider) == "provider_incomplete"


async def test_silence_in_mid_answer_is_a_timeout(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *text_block(0, "Hel")]
    anthropic.stall = True

    assert await failure_code(provider) == "provider_timeout"


async def test_an_error_inside_the_stream_has_a_code(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    anthropic.events = [START, *text_block(0, "Hel"), error]

    assert await failure_code(provider) == "provider_overloaded"


async def test_nothing_said_is_an_empty_answer(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *end()]

    assert await failure_code(provider) == "empty_answer"


async def test_an_unreachable_provider_is_named() -> None:
    options = {"api_key": "sk-ant-secret-key", "base_url": "http://127.0.0.1:1"}
    provider = OtherProvider("anthropic", options, patience=replace(QUICK, retries=0))

    assert await failure_code(provider) == "provider_unreachable"
    await provider.close()


async def test_closing_the_stream_closes_the_connection_at_once(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    anthropic.events = [START, *text_block(0, "Hel")]
    anthropic.stall = True
    deltas = provider.stream(ask(model=MODEL))
    await anext(deltas)

    await deltas.aclose()

    await until(lambda: anthropic.disconnected)


async def test_cancelling_closes_the_connection_at_once(
    anthropic: Anthropic,
) -> None:
    options = {"api_key": "sk-ant-secret-key", "base_url": anthropic.url}
    provider = OtherProvider("anthropic", options)
    anthropic.events = [START, *text_block(0, "Hel")]
    anthropic.stall = True
    task = asyncio.ensure_future(answer(provider))
    await until(lambda: bool(anthropic.asked))

    task.cancel()

    await until(lambda: anthropic.disconnected)
    await provider.close()


async def test_a_provider_that_is_not_installed_says_what_to_install() -> None:
    provider = OtherProvider("mistral", {"api_key": "some-secret-key"})

    with pytest.raises(ProviderFailed) as failed:
        await answer(provider, ask(model="mistral:mistral-large"))

    assert failed.value.code == "provider_unavailable"
    assert "pip install 'tertulia[mistral]'" in failed.value.message


async def test_a_provider_without_its_key_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    provider = OtherProvider("anthropic", {})

    assert await failure_code(provider) == "provider_unauthorized"


async def test_known_models_are_listed(provider: OtherProvider) -> None:
    names = [info.name for info in await provider.models()]

    assert any(name.startswith("anthropic:claude") for name in names)


async def test_a_model_newer_than_the_list_can_be_asked_for(provider: OtherProvider) -> None:
    # Importing what it takes may take longer than a catalog waits.
    listed = await provider.models()
    catalog = ModelCatalog({"anthropic": provider}, MODEL)

    assert len(await catalog.list()) >= len(listed)
    assert catalog.resolve("anthropic:claude-next-9") == "anthropic:claude-next-9"


async def test_numbers_and_names_that_cannot_be_stored_are_not_passed_on(
    provider: OtherProvider, anthropic: Anthropic
) -> None:
    start = json.loads(json.dumps(START))
    start["message"]["usage"]["input_tokens"] = 2**40
    start["message"]["id"] = "msg_\0" + "x" * 1000
    anthropic.events = [start, *text_block(0, "Hello"), *end()]

    finish = (await answer(provider))[-1]

    assert isinstance(finish, Finish)
    assert (finish.usage.prompt_tokens, finish.usage.response_tokens) == (None, 5)
    assert finish.request_id is not None
    assert len(finish.request_id) == 200
    assert "\0" not in finish.request_id


def test_pydantic_ai_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, tertulia.llm.catalog, tertulia.llm.others, tertulia.llm.local\n"
    program += (
        "print([n for n in ('pydantic_ai', 'xllamacpp', 'genai_prices') if n in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "[]"
