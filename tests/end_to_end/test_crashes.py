"""Promises G-01 and G-02: processes and PostgreSQL die under load; nothing acknowledged is lost."""

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tertulia.domain.ids import new_id
from tertulia.telemetry.tasks import TaskSet
from tests.kit.chance import say, seeded
from tests.kit.crowd import spread
from tests.kit.pair import start_all
from tests.kit.person import Person
from tests.kit.postgres_server import PostgresServer, durable_postgres
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fetch, model_env, scripted_provider

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("crashes")]

SEEDS = sized(1, full=5)
LOAD_S = sized(12.0, full=120.0)
KILLS = sized(6, full=30)
ACKNOWLEDGED = sized(80, full=4_000)
"""For each seed at least so many, however long it takes on a slow machine, within this bound:"""
LOAD_MAX_S = sized(45.0, full=400.0)
KILL_EVERY_S = (sized(0.7, full=1.0), sized(1.3, full=3.0))
WORKERS = (sized(1, full=2), 2)
"""Of the two replicas. A replica that is one process is started again from here."""
WRITERS = sized(8, full=16)
FALLS = sized(3, full=15)
"""Of PostgreSQL, each way."""
PAUSE_S = 0.05
SERVES_AGAIN_S = sized(15.0, full=5.0)


@dataclass
class Load:
    """What writers sent, and what they were promised is stored."""

    acknowledged: dict[str, str] = field(default_factory=dict[str, str])
    """Content by message id."""
    sent: list[str] = field(default_factory=list[str])
    last_answer: float = 0.0
    _ends: bool = False

    def end(self) -> None:
        self._ends = True

    async def write(self, person: Person) -> None:
        """Send messages with keys, one after the other, trying each until it is acknowledged."""
        conversation_id = await person.new_conversation()
        path = f"/conversations/{conversation_id}/messages"
        while not self._ends:
            content = f"word {new_id()}"
            self.sent.append(content)
            body = {"role": "user", "content": content}
            answer = await person.insist("POST", path, json=body, key=new_id().hex, within_s=60)
            assert answer.status_code == 201, answer.text
            self.acknowledged[answer.json()["id"]] = content
            self.last_answer = time.monotonic()
            # Workers start while this goes on, and have the processors to share.
            await asyncio.sleep(PAUSE_S)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scripted_provider(tmp_path_factory.mktemp("provider") / "calls") as base_url:
        yield base_url


@asynccontextmanager
async def people(urls: Sequence[str], count: int) -> AsyncGenerator[list[Person]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Person(urls)) for _ in range(count)]


async def assert_nothing_is_lost_or_doubled(dsn: str, load: Load) -> None:
    rows = await fetch(dsn, "SELECT id, content FROM messages WHERE content LIKE 'word %'")
    stored = {str(row["id"]): str(row["content"]) for row in rows}
    lost = {id_: text for id_, text in load.acknowledged.items() if stored.get(id_) != text}
    assert not lost, f"{len(lost)} of {len(load.acknowledged)} acknowledged messages are lost"
    doubled = [text for text, times in Counter(stored.values()).items() if times > 1]
    assert not doubled, f"{len(doubled)} messages were stored twice under one key"
    miscounted = await fetch(
        dsn,
        """
        SELECT c.id FROM conversations c WHERE c.message_count <>
            (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id)
        """,
    )
    assert not miscounted


@pytest.mark.timeout(sized(180, full=3_600))
async def test_no_acknowledged_message_is_lost_when_workers_are_killed(
    dsn: str, provider: str, tmp_path: Path
) -> None:
    env, tasks = model_env(provider), TaskSet()
    loads: list[Load] = []
    kills = 0
    replicas = [
        Replica(dsn, tmp_path / f"{number}.log", workers=workers, env=env)
        for number, workers in enumerate(WORKERS)
    ]
    with start_all(*replicas):
        for _ in range(SEEDS):
            chance, load = seeded(), Load()
            loads.append(load)
            async with people([replica.url for replica in replicas], WRITERS) as writers:
                work = [tasks.spawn(load.write(writer), name="writer") for writer in writers]
                killed = await rage(load, replicas, chance)
                load.end()
                await asyncio.gather(*work)
            kills += killed
            await assert_nothing_is_lost_or_doubled(dsn, load)
    acknowledged = sum(len(load.acknowledged) for load in loads)
    say(f"{acknowledged} acknowledged, {kills} workers killed: none lost, none doubled")
    assert kills >= SEEDS * KILLS
    assert acknowledged >= SEEDS * ACKNOWLEDGED


async def rage(load: Load, replicas: Sequence[Replica], chance: random.Random) -> int:
    """Kill random workers, each in the middle of its work, and return how many."""
    begin = killed_at = time.monotonic()
    kills, tasks = 0, TaskSet()
    starting: dict[Replica, asyncio.Task[None]] = {}

    def load_s() -> float:
        is_enough = kills >= KILLS and len(load.acknowledged) >= ACKNOWLEDGED
        return LOAD_S if is_enough else LOAD_MAX_S

    while time.monotonic() - begin < load_s():
        await asyncio.sleep(chance.uniform(*KILL_EVERY_S))
        if load.last_answer < killed_at:
            continue  # Nobody has served since: there is nothing to interrupt.
        up = [each for each in replicas if each not in starting or starting[each].done()]
        victims = [(pid, replica) for replica in up for pid in replica.worker_pids()]
        if not victims:
            continue
        victim, replica = chance.choice(victims)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            kills += 1
            killed_at = time.monotonic()
        if victim == replica.process.pid:
            starting[replica] = tasks.spawn(start_again(replica), name="start")
    await asyncio.gather(*starting.values())
    return kills


async def start_again(replica: Replica) -> None:
    await asyncio.to_thread(replica.process.wait)
    await asyncio.to_thread(replica.start)


@pytest.fixture(scope="module")
def durable() -> Iterator[PostgresServer]:
    # Not below pytest's own directory: another start of pytest closes that to other users, and so
    # to the one that PostgreSQL runs as where the tests run as root.
    with (
        tempfile.TemporaryDirectory(prefix="tertulia-durable-") as home,
        durable_postgres(Path(home)) as server,
    ):
        yield server


@pytest.mark.timeout(sized(180, full=1_800))
@pytest.mark.parametrize("fall", ["kill -9", "immediate stop"])
async def test_no_acknowledged_message_is_lost_when_postgresql_dies(
    durable: PostgresServer, provider: str, tmp_path: Path, fall: str
) -> None:
    load, tasks = Load(), TaskSet()
    down = durable.kill if fall == "kill -9" else durable.stop_immediately
    with Replica(durable.dsn, tmp_path / "replica.log", env=model_env(provider)) as replica:
        pid = replica.process.pid
        async with people([replica.url], 5) as (talker, *writers):
            work = [tasks.spawn(load.write(writer), name="writer") for writer in writers]
            late_s: list[float] = []
            for _ in range(FALLS):
                conversation_id = await talker.new_conversation(title="Outage")
                run_id = await talker.start_run(conversation_id, 'script: {"pace_ms": 40}')
                await asyncio.sleep(0.5)
                await asyncio.to_thread(down)
                await asyncio.sleep(0.5)
                accepts = await asyncio.to_thread(durable.start_again)
                while load.last_answer < accepts:
                    await asyncio.sleep(0.01)
                    assert time.monotonic() - accepts < SERVES_AGAIN_S, "it does not serve again"
                late_s.append(load.last_answer - accepts)
                run = await talker.end_of(run_id)
                assert (run["status"], run["attempt"]) == ("completed", 1)
                answer = await talker.insist(
                    "GET", f"/conversations/{conversation_id}/messages/{run['message_id']}"
                )
                assert answer.json()["content"] == DEFAULT_TEXT
            load.end()
            await asyncio.gather(*work)
        assert replica.process.pid == pid
        assert replica.process.poll() is None
        await assert_nothing_is_lost_or_doubled(durable.dsn, load)
    say(f"{FALLS} times {fall}: {len(load.acknowledged)} acknowledged, none lost")
    say(f"serves again after: {spread(late_s)}")
    assert load.acknowledged
