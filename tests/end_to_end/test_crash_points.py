"""Every named place at which a process can die: nothing acknowledged is lost, all runs end."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tertulia.domain.ids import new_id
from tertulia.telemetry.crash_points import CRASH_POINTS
from tests.kit.chance import say, seeded
from tests.kit.client import Client, Reading, StreamBroken
from tests.kit.history import install_audit
from tests.kit.pair import asked, calls_of, script
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fetch, fetch_number, model_env, scripted_provider
from tests.kit.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(sized(600, full=3_600))]

ROUNDS = sized(1, full=5)
"""The first at a pass that is known to be interesting, the others at a random one."""

CRASH_STATUS = 137
DIES_WITHIN_S = 20.0
PASSES = {"run.token": 4, "write.before_commit": 3, "write.committed": 3, "write.shown": 3}
"""Where the first pass is not the interesting one."""
PASSES_MAX = {
    "run.token": 40,
    "write.before_commit": 20,
    "write.committed": 20,
    "write.shown": 20,
    "takeover.claimed": 1,
    "title.suggested": 2,
    "title.stored": 2,
}
PASSES_MAX_ELSEWHERE = 4
"""How often a talker makes a process pass a place in a short while."""


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[str]:
    with scripted_provider(tmp_path / "calls") as base_url:
        yield base_url


class Talker:
    """Somebody who keeps sending and cancelling until the server is gone."""

    def __init__(self, client: Client, victim: Replica, chance: random.Random) -> None:
        self.client = client
        self.victim = victim
        self.chance = chance

    @property
    def is_dead(self) -> bool:
        return self.victim.process.poll() is not None

    async def talk_to_death(self, name: str) -> None:
        """Make the victim pass every place, in several conversations, until it dies at `name`."""
        self.client.urls = [self.victim.url]
        talking = asyncio.gather(*(self._converse(number) for number in range(3)))
        await until(lambda: self.is_dead, f"a death at {name}", within_s=DIES_WITHIN_S)
        assert self.victim.process.returncode == CRASH_STATUS, f"it died, but not at {name}"
        await talking

    async def _converse(self, number: int) -> None:
        while not self.is_dead:
            with suppress(httpx2.TransportError, StreamBroken, TimeoutError):
                made = await self.client.call("POST", "/conversations", json={})
                await self._send_and_read(made.json()["id"], cancels=number == 0)
            await asyncio.sleep(0.05)

    async def _send_and_read(self, conversation_id: str, *, cancels: bool) -> None:
        content = script(f"crash-{new_id()}", text="It was a dark and stormy night.", pace_ms=10)
        operation = await self.client.send(conversation_id, content, key=new_id().hex)
        if operation.state != "ok":
            return
        if cancels:
            await asyncio.sleep(self.chance.uniform(0, 0.05))
            await self.client.call("POST", f"/runs/{operation.run_id}/cancel")
        async with asyncio.timeout(30):
            await self.client.read_some(Reading(operation.run_id))


@pytest.mark.parametrize(
    "half",
    [
        pytest.param(half, marks=pytest.mark.xdist_group(f"crash points {half}"))
        for half in range(2)
    ],
)
async def test_a_death_at_any_named_place_loses_and_doubles_nothing(
    dsn: str, provider: str, tmp_path: Path, half: int
) -> None:
    chance = seeded()
    deaths = places_to_die(sorted(CRASH_POINTS)[half::2], chance)
    await install_audit(dsn)
    env = model_env(provider, TERTULIA_RUN_ATTEMPTS="10")
    survivor = Replica(dsn, tmp_path / "replica.log", env=env)
    with survivor.start():
        async with Client([survivor.url]) as client:
            survivor.kill()
            for name, passes in deaths:
                await make_jobs_due(dsn)
                dying = {**env, "TERTULIA_CRASH_AT": f"{name}:{passes}"}
                with Replica(dsn, tmp_path / "replica.log", env=dying) as victim:
                    await Talker(client, victim, chance).talk_to_death(name)
            await asyncio.to_thread(survivor.start)
            client.urls = [survivor.url]
            await retry_what_is_unknown(client)
            await every_run_ends(dsn)
            await client.history.judge(dsn)
            await every_answered_conversation_gets_a_title(dsn)
            places = len({name for name, _ in deaths})
            sends = len(client.history.operations)
            say(f"{len(deaths)} deaths at {places} places, {sends} sends: none lost, none doubled")
    await assert_no_call_without_an_attempt(dsn, provider)


def places_to_die(names: list[str], chance: random.Random) -> list[tuple[str, int]]:
    """Return where to die, and at which pass."""
    deaths: list[tuple[str, int]] = []
    for number in range(ROUNDS):
        chance.shuffle(names)
        if names[0] == "takeover.claimed":
            # A takeover needs a run that somebody left behind.
            names.reverse()
        for name in names:
            most = PASSES_MAX.get(name, PASSES_MAX_ELSEWHERE)
            deaths.append((name, chance.randint(1, most) if number else PASSES.get(name, 1)))
    return deaths


async def retry_what_is_unknown(client: Client) -> None:
    """Send again, with its key, whatever got no answer: it is made now, or was made then."""
    for old in [each for each in client.history.operations if each.state == "unknown"]:
        new = await client.send(old.conversation_id, old.content, key=old.key)
        assert new.state == "ok", new.body


async def every_run_ends(dsn: str) -> None:
    async def no_run_is_open() -> bool:
        query = "SELECT count(*) FROM runs WHERE status IN ('queued', 'running')"
        return await fetch_number(dsn, query) == 0

    await until(no_run_is_open, "every run to end", within_s=30)


async def every_answered_conversation_gets_a_title(dsn: str) -> None:
    async def no_job_is_left() -> bool:
        return await fetch_number(dsn, "SELECT count(*) FROM jobs") == 0

    await make_jobs_due(dsn)
    await until(no_job_is_left, "every title to be written", within_s=30)
    untitled = await fetch_number(
        dsn,
        """
        SELECT count(*) FROM conversations c WHERE title IS NULL AND EXISTS
            (SELECT FROM runs r WHERE r.conversation_id = c.id AND r.status = 'completed')
        """,
    )
    assert untitled == 0


async def make_jobs_due(dsn: str) -> None:
    """Let the minute pass for which a dead worker holds its jobs."""
    await fetch(dsn, "UPDATE jobs SET due_at = now() RETURNING id")


async def assert_no_call_without_an_attempt(dsn: str, provider: str) -> None:
    """A model is asked at most once in each attempt."""
    rows = await fetch(
        dsn,
        """
        SELECT asked.content, r.attempt FROM runs r
        JOIN messages answer ON answer.id = r.message_id
        JOIN messages asked ON asked.id = answer.parent_id
        """,
    )
    calls = Counter(asked(call) for call in calls_of(provider))
    too_many = [row for row in rows if calls[row["content"]] > row["attempt"]]
    assert not too_many
