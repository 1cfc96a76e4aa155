"""Promises G-08 to G-10: another replica finishes the answer of one that died or froze."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.chance import say, seeded
from tests.kit.client import Client, Reading, StreamBroken
from tests.kit.pair import Pair, pair_of_replicas, script
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica
from tests.kit.stage import fetch
from tests.kit.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("deaths")]

GOES_ON_S = 15.0
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

    @property
    def words(self) -> int:
        return len(self.reading.text.split(" ")) if self.reading.text else 0

    @property
    def run(self) -> dict[str, Any]:
        assert self.reading.run is not None
        return self.reading.run


async def start_followed(
    client: Client, *, owner: Replica, survivor: Replica, **fields: object
) -> Followed:
    conversation_id = await client.new_conversation(title="Taken over")
    content = script(f"takeover-{new_id()}", **fields)
    operation = await client.send(conversation_id, content, url=owner.url)
    reading = Reading(operation.run_id)

    async def read() -> None:
        await client.read_some(reading, url=survivor.url)

    return Followed(content, reading, asyncio.ensure_future(read()))


async def four_moments(client: Client, pair: Pair) -> list[Followed]:
    """Let replica one be about to say the first token, the second, the k-th, and the end."""
    spots: list[dict[str, Any]] = [
        {"first_byte_delay_ms": 2_500},
        {"pace_ms": 2_500, "text": "one two three"},
        {"pace_ms": 50},
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


async def first_new_event_s(runs: list[Followed]) -> float:
    """Return how long it took until every run went on."""
    before = [len(run.reading.events) for run in runs]
    return await until(
        lambda: all(len(r.reading.events) > old for r, old in zip(runs, before, strict=True)),
        "every run to go on",
        within_s=GOES_ON_S,
    )


async def test_the_survivor_continues_from_the_stored_text(continuing: Pair) -> None:
    async with Client(continuing.urls) as client:
        runs = await four_moments(client, continuing)
        said = [run.reading.text for run in runs]
        continuing.one.kill()
        went_on_s = await first_new_event_s(runs)
        await asyncio.gather(*(run.reads for run in runs))
        for run, before in zip(runs, said, strict=True):
            assert (run.run["status"], run.run["attempt"]) == ("completed", 2)
            assert "restart" not in {seen.event for seen in run.reading.events}
            calls = continuing.calls(run.content)
            assert len(calls) == 2, "one call, and one that goes on"
            told = calls[1]["messages"][-1]
            if before:
                assert told["role"] == "assistant"
                assert run.reading.text.startswith(told["content"])
                assert len(told["content"]) >= len(before.rstrip())
        expected = [DEFAULT_TEXT, "one two three", DEFAULT_TEXT, DEFAULT_TEXT]
        assert [run.reading.text for run in runs] == expected
        await assert_any_cursor_serves(client, continuing, runs)
        await client.history.judge(continuing.dsn)
        await asyncio.to_thread(continuing.one.start)
    say(f"went on after {went_on_s:.1f} s")


async def test_the_survivor_says_that_it_starts_again(restarting: Pair) -> None:
    async with Client(restarting.urls) as client:
        runs = await four_moments(client, restarting)
        restarting.one.kill()
        went_on_s = await first_new_event_s(runs)
        await asyncio.gather(*(run.reads for run in runs))
        for run in runs:
            assert (run.run["status"], run.run["attempt"]) == ("completed", 2)
            restarts = [e.fields for e in run.reading.events if e.event == "restart"]
            assert restarts == ([{"attempt": 2}] if run is not runs[0] else [])
        expected = [DEFAULT_TEXT, "one two three", DEFAULT_TEXT, DEFAULT_TEXT]
        assert [run.reading.text for run in runs] == expected
        for run in runs:
            message = await client.message(run.run)
            assert message["content"] == run.reading.text
        await assert_any_cursor_serves(client, restarting, runs)
        await client.history.judge(restarting.dsn)
        await asyncio.to_thread(restarting.one.start)
    say(f"went on after {went_on_s:.1f} s")


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
    async with Client(continuing.urls) as client:
        run = await start_followed(client, owner=continuing.one, survivor=continuing.two, **SLOW)
        await until(lambda: run.words >= 5, "the first words")
        continuing.one.kill()
        continuing.two.kill()
        with suppress(StreamBroken):
            await run.reads
        assert run.reading.run is None, "the kill came too late"
        await asyncio.to_thread(continuing.one.start)
        started = time.monotonic()
        reading = await client.read_on(run.reading, within_s=GOES_ON_S + 10)
        assert reading.text == DEFAULT_TEXT
        assert (run.run["status"], run.run["attempt"]) == ("completed", 2)
        say(f"ended {time.monotonic() - started:.1f} s after the start")
        await client.history.judge(continuing.dsn)
        await asyncio.to_thread(continuing.two.start)


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


async def test_a_process_that_slept_through_its_lease_writes_nothing_more(
    restarting: Pair,
) -> None:
    chance = seeded()
    async with Client(restarting.urls) as client:
        for owner, other in (
            (restarting.one, restarting.two),
            (restarting.two, restarting.one),
            (restarting.one, restarting.two),
        ):
            runs = await asyncio.gather(
                *(start_followed(client, owner=owner, survivor=other, pace_ms=80) for _ in range(4))
            )
            await until(
                lambda runs=runs: all(run.words > 1 for run in runs), "every run's first words"
            )
            owner.freeze()
            try:
                await asyncio.sleep(chance.uniform(8, 9))
                query = "SELECT id FROM runs WHERE attempt = 2 AND id = ANY($1::uuid[])"
                taken = await fetch(restarting.dsn, query, [run.reading.run_id for run in runs])
                assert len(taken) == len(runs), "the frozen process still holds a run"
            finally:
                owner.thaw()
            await asyncio.gather(*(run.reads for run in runs))
            for run in runs:
                assert (run.run["status"], run.run["attempt"]) == ("completed", 2)
                assert run.reading.text == DEFAULT_TEXT
        await client.history.judge(restarting.dsn)


async def test_a_lone_process_that_slept_goes_on_as_if_nothing_was(restarting: Pair) -> None:
    alone = restarting.one
    restarting.two.kill()
    async with Client([alone.url]) as client:
        run = await start_followed(
            client, owner=alone, survivor=alone, text=DEFAULT_TEXT * 3, pace_ms=50
        )
        await until(lambda: run.words >= 3, "the first words")
        alone.freeze()
        await asyncio.sleep(7.5)
        alone.thaw()
        await run.reads
        assert (run.run["status"], run.run["attempt"]) == ("completed", 1)
        assert run.reading.text == DEFAULT_TEXT * 3
        assert len(restarting.calls(run.content)) == 1
        await client.history.judge(restarting.dsn)
    await asyncio.to_thread(restarting.two.start)
