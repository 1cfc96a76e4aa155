"""The lists of models of a provider that is slow, silent, away or back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from tertulia.domain.errors import ModelNotFound
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.llm.patience import Patience

from .conftest import until

DEFAULT = "silent:one"


@dataclass
class Lister:
    """A provider that lists models, or takes the question and says nothing."""

    url: str = ""
    models: list[str] = field(default_factory=lambda: ["gpt-4o"])
    status: int = 200
    asked: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def list(self, _: web.Request) -> web.Response:
        self.asked += 1
        await self.may_answer.wait()
        data = [{"id": model} for model in self.models]
        return web.json_response({"data": data}, status=self.status)


@pytest.fixture
async def lister() -> AsyncIterator[Lister]:
    server = Lister()
    server.may_answer.set()
    app = web.Application()
    app.router.add_get("/models", server.list)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def open_catalog(lister: Lister) -> AsyncIterator[Callable[..., ModelCatalog]]:
    """Makes catalogs of one provider that listens, and one whose answer to everything is 404."""
    opened: list[ModelCatalog] = []

    def open_one(
        *, wait_s: float = 3.0, every_s: float = 30.0, retry_s: float = 10.0
    ) -> ModelCatalog:
        providers = {
            "openai": OpenAICompatible("openai", lister.url, None),
            "silent": OpenAICompatible("silent", f"{lister.url}/nothing", None),
        }
        catalog = ModelCatalog(
            providers,
            DEFAULT,
            list_wait_s=wait_s,
            list_every_s=every_s,
            list_retry_s=retry_s,
        )
        opened.append(catalog)
        return catalog

    yield open_one
    for catalog in opened:
        await catalog.close()


async def names(catalog: ModelCatalog) -> list[str]:
    return [info.name for info in await catalog.list()]


async def until_listed(catalog: ModelCatalog, wanted: list[str]) -> None:
    """Ask for the list until it is as wanted."""
    async with asyncio.timeout(5):
        while await names(catalog) != wanted:  # noqa: ASYNC110  each look makes it look again
            await asyncio.sleep(0.01)


async def test_a_provider_that_accepts_and_says_nothing_is_left_out_in_time(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    lister.may_answer.clear()
    catalog = open_catalog(wait_s=0.2)

    async with asyncio.timeout(10):
        assert await names(catalog) == [DEFAULT]


async def test_a_provider_gives_up_on_its_own_list_within_its_patience(lister: Lister) -> None:
    lister.may_answer.clear()
    provider = OpenAICompatible("openai", lister.url, None, patience=Patience(list_s=0.2))

    async with asyncio.timeout(10):
        with pytest.raises(Exception, match="provider_timeout"):
            await provider.models()
    await provider.close()


async def test_a_caller_that_leaves_does_not_undo_the_asking(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    lister.may_answer.clear()
    catalog = open_catalog()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await catalog.list()

    lister.may_answer.set()

    assert await names(catalog) == [DEFAULT, "openai:gpt-4o"]
    assert lister.asked == 1


async def test_callers_at_once_ask_once(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    catalog = open_catalog()

    await asyncio.gather(*(catalog.list() for _ in range(20)))

    assert lister.asked == 1


async def test_an_old_list_is_shown_while_a_new_one_is_asked_for(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    catalog = open_catalog(wait_s=60.0, every_s=0.0, retry_s=0.0)
    await catalog.list()
    lister.models.append("gpt-5")
    lister.may_answer.clear()

    async with asyncio.timeout(10):
        assert await names(catalog) == [DEFAULT, "openai:gpt-4o"]
    lister.may_answer.set()
    await until_listed(catalog, [DEFAULT, "openai:gpt-4o", "openai:gpt-5"])


async def test_it_is_asked_now_and_again_by_itself(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    catalog = open_catalog(every_s=0.01, retry_s=0.01)
    keeping = asyncio.ensure_future(catalog.keep_fresh())

    await until(lambda: lister.asked >= 3)

    keeping.cancel()


async def test_a_provider_that_falls_silent_is_left_out_until_it_speaks_again(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    catalog = open_catalog(every_s=0.0, retry_s=0.0)
    assert "openai:gpt-4o" in await names(catalog)

    lister.status = 500
    await until_listed(catalog, [DEFAULT])
    lister.status = 200
    await until_listed(catalog, [DEFAULT, "openai:gpt-4o"])


async def test_a_name_is_let_through_where_the_provider_has_not_been_heard(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    catalog = open_catalog()
    assert catalog.resolve("openai:deployment") == "openai:deployment"

    await catalog.wait_for_lists()

    assert catalog.resolve("silent:deployment") == "silent:deployment"
    with pytest.raises(ModelNotFound):
        catalog.resolve("openai:deployment")
    assert lister.asked == 1


async def test_an_empty_list_leaves_nothing_out(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    lister.models.clear()
    catalog = open_catalog()
    await catalog.wait_for_lists()

    assert catalog.resolve("openai:deployment") == "openai:deployment"


async def test_an_old_list_refuses_nothing_but_still_says_what_a_label_means(
    open_catalog: Callable[..., ModelCatalog],
) -> None:
    catalog = open_catalog(every_s=0.0)
    await catalog.wait_for_lists()
    await asyncio.sleep(0.01)

    assert catalog.resolve("openai:pulled-since") == "openai:pulled-since"
    assert catalog.resolve("gpt-3.5-turbo", strict=False) == DEFAULT
    assert catalog.resolve("gpt-4o", strict=False) == "openai:gpt-4o"


async def test_a_label_means_the_same_while_its_provider_is_away(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    catalog = open_catalog(every_s=0.0, retry_s=0.0)
    await catalog.wait_for_lists()
    lister.status = 500
    await until_listed(catalog, [DEFAULT])

    assert catalog.resolve("gpt-3.5-turbo", strict=False) == DEFAULT
    assert catalog.resolve("gpt-4o", strict=False) == "openai:gpt-4o"


async def test_what_is_known_of_a_listed_model_is_its_lists_word(
    lister: Lister, open_catalog: Callable[..., ModelCatalog]
) -> None:
    lister.models.append("")
    catalog = open_catalog()
    await catalog.wait_for_lists()

    assert catalog.info("openai:gpt-4o").is_default is False
    assert catalog.info(DEFAULT).is_default is True
