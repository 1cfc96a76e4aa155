"""Promises G-05, G-07 and G-29: answers survive their readers, and readers never see more than is
stored, to the byte."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.chance import say, seeded
from tests.kit.client import Client, Ending, EventStream, Reading, StreamBroken
from tests.kit.pair import Pair, pair_of_replicas, script
from tests.kit.waiting import until

pytestmark = pytest.mark.faults

RUNS = 6
_ODD = (
    "\U0001f9d1\u200d\U0001f680 \u2028\u0085\v\f\x1c\r\ufeff\u4f60\u597d\n\n"
    '"\\ {data: x}\r\n\u0301\xe9'
)


def odd_text(chance: random.Random, length: int) -> str:
    """Return text with everything that breaks naive readers of lines, bytes and characters."""
    alphabet = _ODD + "abc def "
    return "".join(chance.choice(alphabet) for _ in range(length)) + "."


@pytest.mark.xdist_group("pair")
async def test_an_answer_survives_readers_that_are_cut_at_any_byte(pair: Pair) -> None:
    chance = seeded()
    endings: list[Ending] = ["rst", "fin", "silence"]

    async def one_stream(client: Client, number: int) -> EventStream:
        text = odd_text(chance, 600)
        content = script(f"cut-{number}", text=text, chunks=30, pace_ms=15)
        conversation_id = await client.new_conversation(title="Cut")
        operation = await client.send(conversation_id, content, url=chance.choice(pair.urls))
        reading = Reading(operation.run_id)
        stream = await client.read_some(
            reading,
            url=chance.choice(pair.urls),
            stop_after_bytes=chance.randint(1, 700),
            ending=chance.choice(endings),
        )
        assert reading.run is None, "the stream ended before it could be cut"
        run = await client.end_of(operation.run_id)
        assert (run["status"], run["attempt"]) == ("completed", 1)
        assert (await client.message(run))["content"] == text
        assert len(pair.calls(content)) == 1
        return stream

    async with Client(pair.urls) as client:
        streams = await asyncio.gather(*(one_stream(client, number) for number in range(40)))
        for stream in streams:
            stream.cut("fin")
        await client.history.judge(pair.dsn)


@pytest.mark.xdist_group("pair")
async def test_a_run_goes_on_when_the_request_that_started_it_is_cut(pair: Pair) -> None:
    content = script("first-request", chunks=30, pace_ms=15)
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation(title="Cut")
        stream = await EventStream.open(
            pair.one.url,
            f"/conversations/{conversation_id}/runs",
            token=client.token,
            method="POST",
            json_body={"content": content},
        )
        assert stream.status == 200
        async for seen in stream.events():
            assert seen.event == "text"
            break
        stream.cut("rst")
        run_id = stream.headers["location"].rpartition("/")[2]
        assert (await client.end_of(run_id))["status"] == "completed"
    assert len(pair.calls(content)) == 1


@pytest.mark.xdist_group("pair")
async def test_text_is_exact_from_provider_to_store_to_client(pair: Pair) -> None:
    chance = seeded()

    async def one_text(client: Client, number: int) -> None:
        text = odd_text(chance, chance.randint(1, 200))
        content = script(f"exact-{number}", text=text, chunks=7, split_utf8=number % 2 == 0)
        conversation_id = await client.new_conversation(title="Exact")
        operation = await client.send(conversation_id, content, url=pair.urls[number % 2])
        reading = await client.read(operation.run_id)
        assert reading.text == text
        assert reading.run is not None
        assert (await client.message(reading.run))["content"] == text
        messages = await client.insist("GET", f"/conversations/{conversation_id}/messages")
        assert messages.json()[0]["content"] == content

    async with Client(pair.urls) as client:
        await asyncio.gather(*(one_text(client, number) for number in range(30)))
        await client.history.judge(pair.dsn)


@pytest.fixture(scope="module")
def mortals(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two replicas that are killed."""
    with pair_of_replicas(postgres.dsn, tmp_path_factory.mktemp("mortals")) as pair:
        yield pair


@pytest.mark.timeout(400)
@pytest.mark.xdist_group("deaths")
async def test_no_reader_has_seen_a_byte_that_the_store_lacks(mortals: Pair) -> None:
    chance = seeded()
    run_ids: list[str] = []
    seen_chars = 0
    async with Client(mortals.urls) as client:
        for round_number in range(6):
            conversations = [await client.new_conversation(title="Killed") for _ in range(RUNS)]
            readings: list[Reading] = []

            async def watch(conversation_id: str, readings: list[Reading]) -> None:
                content = script(f"killed-{new_id()}", chunks=300, pace_ms=8, repeat=20)
                operation = await client.send(
                    conversation_id, content, url=chance.choice(mortals.urls)
                )
                reading = Reading(operation.run_id)
                readings.append(reading)
                with suppress(StreamBroken):
                    await client.read_some(reading, url=chance.choice(mortals.urls))
                assert reading.run is None, "the run ended before it could be killed"

            watching = asyncio.gather(*(watch(each, readings) for each in conversations))
            await until(
                lambda readings=readings: sum(bool(each.text) for each in readings) == RUNS,
                "text in every reader's hands",
            )
            await asyncio.sleep(chance.uniform(0, 0.5))
            mortals.one.kill()
            mortals.two.kill()
            await watching
            await client.history.judge(mortals.dsn)
            seen_chars += sum(len(reading.text) for reading in readings)
            run_ids += [reading.run_id for reading in readings]
            await asyncio.gather(
                asyncio.to_thread(mortals.one.start), asyncio.to_thread(mortals.two.start)
            )
            say(f"round {round_number}: {seen_chars} characters were seen")
        for run_id in run_ids:
            await client.insist("POST", f"/runs/{run_id}/cancel")
        await client.history.judge(mortals.dsn)
    assert seen_chars > 0
