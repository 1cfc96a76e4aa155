"""A title for an untitled conversation: written once by the model, whoever dies meanwhile."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.client import Client
from tests.kit.pair import Pair, calls_of, script
from tests.kit.replica import Replica
from tests.kit.stage import fetch, fetch_number, model_env, scripted_provider
from tests.kit.waiting import until

pytestmark = pytest.mark.faults


async def title_of(client: Client, conversation_id: str) -> str | None:
    return (await client.insist("GET", f"/conversations/{conversation_id}")).json()["title"]


async def written_title(client: Client, conversation_id: str) -> str | None:
    async def is_written() -> bool:
        return await title_of(client, conversation_id) is not None

    await until(is_written, "a title")
    return await title_of(client, conversation_id)


def title_calls(provider_url: str, content: str) -> int:
    """Return how often the model was asked for a title of a conversation that began so."""
    return sum(
        call["messages"][0]["role"] == "system" and call["messages"][-1]["content"] == content
        for call in calls_of(provider_url)
    )


@pytest.mark.xdist_group("pair")
async def test_an_untitled_conversation_gets_the_title_that_the_model_suggests(pair: Pair) -> None:
    content = script("titled", text='"Bulls and **books**."\nThis is a title.')
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation()
        run_id = await client.start_run(conversation_id, content)
        assert (await client.end_of(run_id))["status"] == "completed"
        assert await written_title(client, conversation_id) == "Bulls and **books"
        assert title_calls(pair.provider_url, content) == 1
        await client.end_of(await client.start_run(conversation_id, "And then?"))
        jobs = "SELECT count(*) FROM jobs WHERE payload->>'conversation_id' = $1"
        assert await fetch_number(pair.dsn, jobs, conversation_id) == 0


@pytest.mark.xdist_group("pair")
async def test_a_title_of_the_users_own_is_left_alone(pair: Pair) -> None:
    content = script("own-title", text="Another title")
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation()
        slow = script("own-title-slow", text="Another title", first_byte_delay_ms=300)
        run_id = await client.start_run(conversation_id, slow)
        renamed = await client.insist(
            "PATCH", f"/conversations/{conversation_id}", json={"title": "Mine"}
        )
        assert renamed.status_code == 200
        await client.end_of(run_id)
        await client.end_of(await client.start_run(conversation_id, content))
        assert await title_of(client, conversation_id) == "Mine"
        assert title_calls(pair.provider_url, content) == 0


@pytest.mark.xdist_group("pair")
async def test_a_failed_or_cancelled_answer_gives_no_title(pair: Pair) -> None:
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation()
        run_id = await client.start_run(conversation_id, script("cut short", pace_ms=50))
        await client.cancel(run_id)
        jobs = "SELECT count(*) FROM jobs WHERE payload->>'conversation_id' = $1"
        assert await fetch_number(pair.dsn, jobs, conversation_id) == 0


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[str]:
    with scripted_provider(tmp_path / "calls") as base_url:
        yield base_url


@pytest.mark.xdist_group("crash points 0")
@pytest.mark.parametrize(("place", "calls"), [("title.suggested", 2), ("title.stored", 1)])
async def test_a_death_while_a_title_is_written_leaves_exactly_one(
    dsn: str, provider: str, tmp_path: Path, place: str, calls: int
) -> None:
    content = script("dying", text="A fine title")
    env = model_env(provider)
    replica = Replica(dsn, tmp_path / "one.log", env={**env, "TERTULIA_CRASH_AT": place})
    with replica.start():
        async with Client([replica.url]) as client:
            conversation_id = await client.new_conversation()
            # It may die before anybody could ask how the run ended.
            await client.start_run(conversation_id, content)
            await until(lambda: replica.process.poll() is not None, f"a death at {place}")
    # The minute passes for which a dead worker holds its job.
    assert await fetch(dsn, "UPDATE jobs SET due_at = now() RETURNING id")
    with Replica(dsn, tmp_path / "two.log", env=env) as survivor:
        client.urls = [survivor.url]

        async def is_done() -> bool:
            return await fetch_number(dsn, "SELECT count(*) FROM jobs") == 0

        await until(is_done, "the job to be done")
        ((title,),) = await fetch(dsn, "SELECT title FROM conversations")
        assert title == "A fine title"
        await asyncio.sleep(0)
    assert title_calls(provider, content) == calls
