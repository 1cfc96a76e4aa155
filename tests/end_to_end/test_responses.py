"""Promise G-41: OpenAI's surface keeps its contract across replicas, and when one of them dies."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIError, AsyncOpenAI

from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.chance import say, seeded
from tests.kit.pair import Pair, script, start_all
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fresh_database, model_env, scripted_provider
from tests.kit.waiting import until

MODEL = "openai:scripted"
RUNS = sized(8, full=200)
RESUMES = sized(4, full=20)  # of each
GOES_ON_S = 60.0


@dataclass
class Reading:
    """A stream, and what came of it before it broke off."""

    events: list[Any]
    is_whole: bool = False


def sdk_of(person: Person, url: str) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=f"{url}/v1",
        api_key=person.token,
        max_retries=0,
        _strict_response_validation=True,
    )


async def read(sdk: AsyncOpenAI, name: str, *, after: int | None, at_most: int) -> Reading:
    """Read a response's stream until it ends, breaks off, or has said so much."""
    retrieve: Any = sdk.responses.retrieve
    asked: dict[str, Any] = {} if after is None else {"starting_after": after}
    found: list[Any] = []
    stream = await retrieve(name, stream=True, **asked)
    try:
        async for event in stream:
            found.append(event.model_dump())
            if event.type in ("response.completed", "response.failed", "response.incomplete"):
                return Reading(found, is_whole=True)
            if len(found) >= at_most:
                break
    finally:
        await stream.close()
    return Reading(found)


@pytest.mark.xdist_group("pair")
async def test_a_response_is_read_on_at_any_replica_from_any_number(pair: Pair) -> None:
    chance = seeded()
    resumes = 0
    async with AsyncExitStack() as stack:
        person = await stack.enter_async_context(Person(pair.urls))
        sdks = [await stack.enter_async_context(sdk_of(person, url)) for url in pair.urls]

        async def one(number: int) -> None:
            nonlocal resumes
            asked = script(f"r{number}", pace_ms=chance.choice([0, 5, 20]), reasoning="Let me see")
            made = await chance.choice(sdks).responses.create(
                model=MODEL, input=asked, background=True
            )
            seen: list[Any] = []
            for _ in range(RESUMES):
                after = seen[-1]["sequence_number"] if seen else None
                at_most = chance.randint(1, 25)
                part = await read(chance.choice(sdks), made.id, after=after, at_most=at_most)
                seen += part.events
                resumes += 1
                if part.is_whole:
                    break
            last = seen[-1]["sequence_number"]
            rest = await read(chance.choice(sdks), made.id, after=last, at_most=10_000)
            whole = await read(chance.choice(sdks), made.id, after=None, at_most=10_000)
            assert [*seen, *rest.events] == whole.events
            numbers = [event["sequence_number"] for event in whole.events]
            assert numbers == list(range(len(numbers)))
            response = (await chance.choice(sdks).responses.retrieve(made.id)).model_dump()
            assert whole.events[-1]["response"] == response

        await asyncio.gather(*(one(number) for number in range(RUNS)))
    say(f"G-41: {RUNS} background responses, {resumes + RUNS} resumes on either replica: exact")


@pytest.fixture
def dying(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, tmp_path: Path
) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas, of which one may be killed; the parameter says how their model continues."""
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(tmp_path / "calls") as provider_url,
    ):
        env = model_env(provider_url, TERTULIA_OPENAI_CONTINUATION=request.param)
        one = Replica(dsn, tmp_path / "one.log", env=env)
        two = Replica(dsn, tmp_path / "two.log", env=env)
        with start_all(one, two):
            yield one, two


@pytest.mark.faults
@pytest.mark.xdist_group("deaths")
@pytest.mark.parametrize("dying", ["none", "vllm"], indirect=True)
async def test_a_background_response_survives_the_death_of_its_replica(
    dying: tuple[Replica, Replica],
) -> None:
    one, two = dying
    async with AsyncExitStack() as stack:
        person = await stack.enter_async_context(Person([one.url]))
        first = await stack.enter_async_context(sdk_of(person, one.url))
        second = await stack.enter_async_context(sdk_of(person, two.url))
        asked = script("dies", pace_ms=120)
        made = await first.responses.create(model=MODEL, input=asked, background=True)
        begun = await read(first, made.id, after=None, at_most=12)
        beside = asyncio.ensure_future(read(second, made.id, after=None, at_most=10_000))
        one.kill()

        after = begun.events[-1]["sequence_number"]
        rest = await read(second, made.id, after=after, at_most=10_000)

        assert rest.events[-1]["type"] == "response.completed"
        assert (await second.responses.retrieve(made.id)).output_text == DEFAULT_TEXT
        together = [*begun.events, *rest.events]
        numbers = [event["sequence_number"] for event in together]
        assert numbers == sorted(set(numbers))
        assert (await beside).events == together
        later = (await read(second, made.id, after=None, at_most=10_000)).events
        # What came before a restart is forgotten; all else is as it was.
        assert later == [event for event in together if event in later]
        assert "".join(each.get("delta", "") for each in later) == DEFAULT_TEXT


@pytest.mark.faults
@pytest.mark.xdist_group("deaths")
@pytest.mark.parametrize("dying", ["vllm"], indirect=True)
async def test_a_stream_breaks_off_with_its_replica_and_its_response_is_finished_by_another(
    dying: tuple[Replica, Replica],
) -> None:
    one, two = dying
    async with AsyncExitStack() as stack:
        person = await stack.enter_async_context(Person([one.url]))
        first = await stack.enter_async_context(sdk_of(person, one.url))
        second = await stack.enter_async_context(sdk_of(person, two.url))
        create: Any = first.responses.create
        stream = await create(model=MODEL, input=script("dies", pace_ms=120), stream=True)
        event = await anext(aiter(stream))
        one.kill()
        with pytest.raises((APIError, httpx2.HTTPError)):
            async for _ in stream:
                pass

        async def is_finished() -> bool:
            return (await second.responses.retrieve(event.response.id)).status == "completed"

        await until(is_finished, "the other replica to finish it", within_s=GOES_ON_S)
        found = await second.responses.retrieve(event.response.id)
        assert found.output_text == DEFAULT_TEXT
