import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tertulia.domain.models import (
    Delta,
    Finish,
    ModelRequest,
    ModelSettings,
    ProviderFailed,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from tertulia.llm.breaker import Breaker
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.llm.patience import Patience
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.scripted_provider import ScriptedProvider

from .conftest import ask, text_in, until

QUICK = Patience(
    connect_s=0.5,
    first_byte_s=0.3,
    stall_s=0.3,
    closing_s=0.2,
    backoff_base_s=0.01,
    backoff_cap_s=0.01,
)


@pytest.fixture
async def provider(scripted: ScriptedProvider) -> AsyncIterator[OpenAICompatible]:
    provider = OpenAICompatible("openai", scripted.base_url, "sk-secret-key", patience=QUICK)
    yield provider
    await provider.close()


async def answer(provider: OpenAICompatible, request: ModelRequest) -> list[Delta]:
    return [delta async for delta in provider.stream(request)]


async def failure(
    provider: OpenAICompatible, request: ModelRequest
) -> tuple[ProviderFailed, list[Delta]]:
    """Return how the request failed, and what came before."""
    deltas: list[Delta] = []
    with pytest.raises(ProviderFailed) as failed:  # noqa: PT012  what came before counts too
        async for delta in provider.stream(request):
            deltas.append(delta)  # noqa: PERF401  a comprehension would lose them
    return failed.value, deltas


def finish_of(deltas: list[Delta]) -> Finish:
    last = deltas[-1]
    assert isinstance(last, Finish)
    return last


class TestAnswers:
    async def test_an_answer_is_streamed_and_ends_with_its_usage(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        deltas = await answer(provider, ask(pace_ms=1))

        assert text_in(deltas) == DEFAULT_TEXT
        assert len(deltas) > 10
        finish = finish_of(deltas)
        assert finish.reason == "stop"
        assert finish.usage == Usage(prompt_tokens=12, response_tokens=44)
        assert (finish.request_id or "").startswith("req-")
        assert scripted.calls[0].headers["Authorization"] == "Bearer sk-secret-key"
        assert scripted.calls[0].model == "scripted"

    async def test_settings_reach_the_provider(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        await answer(provider, ask(settings=ModelSettings(temperature=0.0, max_tokens=5)))

        assert scripted.calls[0].body["temperature"] == 0.0
        assert scripted.calls[0].body["max_tokens"] == 5

    async def test_reasoning_comes_apart_from_text(self, provider: OpenAICompatible) -> None:
        deltas = await answer(provider, ask(reasoning="Let me think.", text="Yes."))

        thought = "".join(d.text for d in deltas if isinstance(d, ReasoningDelta))
        assert (thought, text_in(deltas)) == ("Let me think.", "Yes.")

    async def test_tool_calls_come_whole(self, provider: OpenAICompatible) -> None:
        calls = [{"name": "look", "arguments": '{"x": 1}'}, {"name": "go", "arguments": "{}"}]

        deltas = await answer(provider, ask(tool_calls=calls))

        assert deltas[:-1] == [
            ToolCall("call_0", "look", '{"x": 1}'),
            ToolCall("call_1", "go", "{}"),
        ]
        assert finish_of(deltas).reason == "tool_calls"

    async def test_a_prefix_is_continued_without_doubling_the_space(
        self, scripted: ScriptedProvider
    ) -> None:
        provider = OpenAICompatible("openai", scripted.base_url, None, continuation="vllm")

        deltas = await answer(provider, ask(prefix="Once upon a ", text="Once upon a time."))

        await provider.close()
        assert text_in(deltas) == "time."
        assert scripted.calls[0].messages[-1]["content"] == "Once upon a"

    async def test_connections_are_used_again(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        for _ in range(5):
            await answer(provider, ask(text="Hi"))

        assert len(scripted.connections) == 1

    async def test_models_are_listed(self, provider: OpenAICompatible) -> None:
        infos = await provider.models()

        assert [info.name for info in infos] == ["openai:scripted"]

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        text=st.text(
            st.sampled_from("\u2028\u2029\u0085\x0b\x0c\x1c\ufeff\u200d👩\U0010ffff\r\n é的")
            | st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
            min_size=1,
        ),
        end=st.sampled_from(["\n", "\r\n", "\r"]),
    )
    async def test_text_is_exact_sent_byte_by_byte(
        self, provider: OpenAICompatible, text: str, end: str
    ) -> None:
        deltas = await answer(provider, ask(text=text, chunks=3, split_utf8=True, line_end=end))

        assert text_in(deltas) == text


class TestFaults:
    """Each row of `docs/provider-faults.md`."""

    @pytest.mark.parametrize(
        ("script", "outcome"),
        [
            ({"status": 429}, ("provider_rate_limited", 429, 3)),
            ({"status": 429, "retry_after": 31}, ("provider_rate_limited", 429, 1)),
            ({"status": 500}, ("provider_error", 502, 3)),
            ({"status": 502}, ("provider_error", 502, 3)),
            ({"status": 503}, ("provider_overloaded", 503, 3)),
            ({"status": 529}, ("provider_overloaded", 503, 3)),
            ({"status": 504}, ("provider_timeout", 504, 3)),
            ({"status": 400}, ("provider_rejected", 400, 1)),
            ({"status": 404}, ("provider_rejected", 404, 1)),
            ({"status": 401}, ("provider_unauthorized", 401, 1)),
            ({"status": 307}, ("provider_invalid_response", 502, 1)),
            ({"accept_stall": True}, ("provider_timeout", 504, 1)),
            ({"cut_after": -1}, ("provider_disconnected", 502, 3)),
            ({"cut_after": 0}, ("provider_disconnected", 502, 3)),
            ({"html": True}, ("provider_invalid_response", 502, 1)),
            ({"json_document": True}, ("provider_invalid_response", 502, 1)),
            ({"malformed_at": 0}, ("provider_invalid_response", 502, 1)),
            ({"wrong_types": True}, ("provider_invalid_response", 502, 1)),
            ({"huge_chunk": 10_000_000}, ("provider_invalid_response", 502, 1)),
            ({"tool_nameless": True}, ("provider_invalid_response", 502, 1)),
            ({"eof_after": 0}, ("provider_incomplete", 502, 3)),
            ({"error_at": 0}, ("provider_error", 502, 1)),
            ({"empty": True}, ("empty_answer", 502, 1)),
            ({"content_filter": True}, ("content_filtered", 400, 1)),
        ],
        ids=str,
    )
    async def test_a_fault_before_the_first_token(
        self,
        provider: OpenAICompatible,
        scripted: ScriptedProvider,
        script: dict[str, Any],
        outcome: tuple[str, int, int],
    ) -> None:
        failed, deltas = await failure(provider, ask(**script))

        assert (failed.code, failed.status, len(scripted.calls)) == outcome
        assert deltas == []
        assert "secret" not in failed.message

    @pytest.mark.parametrize(
        ("script", "code"),
        [
            ({"cut_after": 3}, "provider_disconnected"),
            ({"stall_after": 3}, "provider_timeout"),
            ({"malformed_at": 3}, "provider_invalid_response"),
            ({"eof_after": 3}, "provider_incomplete"),
            ({"error_at": 3}, "provider_error"),
            ({"no_finish": True, "no_done": True}, "provider_incomplete"),
        ],
        ids=str,
    )
    async def test_after_a_token_the_text_is_kept_and_nothing_is_asked_again(
        self,
        provider: OpenAICompatible,
        scripted: ScriptedProvider,
        script: dict[str, Any],
        code: str,
    ) -> None:
        failed, deltas = await failure(provider, ask(**script))

        assert failed.code == code
        assert text_in(deltas).startswith("A tertulia is")
        assert len(scripted.calls) == 1

    async def test_a_refused_connection_is_named(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        provider = OpenAICompatible("openai", f"http://127.0.0.1:{port}", None, patience=QUICK)

        failed, _ = await failure(provider, ask())

        await provider.close()
        assert failed.code == "provider_unreachable"
        assert "refused" in failed.message

    async def test_an_unknown_host_is_named(self) -> None:
        provider = OpenAICompatible(
            "openai", "http://no-such-host.invalid", None, patience=replace(QUICK, connect_s=5)
        )

        failed, _ = await failure(provider, ask())

        await provider.close()
        assert failed.code == "provider_unreachable"
        assert "host name" in failed.message

    async def test_a_failed_tls_handshake_is_named_and_not_tried_again(
        self, scripted: ScriptedProvider
    ) -> None:
        url = scripted.base_url.replace("http:", "https:")
        provider = OpenAICompatible("openai", url, None, patience=QUICK)

        failed, _ = await failure(provider, ask())

        await provider.close()
        assert failed.code == "provider_unreachable"
        assert "TLS" in failed.message

    async def test_a_host_that_accepts_no_connection_is_a_timeout(self) -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            # Two connections fill the backlog of a listener that never accepts.
            fillers = [socket.socket() for _ in range(2)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            provider = OpenAICompatible(
                "openai", f"http://127.0.0.1:{address[1]}", None, patience=QUICK
            )

            failed, _ = await failure(provider, ask())

            await provider.close()
            for filler in fillers:
                filler.close()
        assert failed.code == "provider_timeout"

    async def test_a_server_that_does_not_speak_http_is_an_invalid_response(self) -> None:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail ready\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        provider = OpenAICompatible("openai", f"http://127.0.0.1:{port}", None, patience=QUICK)

        failed, _ = await failure(provider, ask())

        await provider.close()
        server.close()
        assert failed.code == "provider_invalid_response"

    async def test_what_the_provider_says_is_cleaned_and_bounded(
        self, provider: OpenAICompatible
    ) -> None:
        said = "no\nmodel sk-abcdefghijklmnop " + "x" * 2000

        failed, _ = await failure(provider, ask(error_at=0, error_message=said))

        assert "no model [secret] xxx" in failed.message
        assert len(failed.message) < 400


class TestRetries:
    async def test_an_answer_that_comes_at_the_third_try_is_whole_and_not_doubled(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        deltas = await answer(provider, ask(status=500, fail_times=2))

        assert text_in(deltas) == DEFAULT_TEXT
        assert len(scripted.calls) == 3

    async def test_a_cut_before_the_first_token_is_tried_again(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        deltas = await answer(provider, ask(cut_after=0, fail_times=1))

        assert text_in(deltas) == DEFAULT_TEXT
        assert len(scripted.calls) == 2

    async def test_a_short_retry_after_is_waited_for(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        began = asyncio.get_running_loop().time()

        deltas = await answer(provider, ask(status=429, retry_after=0.4, fail_times=1))

        assert text_in(deltas) == DEFAULT_TEXT
        assert asyncio.get_running_loop().time() - began >= 0.4
        assert len(scripted.calls) == 2

    async def test_pieces_of_a_tool_call_count_as_tokens(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        calls = [{"name": "look", "arguments": "{}"}]

        failed, _ = await failure(
            provider, ask(tool_calls=calls, no_finish=True, no_done=True, usage=None)
        )

        assert failed.code == "provider_incomplete"
        assert len(scripted.calls) == 1


class TestNoFaults:
    async def test_a_finish_without_done_is_an_end(self, provider: OpenAICompatible) -> None:
        deltas = await answer(provider, ask(no_done=True))

        assert text_in(deltas) == DEFAULT_TEXT
        assert finish_of(deltas).reason == "stop"

    async def test_done_without_a_finish_is_an_end(self, provider: OpenAICompatible) -> None:
        deltas = await answer(provider, ask(no_finish=True))

        assert finish_of(deltas).reason == "stop"

    async def test_a_finished_answer_is_not_lost_to_a_server_that_never_hangs_up(
        self, provider: OpenAICompatible
    ) -> None:
        deltas = await answer(provider, ask(no_done=True, linger=True))

        assert text_in(deltas) == DEFAULT_TEXT

    async def test_done_is_the_end_whatever_follows(self, provider: OpenAICompatible) -> None:
        deltas = await answer(provider, ask(linger=True))

        assert finish_of(deltas).usage.prompt_tokens == 12

    async def test_a_filtered_answer_with_text_keeps_it(self, provider: OpenAICompatible) -> None:
        deltas = await answer(provider, ask(text="Half of it", content_filter=True))

        assert text_in(deltas) == "Half of it"
        assert finish_of(deltas).reason == "content_filter"

    async def test_missing_usage_is_unknown(self, provider: OpenAICompatible) -> None:
        deltas = await answer(provider, ask(usage=None))

        assert finish_of(deltas).usage == Usage()

    async def test_tool_arguments_that_are_not_json_are_kept(
        self, provider: OpenAICompatible
    ) -> None:
        deltas = await answer(provider, ask(tool_garbage=True))

        assert deltas[0] == ToolCall("call_0", "look_up", '{"city": "Sevil')

    async def test_a_doubled_chunk_is_kept_as_it_came(self, provider: OpenAICompatible) -> None:
        deltas = await answer(provider, ask(text="a b c", double_chunk_at=1))

        assert text_in(deltas) == "a b b c"


class TestStopping:
    async def test_cancelling_closes_the_connection_at_once(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        task = asyncio.ensure_future(answer(provider, ask(endless=True, pace_ms=5)))
        await until(lambda: bool(scripted.calls) and scripted.calls[0].tokens_sent > 3)

        task.cancel()

        await until(lambda: scripted.calls[0].disconnected)
        assert task.cancelled()

    async def test_closing_the_stream_closes_the_connection_at_once(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        deltas = provider.stream(ask(endless=True, pace_ms=5))
        assert isinstance(await anext(deltas), TextDelta)

        await deltas.aclose()

        await until(lambda: scripted.calls[0].disconnected)

    async def test_cancelling_before_the_first_byte_closes_the_connection(
        self, scripted: ScriptedProvider
    ) -> None:
        provider = OpenAICompatible("openai", scripted.base_url, None)
        task = asyncio.ensure_future(answer(provider, ask(accept_stall=True)))
        await until(lambda: bool(scripted.calls))

        task.cancel()

        await until(lambda: scripted.calls[0].disconnected)
        await provider.close()

    async def test_closing_the_provider_ends_its_streams(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        task = asyncio.ensure_future(failure(provider, ask(endless=True, pace_ms=5)))
        await until(lambda: bool(scripted.calls) and scripted.calls[0].tokens_sent > 3)

        await provider.close()

        failed, _ = await task
        assert failed.code == "provider_disconnected"
        assert len(scripted.calls) == 1


class TestBreaker:
    async def test_a_failing_provider_is_left_alone_and_tried_again_later(
        self, scripted: ScriptedProvider
    ) -> None:
        patience = replace(QUICK, retries=0)
        breaker = Breaker(failures_to_open=5, open_s=0.2)
        provider = OpenAICompatible(
            "openai", scripted.base_url, None, patience=patience, breaker=breaker
        )
        for _ in range(5):
            await failure(provider, ask(status=500))

        failed, _ = await failure(provider, ask())
        assert (failed.code, failed.status) == ("provider_unavailable", 503)
        assert len(scripted.calls) == 5

        await asyncio.sleep(0.2)
        assert text_in(await answer(provider, ask())) == DEFAULT_TEXT
        assert text_in(await answer(provider, ask())) == DEFAULT_TEXT
        await provider.close()

    async def test_refusals_and_strange_answers_do_not_open_it(
        self, provider: OpenAICompatible
    ) -> None:
        scripts: list[dict[str, Any]] = [{"status": 400}, {"empty": True}, {"html": True}]
        for script in scripts * 4:
            await failure(provider, ask(**script))

        assert text_in(await answer(provider, ask())) == DEFAULT_TEXT

    async def test_reading_no_further_than_the_finish_counts_as_a_success(
        self, scripted: ScriptedProvider
    ) -> None:
        provider = OpenAICompatible(
            "openai", scripted.base_url, None, patience=replace(QUICK, retries=0)
        )
        for _ in range(2):
            for _ in range(4):
                await failure(provider, ask(status=500))
            deltas = provider.stream(ask())
            async for delta in deltas:
                if isinstance(delta, Finish):
                    break
            await deltas.aclose()

        assert text_in(await answer(provider, ask())) == DEFAULT_TEXT
        await provider.close()


@pytest.mark.parametrize("url", ["ftp://host/v1", "host:80", "", "http://", "file:///etc"])
def test_a_base_url_must_be_http(url: str) -> None:
    with pytest.raises(ValueError, match="http"):
        OpenAICompatible("openai", url, None)
