"""Promises G-08 to G-10: another replica finishes the answer of one that died or froze."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.chance import say, seeded
from tests.kit.client import Client, Reading, StreamBroken
from tests.kit.crowd import spread
from tests.kit.pair import Pair, pair_of_replicas, script
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fetch
from tests.kit.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("deaths")]

GOES_ON_S = sized(30.0, full=15.0)
GOES_ON_MEDIAN_S = sized(20.0, full=10.0)
ROUNDS = sized(1, full=10)
FREEZES = sized(3, full=5)
"""Of each pair; what is counted are the runs that were held."""
FROZEN_RUNS = sized(4, full=10)
FROZEN_S = sized(8.0, full=60.0)
PAUSE_MS = sized(2_500, full=4_000)
"""Of a model that is about to say something: time to be killed in."""
WORDS = DEFAULT_TEXT.split(" ")
SLOW = {"pace_ms": 60}


@pytest.fixture(scope="module")
def continuing(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Replicas whose model goes on from the beginning of an answer."""
    directory = tmp_path_factory.mktemp("continuing")
    with pair_of_replicas(
        postgres.dsn, directory, TERTULIA_OPENAI_CONTINUATION="vllm", TERTULIA_RUN_ATTEMPTS="2"
    ) as pair:
        yield pair


@pytest.fixture(scope="module")
def restarting(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Replicas whose model starts an interrupted answer again."""
    directory = tmp_path_factory.mktemp("restarting")
    with pair_of_replicas(postgres.dsn, directory, TERTULIA_RUN_ATTEMPTS="9") as pair:
        yield pair


@dataclass
class Followed:
    """A run, somebody who reads it on the survivor, and when they read what."""

    content: str
    reading: Reading
    reads: "asyncio.Task[None]"
    silence_s: float
    """How long its model is silent before it says anything."""

    @property
    def words(self) -> int:
        return len(self.reading.text.split(" ")) if self.reading.text else 0

    @property
    def run(self) -> dict[str, Any]:
        assert self.reading.run is not None
        return self.reading.run


async def start_followed(
    client: Client,
    *,
    owner: Replica,
    survivor: Replica,
    first_byte_delay_ms: int = 0,
    **fields: object,
) -> Followed:
    conversation_id = await client.new_conversation(title="Taken over")
    content = script(f"takeover-{new_id()}", first_byte_delay_ms=first_byte_delay_ms, **fields)
    operation = await client.send(conversation_id, content, url=owner.url)
    reading = Reading(operation.run_id)

    async def read() -> None:
        await client.read_some(reading, url=survivor.url)

    return Followed(content, reading, asyncio.ensure_future(read()), first_byte_delay_ms / 1000)


async def four_moments(client: Client, pair: Pair) -> list[Followed]:
    """Let replica one be about to say the first token, the second, the k-th, and the end."""
    spots: list[dict[str, Any]] = [
        {"first_byte_delay_ms": PAUSE_MS},
        {"pace_ms": PAUSE_MS, "text": "one two three"},
        {"pace_ms": PAUSE_MS // 50},
        {"usage": None, "no_done": True, "linger": True},
    ]
    runs = await asyncio.gather(
        *(start_followed(client, owner=pair.one, survivor=pair.two, **fields) for fields in spots)
    )
    await until(
        lambda: runs[1].words > 0 and runs[2].words >= 8 and runs[3].words == len(WORDS),
        "the four moments",
    )
    assert (runs[0].words, runs[1].words) == (0, 1), "the kill comes too late"
    assert runs[2].words < len(WORDS), "the kill comes too late"
    assert runs[3].reading.run is None, "the kill comes too late"
    return runs


async def seconds_to_go_on(runs: list[Followed]) -> list[float]:
    """Return how long it took until each run went on, but for what its model waited by itself."""

    async def one(run: Followed) -> float:
        before = len(run.reading.events)
        waited_s = await until(
            lambda: len(run.reading.events) > before,
            "a run to go on",
            within_s=GOES_ON_S + run.silence_s,
        )
        return max(0.0, waited_s - run.silence_s)

    return await asyncio.gather(*(one(run) for run in runs))


def say_how_soon(waits_s: list[float]) -> None:
    say(f"{len(waits_s)} runs went on after: {spread(waits_s)}")
    assert median(waits_s) <= GOES_ON_MEDIAN_S


async def test_the_survivor_continues_from_the_stored_text(continuing: Pair) -> None:
    waits_s: list[float] = []
    for _ in range(ROUNDS):
        async with Client(continuing.urls) as client:
            runs = await four_moments(client, continuing)
            said = [run.reading.text for run in runs]
            continuing.one.kill()
            waits_s += await seconds_to_go_on(runs)
            await asyncio.gather(*(run.reads for run in runs))
            for run, before in zip(runs, said, strict=True):
                assert (run.run["status"], run.run["attempt"]) == ("completed", 2), run.run
                assert "restart" not in {seen.event for seen in run.reading.events}
                calls = continuing.calls(run.content)
                assert len(calls) == 2, "one call, and one that goes on"
                told = calls[1]["messages"][-1]
                if before:
                    assert told["role"] == "assistant"
                    assert run.reading.text.startswith(told["content"])
                    assert len(told["content"]) >= len(before.rstrip())
            await assert_whole_and_served(client, continuing, runs)
            await asyncio.to_thread(continuing.one.start)
    say_how_soon(waits_s)


async def test_the_survivor_says_that_it_starts_again(restarting: Pair) -> None:
    waits_s: list[float] = []
    for _ in range(ROUNDS):
        async with Client(restarting.urls) as client:
            runs = await four_moments(client, restarting)
            restarting.one.kill()
            waits_s += await seconds_to_go_on(runs)
            await asyncio.gather(*(run.reads for run in runs))
            for run in runs:
                assert (run.run["status"], run.run["attempt"]) == ("completed", 2), run.run
                restarts = [e.fields for e in run.reading.events if e.event == "restart"]
                assert restarts == ([{"attempt": 2}] if run is not runs[0] else [])
            await assert_whole_and_served(client, restarting, runs)
            await asyncio.to_thread(restarting.one.start)
    say_how_soon(waits_s)


async def assert_whole_and_served(client: Client, pair: Pair, runs: list[Followed]) -> None:
    """The answers of the four moments are whole, as they are stored, and served anywhere."""
    expected = [DEFAULT_TEXT, "one two three", DEFAULT_TEXT, DEFAULT_TEXT]
    assert [run.reading.text for run in runs] == expected
    for run in runs:
        assert (await client.message(run.run))["content"] == run.reading.text
    await assert_any_cursor_serves(client, pair, runs)
    await client.history.judge(pair.dsn)


async def assert_any_cursor_serves(client: Client, pair: Pair, runs: list[Followed]) -> None:
    """Resume from every third cursor: what is missing comes, but for what a restart forgot."""
    for run in runs:
        whole = run.reading.events
        for after in range(0, len(whole) + 1, 3):
            number = int(whole[after - 1].id or 0) if after else 0
            late = Reading(run.reading.run_id, str(number))
            await client.read_some(late, url=pair.two.url)
            restart = next((n for n, seen in enumerate(whole) if seen.event == "restart"), 0)
            assert late.events == whole[max(after, restart) :]


async def test_without_survivors_the_next_start_continues(continuing: Pair) -> None:
    waits_s: list[float] = []
    for number in range(ROUNDS):
        # The suite is content with the k-th token.
        waits_s += await die_together(continuing, all_moments=number > 0)
    say_how_soon(waits_s)


async def die_together(pair: Pair, *, all_moments: bool) -> list[float]:
    """Return how long after the start of one replica each run of the dead went on."""
    async with Client(pair.urls) as client:
        if all_moments:
            runs = await four_moments(client, pair)
        else:
            runs = [await start_followed(client, owner=pair.one, survivor=pair.two, **SLOW)]
            await until(lambda: runs[0].words >= 5, "the first words")
        pair.one.kill()
        pair.two.kill()
        await asyncio.gather(*(run.reads for run in runs), return_exceptions=True)
        assert all(run.reading.run is None for run in runs), "the kill came too late"
        await asyncio.to_thread(pair.one.start)
        reads = [asyncio.ensure_future(client.read_on(run.reading)) for run in runs]
        waits_s = await seconds_to_go_on(runs)
        await asyncio.gather(*reads)
        for run in runs:
            assert run.reading.text == (
                "one two three" if "one two three" in run.content else DEFAULT_TEXT
            )
            assert (run.run["status"], run.run["attempt"]) == ("completed", 2), run.run
        await client.history.judge(pair.dsn)
        await asyncio.to_thread(pair.two.start)
    return waits_s


async def test_a_run_whose_processes_keep_dying_fails_with_what_it_has(continuing: Pair) -> None:
    async with Client(continuing.urls) as client:
        run = await start_followed(
            client,
            owner=continuing.one,
            survivor=continuing.two,
            text=DEFAULT_TEXT * 20,
            **SLOW,
        )
        await until(lambda: run.words >= 3, "the first words")
        continuing.one.kill()
        said = run.words
        await until(lambda: run.words > said, "the second attempt", within_s=GOES_ON_S)
        continuing.two.kill()
        with suppress(StreamBroken):
            await run.reads
        await asyncio.to_thread(continuing.one.start)
        reading = await client.read_on(run.reading, within_s=GOES_ON_S + 5)
        assert run.run["status"] == "failed"
        assert run.run["error"]["code"] == "attempts_exhausted"
        assert reading.text
        assert (await client.message(run.run))["content"] == reading.text
        await client.history.judge(continuing.dsn)
        await asyncio.to_thread(continuing.two.start)


@pytest.mark.timeout(sized(180, full=1_800))
async def test_a_process_that_slept_through_its_lease_writes_nothing_more(
    restarting: Pair, continuing: Pair
) -> None:
    chance = seeded()

    async def freezes(pair: Pair) -> int:
        async with Client(pair.urls) as client:
            counts = [
                await freeze_and_thaw(client, pair, chance, number) for number in range(FREEZES)
            ]
            await client.history.judge(pair.dsn)
        return sum(counts)

    pairs = [restarting, continuing][: sized(1, full=2)]
    frozen = sum(await asyncio.gather(*map(freezes, pairs)))
    say(f"{frozen} running runs slept for {FROZEN_S:.0f} s; their old attempts wrote nothing more")
    assert frozen >= sized(12, full=100)


async def freeze_and_thaw(client: Client, pair: Pair, chance: random.Random, number: int) -> int:
    """Freeze one replica until the other has finished its runs; return how many it was writing."""
    owner, other = (pair.two, pair.one) if number % 2 else (pair.one, pair.two)
    runs = await asyncio.gather(
        *(
            start_followed(client, owner=owner, survivor=other, pace_ms=chance.randint(60, 120))
            for _ in range(FROZEN_RUNS)
        )
    )
    await until(lambda: all(run.words > 1 for run in runs), "every run's first words")
    owner.freeze()
    try:
        ids = [run.reading.run_id for run in runs]
        query = "SELECT id FROM runs WHERE status = 'running' AND id = ANY($1::uuid[])"
        frozen = await fetch(pair.dsn, query, ids)
        await asyncio.sleep(FROZEN_S + chance.uniform(0, 1))
        query = "SELECT id FROM runs WHERE attempt = 2 AND id = ANY($1::uuid[])"
        taken = await fetch(pair.dsn, query, ids)
        assert set(taken) == set(frozen), "the frozen process still holds a run"
    finally:
        owner.thaw()
    await asyncio.gather(*(run.reads for run in runs))
    for run in runs:
        attempt = 2 if run.reading.run_id in {str(row["id"]) for row in frozen} else 1
        assert (run.run["status"], run.run["attempt"]) == ("completed", attempt), run.run
        assert run.reading.text == DEFAULT_TEXT
    return len(frozen)


async def test_a_lone_process_that_slept_goes_on_as_if_nothing_was(restarting: Pair) -> None:
    alone = restarting.one
    restarting.two.kill()
    async with Client([alone.url]) as client:
        run = await start_followed(
            client, owner=alone, survivor=alone, text=DEFAULT_TEXT * 3, pace_ms=50
        )
        await until(lambda: run.words >= 3, "the first words")
        alone.freeze()
        await asyncio.sleep(sized(7.5, full=60.0))
        alone.thaw()
        # Its reader has no more patience than any other.
        with suppress(StreamBroken):
            await run.reads
        await client.read_on(run.reading, within_s=30)
        assert (run.run["status"], run.run["attempt"]) == ("completed", 1)
        assert run.reading.text == DEFAULT_TEXT * 3
        assert len(restarting.calls(run.content)) == 1
        await client.history.judge(restarting.dsn)
    await asyncio.to_thread(restarting.two.start)
