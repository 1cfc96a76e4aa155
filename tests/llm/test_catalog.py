from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from tertulia.domain.errors import ModelNotFound
from tertulia.domain.models import Delta, Finish, ProviderFailed, TextDelta, ToolCall
from tertulia.llm.catalog import ModelCatalog
from tertulia.llm.openai_compatible import OpenAICompatible
from tertulia.llm.others import OtherProvider
from tertulia.llm.patience import Patience
from tests.kit.scripted_provider import ScriptedProvider

from .conftest import ask, text_in, until

QUICK = Patience(connect_s=0.5, first_byte_s=0.5, stall_s=0.5, closing_s=0.1, retries=0)


@pytest.fixture
async def catalog(scripted: ScriptedProvider) -> AsyncIterator[ModelCatalog]:
    """Two providers at one server, and one that cannot be reached."""
    catalog = ModelCatalog(
        {
            "openai": OpenAICompatible("openai", scripted.base_url, None, patience=QUICK),
            "vllm": OpenAICompatible(
                "vllm", scripted.base_url, None, patience=QUICK, continuation="vllm"
            ),
            "away": OpenAICompatible("away", "http://127.0.0.1:1/v1", None, patience=QUICK),
        },
        default="vllm:scripted",
    )
    yield catalog
    await catalog.close()


async def answer(catalog: ModelCatalog, **script: Any) -> list[Delta]:  # noqa: ANN401  fields of a script
    return [delta async for delta in catalog.stream(ask(**script))]


class TestResolve:
    def test_no_name_is_the_default(self, catalog: ModelCatalog) -> None:
        assert catalog.resolve(None) == "vllm:scripted"

    def test_a_full_name_of_a_configured_provider_is_itself(self, catalog: ModelCatalog) -> None:
        assert catalog.resolve("openai:ft:gpt-4o:me") == "openai:ft:gpt-4o:me"

    def test_a_bare_name_is_openais(self, catalog: ModelCatalog) -> None:
        assert catalog.resolve("gpt-4o") == "openai:gpt-4o"

    @pytest.mark.parametrize(
        "name",
        [
            *("ghost:model", "openai:", ":", "", "x" * 300, "openai:" + "x" * 200),
            *("openai:a b", "openai:scripted\n", "openai:scripted ", "gpt\t4", "openai:a\x1b[0m"),
            *("openai:a\u2028b", "openai:a\u202eb", "openai:\ud800", "openai:a\0", "gpt\u00a04"),
        ],
    )
    def test_any_other_name_is_not_found(self, catalog: ModelCatalog, name: str) -> None:
        with pytest.raises(ModelNotFound) as missing:
            catalog.resolve(name)

        assert missing.value.field == "body.model_type"

    @pytest.mark.parametrize("name", ["openai:o1-pro", "openai:../../x", "o1-pro"])
    async def test_a_name_that_its_provider_does_not_list_is_not_found(
        self, catalog: ModelCatalog, name: str
    ) -> None:
        await catalog.wait_for_lists()

        with pytest.raises(ModelNotFound):
            catalog.resolve(name)
        assert catalog.resolve("openai:scripted") == "openai:scripted"
        assert catalog.resolve("scripted") == "openai:scripted"

    async def test_a_provider_that_cannot_list_may_have_any_model(
        self, catalog: ModelCatalog
    ) -> None:
        await catalog.wait_for_lists()

        assert catalog.resolve("away:anything") == "away:anything"

    async def test_a_default_that_is_not_listed_can_be_named(
        self, scripted: ScriptedProvider
    ) -> None:
        provider = OpenAICompatible("openai", scripted.base_url, None)
        catalog = ModelCatalog({"openai": provider}, default="openai:My Models/a.gguf")
        await catalog.wait_for_lists()

        assert catalog.resolve("openai:My Models/a.gguf") == "openai:My Models/a.gguf"
        await catalog.close()

    async def test_a_full_label_means_no_other_model(self, catalog: ModelCatalog) -> None:
        assert catalog.resolve("openai:my-alias", strict=False) == "openai:my-alias"

        await catalog.list()

        assert catalog.resolve("openai:my-alias", strict=False) == "openai:my-alias"

    @pytest.mark.parametrize("label", ["ghost:model", "openai:a b", "openai:"])
    async def test_a_full_label_that_nobody_can_be_asked_for_means_the_default(
        self, catalog: ModelCatalog, label: str
    ) -> None:
        assert catalog.resolve(label, strict=False) == "vllm:scripted"

    @pytest.mark.parametrize("label", ["gpt-3.5-turbo", "my favourite", "x" * 300, ""])
    async def test_a_bare_label_that_is_no_model_of_openais_means_the_default(
        self, catalog: ModelCatalog, label: str
    ) -> None:
        await catalog.wait_for_lists()

        assert catalog.resolve(label, strict=False) == "vllm:scripted"
        assert catalog.resolve("scripted", strict=False) == "openai:scripted"

    def test_a_bare_name_without_the_provider_openai_is_not_found(self) -> None:
        local = OpenAICompatible("vllm", "http://127.0.0.1:1", None)
        catalog = ModelCatalog({"vllm": local}, default="vllm:m")

        with pytest.raises(ModelNotFound):
            catalog.resolve("gpt-4o")
        assert catalog.resolve("gpt-3.5-turbo", strict=False) == "vllm:m"

    def test_a_default_that_does_not_exist_is_refused_at_the_start(self) -> None:
        with pytest.raises(ValueError, match="ghost:model"):
            ModelCatalog({}, default="ghost:model")


class TestList:
    async def test_the_default_is_first_and_the_unreachable_are_left_out(
        self, catalog: ModelCatalog
    ) -> None:
        listed = await catalog.list()

        assert [(info.name, info.is_default) for info in listed] == [
            ("vllm:scripted", True),
            ("openai:scripted", False),
        ]

    async def test_it_is_kept_for_a_while(
        self, catalog: ModelCatalog, scripted: ScriptedProvider
    ) -> None:
        first = await catalog.list()
        scripted.scripts["new-model"] = {}

        assert await catalog.list() == first

    async def test_a_default_that_is_not_listed_is_listed_all_the_same(
        self, scripted: ScriptedProvider
    ) -> None:
        provider = OpenAICompatible("openai", scripted.base_url, None)
        catalog = ModelCatalog({"openai": provider}, default="openai:hidden")

        listed = await catalog.list()

        await catalog.close()
        assert [info.name for info in listed] == ["openai:hidden", "openai:scripted"]


class TestOffered:
    @pytest.fixture
    async def offering(self, scripted: ScriptedProvider) -> AsyncIterator[ModelCatalog]:
        catalog = ModelCatalog(
            {"openai": OpenAICompatible("openai", scripted.base_url, None, patience=QUICK)},
            default="openai:scripted",
            offered=["openai:deployment", "openai:scripted"],
        )
        yield catalog
        await catalog.close()

    async def test_just_what_the_operator_named_is_listed(self, offering: ModelCatalog) -> None:
        listed = await offering.list()

        assert [(info.name, info.is_default) for info in listed] == [
            ("openai:scripted", True),
            ("openai:deployment", False),
        ]

    @pytest.mark.parametrize("is_heard", [False, True])
    async def test_nothing_else_can_be_asked_for_whoever_asks(
        self, offering: ModelCatalog, is_heard: bool
    ) -> None:
        if is_heard:
            await offering.wait_for_lists()

        assert offering.resolve("openai:deployment") == "openai:deployment"
        assert offering.resolve("deployment", strict=False) == "openai:deployment"
        assert offering.resolve("gpt-3.5-turbo", strict=False) == "openai:scripted"
        assert offering.resolve("openai:o1-pro", strict=False) == "openai:scripted"
        with pytest.raises(ModelNotFound):
            offering.resolve("openai:o1-pro")
        with pytest.raises(ModelNotFound):
            await anext(offering.stream(ask(model="openai:o1-pro")))

    def test_a_model_that_nobody_provides_cannot_be_offered(self) -> None:
        provider = OpenAICompatible("openai", "http://127.0.0.1:1", None)

        with pytest.raises(ValueError, match="ghost:model"):
            ModelCatalog({"openai": provider}, "openai:m", offered=["openai:m", "ghost:model"])

    def test_a_default_that_is_not_offered_is_refused_at_the_start(self) -> None:
        provider = OpenAICompatible("openai", "http://127.0.0.1:1", None)

        with pytest.raises(ValueError, match="openai:dear"):
            ModelCatalog({"openai": provider}, "openai:dear", offered=["openai:m"])


class TestInfo:
    def test_what_a_model_can_do_is_known_without_asking(self, catalog: ModelCatalog) -> None:
        info = catalog.info("vllm:scripted")

        assert (info.provider, info.is_default, info.continues_prefix) == ("vllm", True, True)
        assert catalog.continues_prefix("vllm:scripted")
        assert not catalog.continues_prefix("openai:scripted")
        assert not catalog.continues_prefix("ghost:model")

    def test_an_unknown_provider_is_not_found(self, catalog: ModelCatalog) -> None:
        with pytest.raises(ModelNotFound):
            catalog.info("ghost:model")


class TestStream:
    async def test_an_answer_ends_once_with_finish(self, catalog: ModelCatalog) -> None:
        deltas = await answer(catalog, text="Hello there")

        assert text_in(deltas) == "Hello there"
        assert [isinstance(delta, Finish) for delta in deltas].count(True) == 1

    async def test_a_known_price_is_added(self, scripted: ScriptedProvider) -> None:
        class Priced(OpenAICompatible):
            """The scripted server, as if it stood at a service with public prices."""

            def cost_usd(self, model: str, usage: object) -> Decimal:  # noqa: ARG002
                return Decimal("0.25")

        catalog = ModelCatalog(
            {"openai": Priced("openai", scripted.base_url, None)}, default="openai:scripted"
        )

        deltas = await answer(catalog, text="Hi")

        await catalog.close()
        assert isinstance(deltas[-1], Finish)
        assert deltas[-1].usage.cost_usd == Decimal("0.25")
        assert deltas[-1].usage.total_tokens == 13

    async def test_an_endless_answer_is_cut_and_its_provider_stopped(
        self, catalog: ModelCatalog, scripted: ScriptedProvider
    ) -> None:
        catalog.max_answer_chars = 1000

        deltas = await answer(catalog, endless=True, text="word ", pace_ms=1)

        assert len(text_in(deltas)) == 1000
        assert isinstance(deltas[-1], Finish)
        assert deltas[-1].reason == "length"
        await until(lambda: scripted.calls[0].disconnected)

    async def test_an_answer_of_just_the_limit_is_whole(self, catalog: ModelCatalog) -> None:
        catalog.max_answer_chars = 10

        deltas = await answer(catalog, text="0123456789")

        assert deltas[0] == TextDelta("0123456789")
        assert isinstance(deltas[-1], Finish)
        assert deltas[-1].reason == "stop"

    async def test_a_tool_call_beyond_the_limit_is_left_out(self, catalog: ModelCatalog) -> None:
        catalog.max_answer_chars = 10

        deltas = await answer(catalog, tool_calls=[{"name": "f", "arguments": "x" * 50}])

        assert not any(isinstance(delta, ToolCall) for delta in deltas)
        assert isinstance(deltas[-1], Finish)

    async def test_closing_it_stops_the_provider(
        self, catalog: ModelCatalog, scripted: ScriptedProvider
    ) -> None:
        deltas = catalog.stream(ask(endless=True, pace_ms=5))
        await anext(deltas)

        await deltas.aclose()

        await until(lambda: scripted.calls[0].disconnected)

    async def test_a_failure_keeps_its_code(self, catalog: ModelCatalog) -> None:
        with pytest.raises(ProviderFailed) as failed:
            await answer(catalog, status=401)

        assert failed.value.code == "provider_unauthorized"

    async def test_an_unknown_model_is_not_found(self, catalog: ModelCatalog) -> None:
        with pytest.raises(ModelNotFound):
            await anext(catalog.stream(ask(model="ghost:model")))


def test_a_provider_that_pydantic_ai_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="none of"):
        OtherProvider("acme", {})
