"""Promises G-15 and G-16: what readers see while others write, and races that leave no orphans."""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest

from tertulia.storage.embedded import EmbeddedPostgres
from tertulia.telemetry.tasks import TaskSet
from tests.kit.chance import say, seeded
from tests.kit.crowd import crowd, spread
from tests.kit.person import Person
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fetch, fresh_database, model_env, scripted_provider

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("order")]

LOAD_S = sized(6.0, full=60.0)
WRITERS = READERS = sized(4, full=8)
PAGE = 50
ROUNDS = sized(15, full=200)
"""Of each pair."""
AT_ONCE = 6

ORPHANS = """
    SELECT 'message without conversation', id::text FROM messages m
        WHERE NOT EXISTS (SELECT FROM conversations c WHERE c.id = m.conversation_id)
    UNION ALL SELECT 'message without parent', id::text FROM messages m
        WHERE parent_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM messages p
            WHERE p.id = m.parent_id AND p.conversation_id = m.conversation_id AND p.seq < m.seq)
    UNION ALL SELECT 'run without message', id::text FROM runs r
        WHERE NOT EXISTS (SELECT FROM messages m WHERE m.id = r.message_id AND m.run_id = r.id)
    UNION ALL SELECT 'answer without run', id::text FROM messages m
        WHERE run_id IS NOT NULL AND NOT EXISTS (SELECT FROM runs r WHERE r.id = m.run_id)
    UNION ALL SELECT 'event without running run', run_id::text FROM run_events e
        WHERE NOT EXISTS (SELECT FROM runs r WHERE r.id = e.run_id AND r.status = 'running')
    UNION ALL SELECT 'head that is not there', id::text FROM conversations c
        WHERE head_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM messages m WHERE m.id = c.head_id AND m.conversation_id = c.id)
    UNION ALL SELECT 'wrong count', id::text FROM conversations c
        WHERE message_count <> (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id)
    UNION ALL SELECT 'branch without conversation', conversation_id::text FROM branches b
        WHERE NOT EXISTS (SELECT FROM conversations c WHERE c.id = b.conversation_id)
"""


@dataclass(frozen=True)
class Stage:
    """Two replicas on one database."""

    dsn: str
    one: Replica
    two: Replica

    @property
    def urls(self) -> list[str]:
        return [self.one.url, self.two.url]


@pytest.fixture(scope="module")
def stage(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home: Path = tmp_path_factory.mktemp("order")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(home / "calls") as base_url,
        Replica(dsn, home / "one.log", env=model_env(base_url)) as one,
        Replica(dsn, home / "two.log", env=model_env(base_url)) as two,
    ):
        yield Stage(dsn, one, two)


@dataclass
class Watched:
    """One conversation that many write to and many read."""

    path: str
    ends: float
    sent: int = 0
    looked: int = 0
    seen: list[str] = field(default_factory=list[str])
    """Message ids in the order that the readers agree on."""
    took_s: list[float] = field(default_factory=list[float])
    """Each look."""

    async def write(self, person: Person, url: str) -> None:
        while time.monotonic() < self.ends:
            body = {"role": "user", "content": "in order"}
            made = await person.call("POST", self.path, json=body, url=url)
            assert made.status_code == 201, made.text
            self.sent += 1

    async def read(self, person: Person, url: str) -> None:
        """Read the last page over and over; whatever is new on it must follow the known."""
        path, begin = f"{self.path}?limit={PAGE}", 0
        while time.monotonic() < self.ends:
            looks = time.monotonic()
            page = await person.call("GET", path, url=url)
            self.took_s.append(time.monotonic() - looks)
            assert page.status_code == 200, page.text
            ids = [message["id"] for message in page.json()]
            for place, id_ in enumerate(ids, begin):
                if place < len(self.seen):
                    assert self.seen[place] == id_, f"message {place} was not there before"
                else:
                    self.seen.append(id_)
            if "next" in page.links:
                path, begin = page.links["next"]["url"], begin + len(ids)
            self.looked += 1


async def test_a_reader_never_sees_a_message_without_the_one_before(stage: Stage) -> None:
    tasks = TaskSet()
    async with Person(stage.urls) as person:
        conversation_id = await person.new_conversation()
        path = f"/conversations/{conversation_id}/messages"
        watched = Watched(path, time.monotonic() + LOAD_S)
        urls = itertools.cycle(stage.urls)
        work = [
            tasks.spawn(watched.write(person, next(urls)), name="writer") for _ in range(WRITERS)
        ]
        work += [
            tasks.spawn(watched.read(person, next(urls)), name="reader") for _ in range(READERS)
        ]
        await asyncio.gather(*work)
    stored = await fetch(
        stage.dsn,
        "SELECT id, seq FROM messages WHERE conversation_id = $1 ORDER BY seq",
        conversation_id,
    )
    say(
        f"G-15: {WRITERS} writers sent {watched.sent} messages in {LOAD_S:.0f} s, {READERS} "
        f"readers looked {watched.looked} times and saw {len(watched.seen)}, all in order; "
        f"a look took {spread(watched.took_s)}"
    )
    assert len(stored) == watched.sent
    assert [row["seq"] for row in stored] == list(range(1, watched.sent + 1))
    assert watched.seen == [str(row["id"]) for row in stored][: len(watched.seen)]
    assert watched.looked >= 20


@dataclass(frozen=True)
class Ground:
    """A fresh conversation with two messages and an answer, for one round."""

    person: Person
    path: str
    message_ids: list[str]
    urls: list[str]
    chance: random.Random

    async def ask(self, method: str, path: str = "", json: Any = None) -> httpx2.Response:  # noqa: ANN401  a body
        url = self.chance.choice(self.urls)
        await asyncio.sleep(self.chance.uniform(0, 0.004))
        return await self.person.call(method, self.path + path, json=json, url=url)

    def any_message(self) -> str:
        return self.chance.choice(self.message_ids)


Move: TypeAlias = Callable[[Ground], Awaitable[httpx2.Response]]
MOVES: dict[str, Move] = {
    "delete": lambda ground: ground.ask("DELETE"),
    "delete message": lambda ground: ground.ask("DELETE", f"/messages/{ground.any_message()}"),
    "edit": lambda ground: ground.ask(
        "PATCH", f"/messages/{ground.any_message()}", {"content": "edited"}
    ),
    "branch": lambda ground: ground.ask(
        "POST",
        "/messages",
        {"role": "user", "content": "branch", "parent_id": ground.any_message()},
    ),
    "switch": lambda ground: ground.ask("PATCH", "", {"head_id": ground.any_message()}),
    "append": lambda ground: ground.ask("POST", "/messages", {"role": "user", "content": "more"}),
    "run": lambda ground: ground.ask(
        "POST", "/runs", {"content": "run", "on_busy": ground.chance.choice(BUSY)}
    ),
}
BUSY = ["reject", "queue", "interrupt"]
PAIRS = list(itertools.combinations_with_replacement(MOVES, 2))


async def prepared(person: Person, urls: list[str], chance: random.Random) -> Ground:
    conversation_id = await person.new_conversation(title="Race", first_message="first")
    path = f"/conversations/{conversation_id}"
    for content in ("second", "third"):
        body = {"role": "assistant", "content": content}
        assert (await person.call("POST", f"{path}/messages", json=body)).status_code == 201
    listed = (await person.call("GET", f"{path}/messages")).json()
    return Ground(person, path, [message["id"] for message in listed], urls, chance)


async def test_races_are_answered_in_order_and_leave_no_orphans(stage: Stage) -> None:
    chance = seeded()
    rounds = [pair for pair in PAIRS for _ in range(ROUNDS)]
    chance.shuffle(rounds)
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    async with Person(stage.urls) as person:

        async def play(pair: tuple[str, str]) -> None:
            ground = await prepared(person, stage.urls, chance)
            answers = await asyncio.gather(*(MOVES[name](ground) for name in pair))
            for name, answer in zip(pair, answers, strict=True):
                statuses[answer.status_code] += 1
                if answer.status_code >= 300 and answer.status_code not in (404, 409):
                    wrong.append(f"{pair}: {name} {answer.status_code} {answer.text}")

        await crowd(lambda number: play(rounds[number]), count=len(rounds), at_once=AT_ONCE)
        assert not wrong
        await every_run_ends(stage.dsn)
    say(f"G-16: {ROUNDS} rounds of each of {len(PAIRS)} pairs, no 5xx: {dict(statuses)}")
    assert statuses[404]
    assert statuses[409]
    orphans = await fetch(stage.dsn, ORPHANS)
    assert not [tuple(row) for row in orphans]
    for replica in (stage.one, stage.two):
        log = replica.log.read_text()
        assert "unhandled exception" not in log
        assert "Traceback" not in log
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    say(f"deadlocks that were resolved: {(await fetch(stage.dsn, deadlocks))[0][0]}")


async def every_run_ends(dsn: str) -> None:
    """Wait until no answer is being written."""
    async with asyncio.timeout(20):
        while await fetch(dsn, "SELECT FROM runs WHERE status IN ('queued', 'running')"):  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.1)
