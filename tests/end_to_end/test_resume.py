"""Promise G-06: a cursor gives exactly what came after it, on any replica, at any time."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.kit.chance import say, seeded
from tests.kit.client import Client, Reading, Refused, Seen, StreamBroken
from tests.kit.crowd import crowd
from tests.kit.pair import Pair, script
from tests.kit.size import sized

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

RUNS = sized(16, full=320)
AT_ONCE = sized(16, full=8)
LATE = 8
"""Resumes of each run after its end, at random cursors."""
MIN_RESUMES = sized(200, full=10_000)


@dataclass
class Readers:
    """Readers of one run that come back from everywhere; counts how often."""

    client: Client
    pair: Pair
    chance: random.Random
    kinds: Counter[str]

    async def resume(self, reading: Reading, kind: str, **stop: int | None) -> None:
        """Read on over a new connection to either replica, and leave."""
        while True:
            try:
                await self.client.read_some(
                    reading,
                    url=self.chance.choice(self.pair.urls),
                    ending=self.chance.choice(["rst", "fin"]),
                    **stop,
                )
            except Refused as error:
                # A machine with more to do than it can sheds what waited too long, and says so.
                if error.status != 503:
                    raise
                self.kinds["shed"] += 1
                await asyncio.sleep(0.2)
            except StreamBroken as error:
                raise AssertionError("nobody cut this connection") from error
            else:
                self.kinds[kind] += 1
                return

    async def read_in_pieces(self, run_id: str) -> Reading:
        """Read a run over up to 20 connections, each cut somewhere."""
        reading = Reading(run_id)
        for left in reversed(range(self.chance.randint(1, 20))):
            by_bytes = self.chance.random() < 0.5
            await self.resume(
                reading,
                "in pieces",
                stop_after_bytes=self.chance.randint(1, 400) if left and by_bytes else None,
                stop_after_events=self.chance.randint(1, 6) if left and not by_bytes else None,
            )
            if reading.run is not None:
                break
        return reading

    async def cling_to_the_end(self, run_id: str) -> Reading:
        """Connect anew for every event, so that some connection is made just as the run ends."""
        reading = Reading(run_id)
        while reading.run is None:
            await self.resume(reading, "event by event", stop_after_events=1)
        return reading

    async def read_late(self, run_id: str, after: int) -> list[Seen]:
        """Read from a cursor to the end, all at once."""
        late = Reading(run_id, str(after))
        await self.resume(late, "after the end")
        return late.events


async def test_resumes_give_exactly_the_missing_events_on_any_replica(pair: Pair) -> None:
    chance, kinds = seeded(), Counter[str]()

    async def one_run(client: Client, number: int) -> None:
        readers = Readers(client, pair, chance, kinds)
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
        async with asyncio.TaskGroup() as group:
            reads = [
                group.create_task(client.read(run_id)),
                group.create_task(readers.cling_to_the_end(run_id)),
                *(group.create_task(readers.read_in_pieces(run_id)) for _ in range(2)),
            ]
        whole, *others = (read.result().events for read in reads)
        assert all(other == whole for other in others)
        for after in (0, len(whole) - 1, len(whole), *chance.choices(range(len(whole)), k=LATE)):
            assert await readers.read_late(run_id, after) == whole[after:]

    async with Client(pair.urls) as client:
        await crowd(lambda number: one_run(client, number), count=RUNS, at_once=AT_ONCE)
        await client.history.judge(pair.dsn)
    shed = kinds.pop("shed", 0)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    say(f"{kinds.total()} resumes of {RUNS} runs ({told}), each exact; {shed} were shed first")
    assert kinds.total() >= MIN_RESUMES, f"only {kinds.total()} resumes were made"


async def test_a_cursor_beyond_the_end_gets_nothing(pair: Pair) -> None:
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation(title="Beyond")
        operation = await client.send(conversation_id, "Hello")
        whole = await client.read(operation.run_id)
        for url in pair.urls:
            late = Reading(operation.run_id, whole.cursor)
            await client.read_some(late, url=url)
            assert late.events == []


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
