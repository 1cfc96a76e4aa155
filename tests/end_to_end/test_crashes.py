"""Promises G-01 and G-02: processes and PostgreSQL die under load; nothing acknowledged is lost."""

import asyncio
import os
import random
import signal
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
from tests.kit.person import Person
from tests.kit.postgres_server import PostgresServer, durable_postgres
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica
from tests.kit.stage import fetch, model_env, scripted_provider

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("crashes")]

LOAD_S = 12.0
KILLS = 6
"""At least so many, however long they take on a slow machine, within the bound below."""
LOAD_MAX_S = 45.0
WRITERS = 8
PAUSE_S = 0.05
SERVES_AGAIN_S = 5.0


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


async def test_no_acknowledged_message_is_lost_when_workers_are_killed(
    dsn: str, provider: str, tmp_path: Path
) -> None:
    chance = seeded()
    env = model_env(provider)
    load, kills, tasks = Load(), Kills(), TaskSet()
    with (
        Replica(dsn, tmp_path / "one.log", env=env) as one,
        Replica(dsn, tmp_path / "two.log", workers=2, env=env) as two,
    ):
        async with people([one.url, two.url], WRITERS) as writers:
            work = [tasks.spawn(load.write(writer), name="writer") for writer in writers]
            await kills.rage(load, one, two, chance)
            load.end()
            await asyncio.gather(*work)
        await assert_nothing_is_lost_or_doubled(dsn, load)
    say(f"{len(load.acknowledged)} acknowledged, {kills.count} killed")
    assert kills.count >= KILLS
    assert len(load.acknowledged) >= 10 * WRITERS


@dataclass
class Kills:
    """Random deaths of workers."""

    count: int = 0
    _tasks: TaskSet = field(default_factory=TaskSet)

    async def rage(
        self, load: Load, single: Replica, several: Replica, chance: random.Random
    ) -> None:
        """Kill a random worker about once a second, each in the middle of its work.

        The single one is started again from here.
        """
        begin = killed = time.monotonic()
        starting: asyncio.Task[None] | None = None
        while time.monotonic() - begin < (LOAD_S if self.count >= KILLS else LOAD_MAX_S):
            await asyncio.sleep(chance.uniform(0.7, 1.3))
            if load.last_answer < killed:
                continue  # Nobody has served since: there is nothing to interrupt.
            is_up = starting is None or starting.done()
            victims = [*several.worker_pids(), *([single.process.pid] if is_up else [])]
            if not victims:
                continue
            victim = chance.choice(victims)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                self.count += 1
                killed = time.monotonic()
            if victim == single.process.pid:
                starting = self._tasks.spawn(self._start_again(single), name="start")
        if starting is not None:
            await starting

    async def _start_again(self, replica: Replica) -> None:
        await asyncio.to_thread(replica.process.wait)
        await asyncio.to_thread(replica.start)


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    with durable_postgres(tmp_path_factory.mktemp("durable")) as server:
        yield server


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
            for _ in range(3):
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
    say(f"{len(load.acknowledged)} acknowledged; serves again after {late_s} s")
    assert load.acknowledged
