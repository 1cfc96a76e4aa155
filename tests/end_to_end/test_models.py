"""Which models a server offers, where its provider is mute, and where the operator has chosen."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.person import Person
from tests.kit.replica import Replica
from tests.kit.stage import MODEL, fresh_database, model_env, scripted_provider

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("models")]

Start = Callable[..., str]


@pytest.fixture
def start(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Start]:
    """Starts a replica whose models are at the given address, and returns its own."""
    with ExitStack() as stack:

        def start_one(base_url: str, **env: str) -> str:
            dsn = stack.enter_context(fresh_database(postgres.dsn))
            replica = Replica(dsn, tmp_path / "replica.log", env=model_env(base_url, **env))
            return stack.enter_context(replica).url

        yield start_one


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[str]:
    with scripted_provider(tmp_path / "calls.jsonl") as base_url:
        yield base_url


async def refusal(ana: Person, **fields: str) -> tuple[int, str]:
    conversation = await ana.new_conversation()
    refused = await ana.call(
        "POST", f"/conversations/{conversation}/runs", json={"content": "x", **fields}
    )
    return refused.status_code, refused.json().get("code", "")


async def test_a_mute_provider_keeps_nobody_from_the_list(start: Start) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    url = await asyncio.to_thread(start, f"http://127.0.0.1:{port}/v1")
    async with Person([url]) as ana:
        listed = await ana.call("GET", "/models")

    assert listed.status_code == 200
    assert [info["name"] for info in listed.json()] == [MODEL]
    mute.close()


async def test_a_model_that_is_not_listed_is_refused_before_anybody_has_listed(
    start: Start, scripted: str
) -> None:
    async with Person([await asyncio.to_thread(start, scripted)]) as ana:
        for name in ("openai:o1-pro", "gpt-4", "openai:scripted ", "openai:../../x"):
            assert await refusal(ana, model_type=name) == (422, "model_not_found")
        assert await refusal(ana, model_type=MODEL) == (202, "")


async def test_a_conversations_full_name_is_asked_for_and_its_bare_label_may_be_the_default(
    start: Start, scripted: str
) -> None:
    async with Person([await asyncio.to_thread(start, scripted)]) as ana:
        asked: list[str] = []
        for label in ("openai:alias", "gpt-3.5-turbo"):
            conversation = await ana.new_conversation(model_type=label)
            run = await ana.end_of(await ana.start_run(conversation, "Hello"))
            asked.append(run["model_type"])

    assert asked == ["openai:alias", MODEL]


async def test_only_what_the_operator_named_is_on_offer(start: Start, scripted: str) -> None:
    url = await asyncio.to_thread(start, scripted, TERTULIA_MODELS=f"openai:alias, {MODEL}")
    async with Person([url]) as ana:
        listed = (await ana.call("GET", "/models")).json()
        alias = await ana.new_conversation(model_type="openai:alias")
        run = await ana.end_of(await ana.start_run(alias, "Hello"))
        dear = await ana.new_conversation(model_type="openai:o1-pro")
        instead = await ana.end_of(await ana.start_run(dear, "Hello"))

        assert await refusal(ana, model_type="openai:o1-pro") == (422, "model_not_found")
    assert [info["name"] for info in listed] == [MODEL, "openai:alias"]
    assert run["model_type"] == "openai:alias"
    assert instead["model_type"] == MODEL
