"""Promise G-06: a cursor gives exactly what came after it, on any replica, at any time."""

import asyncio
import random

import pytest

from tests.kit.chance import say, seeded
from tests.kit.client import Client, Reading, StreamBroken
from tests.kit.pair import Pair, script

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

RUNS = 16


async def read_in_pieces(
    client: Client, run_id: str, pair: Pair, chance: random.Random
) -> tuple[Reading, int]:
    """Read a run over up to 20 connections, each cut somewhere, on either replica."""
    reading, connections = Reading(run_id), 0
    pieces = chance.randint(1, 20)
    while reading.run is None:
        connections += 1
        is_last = connections >= pieces
        by_bytes = chance.random() < 0.5
        try:
            await client.read_some(
                reading,
                url=chance.choice(pair.urls),
                stop_after_bytes=None if is_last or not by_bytes else chance.randint(1, 400),
                stop_after_events=None if is_last or by_bytes else chance.randint(1, 6),
                ending=chance.choice(["rst", "fin"]),
            )
        except StreamBroken as error:
            raise AssertionError("nobody cut this connection") from error
    return reading, connections


async def test_resumes_give_exactly_the_missing_events_on_any_replica(pair: Pair) -> None:
    chance = seeded()
    resumes = 0

    async def one_run(client: Client, number: int) -> None:
        nonlocal resumes
        content = script(
            f"resume-{number}",
            text="one \U0001d495\U0001d498\U0001d490 three\n" * 20,
            chunks=60,
            pace_ms=chance.choice([0, 5, 20]),
            reasoning="let me think " * 5 if number % 3 == 0 else "",
            tool_calls=[{"name": "look_up", "arguments": '{"a": 1}'}] if number % 4 == 0 else [],
        )
        conversation_id = await client.new_conversation(title="Resumed")
        operation = await client.send(conversation_id, content, url=chance.choice(pair.urls))
        run_id = operation.run_id
        in_pieces = asyncio.gather(
            *(read_in_pieces(client, run_id, pair, chance) for _ in range(2))
        )
        whole, pieces = await client.read(run_id), await in_pieces
        for reading, connections in pieces:
            assert reading.events == whole.events
            resumes += connections
        for _ in range(8):
            after = chance.randint(0, len(whole.events))
            late = Reading(run_id, str(after))
            await client.read_some(late, url=chance.choice(pair.urls))
            assert late.events == whole.events[after:]
            resumes += 1

    async with Client(pair.urls) as client:
        await asyncio.gather(*(one_run(client, number) for number in range(RUNS)))
        await client.history.judge(pair.dsn)
    say(f"{resumes} resumes")
    assert resumes >= 200, f"only {resumes} resumes were made"


async def test_a_cursor_beyond_the_end_gets_nothing(pair: Pair) -> None:
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation(title="Beyond")
        operation = await client.send(conversation_id, "Hello")
        whole = await client.read(operation.run_id)
        for url in pair.urls:
            late = Reading(operation.run_id, whole.cursor)
            stream = await client.read_some(late, url=url)
            assert (stream.status, late.events) == (204, [])


async def test_many_late_readers_of_a_long_run_elsewhere_miss_nothing(pair: Pair) -> None:
    content = script("long", text="word " * 1_500, chunks=1_500, pace_ms=1)
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation(title="Long")
        operation = await client.send(conversation_id, content, url=pair.one.url)

        async def join(delay_s: float) -> Reading:
            await asyncio.sleep(delay_s)
            reading = Reading(operation.run_id)
            await client.read_some(reading, url=pair.two.url)
            return reading

        readings = await asyncio.gather(*(join(number * 0.15) for number in range(12)))
        assert {reading.text for reading in readings} == {"word " * 1_500}
        assert all(reading.events == readings[0].events for reading in readings)
        await client.history.judge(pair.dsn)
