"""Embeddings of a provider on the network."""

import base64
import json
import struct
from array import array
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tertulia.domain.embeddings import Embedded, EmbeddingInput, EmbeddingRequest
from tertulia.domain.models import ProviderFailed
from tertulia.llm.breaker import Breaker
from tertulia.llm.faults import Fault
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.llm.openai_embeddings import embeddings_body, read_embeddings
from tertulia.llm.patience import Patience
from tests.kit.provider_script import embedding_of
from tests.kit.scripted_provider import ScriptedProvider

QUICK = Patience(connect_s=0.5, embeddings_s=0.5, backoff_base_s=0.01, backoff_cap_s=0.01)
MODEL = "openai:embedder"


@pytest.fixture
async def provider(scripted: ScriptedProvider) -> AsyncIterator[OpenAICompatible]:
    provider = OpenAICompatible("openai", scripted.base_url, "sk-secret-key", patience=QUICK)
    yield provider
    await provider.close()


def vectors(*inputs: str | list[int], dimensions: int = 3) -> list[Any]:
    return [array("f", embedding_of(each, dimensions)) for each in inputs]


def asked(*inputs: EmbeddingInput, **more: Any) -> EmbeddingRequest:  # noqa: ANN401  fields of it
    return EmbeddingRequest(MODEL, inputs, **more)


def reply(*embeddings: object, **more: object) -> bytes:
    data = [{"index": at, "embedding": each} for at, each in enumerate(embeddings)]
    return json.dumps({"data": data, **more}).encode()


def fault(body: bytes, count: int = 1) -> str:
    with pytest.raises(Fault) as raised:
        read_embeddings(body, count)
    return raised.value.failure.code


class TestBody:
    def test_only_what_was_asked_for_is_said(self) -> None:
        assert embeddings_body(asked("a"), "embedder") == {
            "model": "embedder",
            "input": ("a",),
            "encoding_format": "base64",
        }

    def test_dimensions_and_kind_are_passed_on(self) -> None:
        body = embeddings_body(asked("a", dimensions=8, kind="passage"), "embedder")

        assert (body["dimensions"], body["input_type"]) == (8, "passage")


class TestReading:
    def test_numbers_and_base64_are_the_same(self) -> None:
        packed = base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()

        assert read_embeddings(reply(packed), 1) == read_embeddings(reply([0.5, -2]), 1)

    def test_the_index_says_whose_each_is(self) -> None:
        items = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]

        read = read_embeddings(json.dumps({"data": items}).encode(), 2)

        assert read.vectors == [array("f", [1.0]), array("f", [2.0])]

    def test_without_an_index_the_order_does(self) -> None:
        items = [{"embedding": [1.0]}, {"embedding": [2.0]}]

        read = read_embeddings(json.dumps({"data": items}).encode(), 2)

        assert read.vectors == [array("f", [1.0]), array("f", [2.0])]

    @pytest.mark.parametrize(
        ("usage", "tokens"),
        [
            ({"prompt_tokens": 7, "total_tokens": 8}, 7),
            ({"total_tokens": 8}, 8),
            (None, None),
            ({}, None),
            ({"prompt_tokens": "many"}, None),
            ({"prompt_tokens": -1}, None),
            ({"prompt_tokens": 2**40}, None),
        ],
    )
    def test_tokens_are_read_where_they_are_told(self, usage: object, tokens: int | None) -> None:
        assert read_embeddings(reply([1.0], usage=usage), 1).tokens == tokens
        assert read_embeddings(reply([1.0]), 1).tokens is None

    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"{}", b"[]", b"null", b"<html>", b'{"data": 1}', b'{"data": [1]}', b"\xff"),
            *(b'{"data": [{}]}', b'{"data": []}', reply([1.0], [1.0]), reply([])),
            *(reply(None), reply({}), reply([None]), reply(["1"]), reply([[1.0]]), reply(1)),
            *(reply(""), reply("AAA"), reply("AAAA"), reply("ÄÄÄÄ"), reply("=" * 8)),
            *(reply([1e39]), reply([float("nan")]), reply("AACAfw=="), reply("AADAfw==")),
            b'{"data": [{"index": 1, "embedding": [1]}]}',
            b'{"data": [{"index": -1, "embedding": [1]}]}',
            b'{"data": [{"index": "0", "embedding": [1]}]}',
            b"[" * 100_000,
            b'{"data": [{"embedding": ' + b"[" * 100_000,
        ],
        ids=lambda body: ascii(body[:60]),
    )
    def test_anything_else_is_no_answer(self, body: bytes) -> None:
        assert fault(body) == "provider_invalid_response"

    def test_vectors_of_different_lengths_are_no_answer(self) -> None:
        assert fault(reply([1.0], [1.0, 2.0]), count=2) == "provider_invalid_response"

    def test_one_vector_twice_is_no_answer(self) -> None:
        items = [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]

        assert fault(json.dumps({"data": items}).encode(), 2) == "provider_invalid_response"

    def test_an_error_with_status_200_is_one(self) -> None:
        assert fault(b'{"error": {"message": "no room"}}') == "provider_error"


class TestEmbed:
    async def test_each_input_gets_its_vector(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        embedded = await provider.embed(asked("a", "bbb", (1, 2)))

        assert embedded == Embedded(vectors("a", "bbb", [1, 2]), 12)
        call = scripted.calls[0]
        assert call.model == "embedder"
        assert call.body["input"] == ["a", "bbb", [1, 2]]
        assert call.headers["Authorization"] == "Bearer sk-secret-key"

    async def test_a_server_without_base64_will_do(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        scripted.scripts["embedder"] = {"numbers_only": True}

        embedded = await provider.embed(asked("a", dimensions=5))

        assert embedded.vectors == vectors("a", dimensions=5)

    async def test_a_passing_fault_is_tried_again(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        scripted.scripts["embedder"] = {"status": 503, "fail_times": 2}

        assert (await provider.embed(asked("a"))).vectors == vectors("a")
        assert len(scripted.calls) == 3

    @pytest.mark.parametrize(
        ("script", "outcome"),
        [
            ({"status": 500}, ("provider_error", 502, 3)),
            ({"status": 401}, ("provider_unauthorized", 401, 1)),
            ({"status": 404}, ("provider_rejected", 404, 1)),
            ({"status": 429, "retry_after": 60}, ("provider_rate_limited", 429, 1)),
            ({"status": 302}, ("provider_invalid_response", 502, 1)),
            ({"cut_after": -1}, ("provider_disconnected", 502, 3)),
            ({"accept_stall": True}, ("provider_timeout", 504, 1)),
            ({"html": True}, ("provider_invalid_response", 502, 1)),
            ({"embeddings": {"data": []}}, ("provider_invalid_response", 502, 1)),
            ({"embeddings": {"error": {"message": "no"}}}, ("provider_error", 502, 1)),
            ({"embeddings": {"x": "y" * 5_000_000}}, ("provider_invalid_response", 502, 1)),
        ],
    )
    async def test_a_fault_has_its_stated_outcome(
        self,
        provider: OpenAICompatible,
        scripted: ScriptedProvider,
        script: dict[str, Any],
        outcome: tuple[str, int, int],
    ) -> None:
        scripted.scripts["embedder"] = script

        with pytest.raises(ProviderFailed) as failed:
            await provider.embed(asked("a"))

        assert (failed.value.code, failed.value.status, len(scripted.calls)) == outcome

    async def test_a_server_that_is_away_is_unreachable(self) -> None:
        provider = OpenAICompatible("openai", "http://127.0.0.1:1/v1", None, patience=QUICK)

        with pytest.raises(ProviderFailed) as failed:
            await provider.embed(asked("a"))

        assert failed.value.code == "provider_unreachable"
        await provider.close()

    async def test_the_breaker_counts_and_stops(self, scripted: ScriptedProvider) -> None:
        scripted.scripts["embedder"] = {"status": 500}
        provider = OpenAICompatible(
            "openai",
            scripted.base_url,
            None,
            patience=Patience(retries=0),
            breaker=Breaker(failures_to_open=2),
        )
        codes: list[str] = []
        for _ in range(3):
            with pytest.raises(ProviderFailed) as failed:
                await provider.embed(asked("a"))
            codes.append(failed.value.code)

        assert codes == ["provider_error", "provider_error", "provider_unavailable"]
        assert len(scripted.calls) == 2
        await provider.close()

    async def test_after_its_end_it_is_not_asked(
        self, provider: OpenAICompatible, scripted: ScriptedProvider
    ) -> None:
        await provider.close()

        with pytest.raises(ProviderFailed) as failed:
            await provider.embed(asked("a"))

        assert failed.value.code == "provider_disconnected"
        assert not scripted.calls
