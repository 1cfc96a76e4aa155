"""Promises G-05, G-07 and G-29: answers survive their readers, and readers never see more than is
stored, to the byte."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import get_args

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.chance import say, seeded
from tests.kit.client import Client, Ending, EventStream, Reading, StreamBroken
from tests.kit.crowd import crowd, spread
from tests.kit.pair import Pair, asked, calls_of, pair_of_replicas, script
from tests.kit.size import sized
from tests.kit.waiting import until
from tests.kit.web_socket import connected

pytestmark = pytest.mark.faults

STREAMS = sized(40, full=500)
TEXTS = sized(30, full=1_000)
BYTEWISE_EVERY = sized(2, full=1)
"""Of so many texts one comes from the provider byte by byte."""
CLOCKS = sized(4, full=40)
SHOWN_S = sized(5.0, full=0.06)
"""Half of all tokens sooner. The suite may share its machine, and only looks for the absurd."""
BLOCKS, DEATHS = sized(1, full=10), sized(6, full=20)
RUNS = 6
AT_ONCE = 40
ENDINGS: tuple[Ending, ...] = get_args(Ending)
_ODD = (
    "\U0001f9d1\u200d\U0001f680 \u2028\u0085\v\f\x1c\r\ufeff\u4f60\u597d\n\n"
    '"\\ {data: x}\r\n\u0301\xe9'
)


def odd_text(chance: random.Random, length: int) -> str:
    """Return text with everything that breaks naive readers of lines, bytes and characters."""
    alphabet = _ODD + "abc def "
    return "".join(_character(chance, alphabet) for _ in range(length)) + "."


def _character(chance: random.Random, alphabet: str) -> str:
    if chance.random() < 0.8:
        return chance.choice(alphabet)
    # Any other of one, two, three or four bytes, but NUL and surrogates, which are no text.
    low, high = chance.choice([(1, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0x10000, 0x10FFFF)])
    return chr(chance.randint(low, high))


@pytest.mark.xdist_group("pair")
async def test_an_answer_survives_readers_that_are_cut_at_any_byte(pair: Pair) -> None:
    chance = seeded()
    contents: list[str] = []

    async def one_stream(client: Client, number: int) -> None:
        text = odd_text(chance, 600)
        content = script(f"cut-{number}", text=text, chunks=30, pace_ms=15)
        contents.append(content)
        conversation_id = await client.new_conversation(title="Cut")
        operation = await client.send(conversation_id, content, url=chance.choice(pair.urls))
        reading = Reading(operation.run_id)
        stream = await client.read_some(
            reading,
            url=chance.choice(pair.urls),
            stop_after_bytes=chance.randint(1, 700),
            ending=ENDINGS[number % len(ENDINGS)],
        )
        assert reading.run is None, "the stream ended before it could be cut"
        run = await client.end_of(operation.run_id)
        assert (run["status"], run["attempt"]) == ("completed", 1)
        assert (await client.message(run))["content"] == text
        stream.cut("fin")

    async with Client(pair.urls) as client:
        await crowd(lambda number: one_stream(client, number), count=STREAMS, at_once=AT_ONCE)
        await client.history.judge(pair.dsn)
    asked_of = Counter(asked(call) for call in calls_of(pair.provider_url))
    assert {asked_of[content] for content in contents} == {1}
    say(f"{STREAMS} streams cut; {STREAMS} answers completed, exact, with one call each")


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
        content = script(
            f"exact-{number}", text=text, chunks=7, split_utf8=number % BYTEWISE_EVERY == 0
        )
        conversation_id = await client.new_conversation(title="Exact")
        operation = await client.send(conversation_id, content, url=pair.urls[number % 2])
        reading = await client.read(operation.run_id)
        assert reading.text == text
        assert reading.run is not None
        assert (await client.message(reading.run))["content"] == text
        messages = await client.insist("GET", f"/conversations/{conversation_id}/messages")
        assert messages.json()[0]["content"] == content

    async with Client(pair.urls) as client:
        await crowd(lambda number: one_text(client, number), count=TEXTS, at_once=AT_ONCE)
        await client.history.judge(pair.dsn)
    say(f"{TEXTS} texts, each the same at the provider, in the store and at the client")


@pytest.mark.xdist_group("pair")
async def test_a_token_is_shown_soon_although_it_is_stored_first(pair: Pair) -> None:
    waits_s: list[float] = []

    async def one_run(client: Client, number: int) -> None:
        content = script(f"clock-{number}", clock=True, pace_ms=50)
        conversation_id = await client.new_conversation(title="Clock")
        operation = await client.send(conversation_id, content, url=pair.urls[number % 2])
        stream = await client.follow(operation.run_id, url=pair.one.url)
        async for seen in stream.events():
            if seen.event == "text":
                said = seen.fields["delta"].split()
                waits_s.extend(time.time() - float(moment) for moment in said)
        stream.cut("fin")

    async with Client(pair.urls) as client:
        await crowd(lambda number: one_run(client, number), count=CLOCKS, at_once=4)
        await client.history.judge(pair.dsn)
    say(f"{len(waits_s)} tokens were shown after: {spread(waits_s)}")
    assert median(waits_s) <= SHOWN_S


@pytest.fixture(scope="module")
def mortals(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two replicas that are killed."""
    with pair_of_replicas(postgres.dsn, tmp_path_factory.mktemp("mortals")) as pair:
        yield pair


@pytest.mark.timeout(sized(400, full=7_200))
@pytest.mark.xdist_group("deaths")
async def test_no_reader_has_seen_a_byte_that_the_store_lacks(mortals: Pair) -> None:
    chance = seeded()
    seen_chars = 0
    for _ in range(BLOCKS):
        # A token does not last for hours.
        async with Client(mortals.urls) as client:
            seen_chars += await die_again_and_again(mortals, client, chance)
    assert seen_chars > 0
    deaths = BLOCKS * DEATHS
    say(f"{deaths} deaths of all, {deaths * RUNS} readers, {seen_chars} characters seen and stored")


async def die_again_and_again(pair: Pair, client: Client, chance: random.Random) -> int:
    """Kill everything in the midst of many answers; return how much was seen of them."""
    seen_chars = 0
    former = Reign(client)
    for _ in range(DEATHS):
        reign = Reign(Client.known(client, pair.urls))
        async with asyncio.TaskGroup() as watching:
            for _ in range(RUNS):
                watching.create_task(reign.watch(pair, chance))
            await until(reign.has_begun, "text in every reader's hands", within_s=30)
            await asyncio.sleep(chance.uniform(0, 0.5))
            pair.one.kill()
            pair.two.kill()
        await reign.client.history.judge(pair.dsn)
        seen_chars += sum(len(reading.text) for reading in reign.readings)
        await asyncio.gather(*(asyncio.to_thread(each.start) for each in (pair.one, pair.two)))
        # Its runs have seen this death too, as runs that were being taken over.
        await former.end(pair)
        former = reign
    await former.end(pair)
    return seen_chars


@dataclass
class Reign:
    """What is read between the start of all replicas and their death."""

    client: Client
    readings: list[Reading] = field(default_factory=list[Reading])

    def has_begun(self) -> bool:
        return sum(bool(reading.text) for reading in self.readings) == RUNS

    async def watch(self, pair: Pair, chance: random.Random) -> None:
        """Have a long answer written and read it, as events or over a socket, to the bitter end."""
        client = self.client
        conversation_id = await client.new_conversation(title="Killed")
        content = script(f"killed-{new_id()}", chunks=900, pace_ms=8, repeat=20)
        operation = await client.send(conversation_id, content, url=chance.choice(pair.urls))
        reading, url = Reading(operation.run_id), chance.choice(pair.urls)
        self.readings.append(reading)
        with suppress(StreamBroken):
            if len(self.readings) % 2:
                await client.read_some(reading, url=url)
            else:
                async with connected(url, client.token) as socket:
                    await socket.read(reading, client=client)
        assert reading.run is None, "the run ended before it could be killed"

    async def end(self, pair: Pair) -> None:
        """Stop its runs; what was seen of them is stored all the same."""
        for reading in self.readings:
            await self.client.insist("POST", f"/runs/{reading.run_id}/cancel")
        await self.client.history.judge(pair.dsn)
        if self.readings:
            await self.client.client.aclose()
