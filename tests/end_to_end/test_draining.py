"""Promise G-18: a server that is told to stop loses nothing and leaves nobody waiting."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tertulia.telemetry.tasks import TaskSet
from tests.kit.chance import say
from tests.kit.crowd import spread
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fetch, fresh_database, model_env, scripted_provider

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("draining")]

RESTARTS = sized(4, full=20)
EXIT_S = 30.0
TOLD_S = sized(8.0, full=2.0)


@dataclass(frozen=True)
class Stage:
    """A database and a provider for replicas that come and go."""

    dsn: str
    provider_url: str


@pytest.fixture(scope="module")
def stage(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    log = tmp_path_factory.mktemp("draining") / "calls"
    with fresh_database(postgres.dsn) as dsn, scripted_provider(log) as base_url:
        yield Stage(dsn, base_url)


@dataclass
class Traffic:
    """What clients do that retry a refused connect and nothing else."""

    urls: list[str]
    ends: bool = False
    answered: int = 0
    run_ids: list[str] = field(default_factory=list[str])
    texts: dict[str, str] = field(default_factory=dict[str, str])
    """What followers saw, by run."""
    told_to_reconnect: list[float] = field(default_factory=list[float])
    """When (monotonic)."""
    told_s: list[float] = field(default_factory=list[float])
    """How long after the server was."""

    async def ask(
        self, person: Person, method: str, path: str, json: object = None, key: str = ""
    ) -> httpx2.Response:
        """Ask; whatever comes but a refused connect is the answer."""
        headers = {"Idempotency-Key": key} if key else {}
        async with asyncio.timeout(15):
            while True:
                self.urls.append(self.urls.pop(0))
                try:
                    answer = await person.call(
                        method, path, json=json, headers=headers, url=self.urls[0]
                    )
                except httpx2.ConnectError:
                    await asyncio.sleep(0.02)
                    continue
                assert answer.status_code < 300, f"{method} {path}: {answer.text}"
                self.answered += 1
                return answer

    async def write(self, person: Person) -> None:
        made = await self.ask(person, "POST", "/conversations", {})
        path = f"/conversations/{made.json()['id']}/messages"
        while not self.ends:
            body = {"role": "user", "content": str(self.answered)}
            await self.ask(person, "POST", path, body, key=new_id().hex)
            await self.ask(person, "GET", f"{path}?order=desc&limit=5")
            # Replicas start while this goes on, and have the processors to share.
            await asyncio.sleep(0.1)

    async def talk(self, person: Person) -> None:
        """Have one message after the other answered and follow each answer to its end."""
        made = await self.ask(person, "POST", "/conversations", {"title": "Talk"})
        path = f"/conversations/{made.json()['id']}/runs"
        while not self.ends:
            body = {"content": 'script: {"pace_ms": 30}'}
            started = await self.ask(person, "POST", path, body, key=new_id().hex)
            run_id = started.json()["id"]
            self.run_ids.append(run_id)
            await self.follow(person, run_id)
            await asyncio.sleep(0.1)

    async def follow(self, person: Person, run_id: str) -> None:
        """Read until `done`; go on elsewhere when told to, and only then."""
        cursor, text = "0", ""
        async with asyncio.timeout(40):
            while True:
                self.urls.append(self.urls.pop(0))
                kind = ""
                try:
                    async for event_id, kind, data in events(person, self.urls[0], run_id, cursor):
                        cursor = event_id or cursor
                        match kind:
                            case "text":
                                text += json_of(data)["delta"]
                            case "restart":
                                text = ""
                            case "done":
                                assert json_of(data)["status"] == "completed", data
                                self.texts[run_id] = text
                                return
                            case _:
                                pass
                except httpx2.ConnectError:
                    await asyncio.sleep(0.02)
                    continue
                assert kind == "reconnect", f"the stream ended without a word after {kind!r}"
                self.told_to_reconnect.append(time.monotonic())


def json_of(data: str) -> dict[str, Any]:
    return httpx2.Response(200, text=data).json()


async def events(
    person: Person, url: str, run_id: str, cursor: str
) -> AsyncGenerator[tuple[str | None, str, str]]:
    """Yield each event's id, kind and data."""
    headers = {**person.headers, "Last-Event-ID": cursor}
    async with person.client.stream("GET", f"{url}/runs/{run_id}/events", headers=headers) as got:
        assert got.status_code == 200, await got.aread()
        rest = ""
        async for piece in got.aiter_text():
            *frames, rest = (rest + piece).split("\n\n")
            for frame in frames:
                fields = dict(line.split(": ", 1) for line in frame.split("\n") if line[0] != ":")
                if "data" in fields:
                    yield fields.get("id"), fields["event"], fields["data"]


@pytest.mark.timeout(sized(180, full=1_800))
async def test_rolling_restarts_fail_no_request_and_lose_no_run(
    stage: Stage, tmp_path: Path
) -> None:
    env = model_env(stage.provider_url)
    tasks = TaskSet()
    with (
        Replica(stage.dsn, tmp_path / "one.log", env=env) as one,
        Replica(stage.dsn, tmp_path / "two.log", env=env) as two,
    ):
        traffic = Traffic([one.url, two.url])
        async with AsyncExitStack() as stack:
            people = [await stack.enter_async_context(Person(traffic.urls)) for _ in range(6)]
            work = [tasks.spawn(traffic.write(person), name="writer") for person in people[:3]]
            work += [tasks.spawn(traffic.talk(person), name="talker") for person in people[3:]]
            stops_s: list[float] = []
            for number in range(RESTARTS):
                await asyncio.sleep(0.7)
                stops_s.append(await restart([one, two][number % 2], traffic))
            traffic.ends = True
            await asyncio.gather(*work)
        rows = await fetch(stage.dsn, "SELECT id, status, error_code FROM runs")
    unfinished = {str(row["id"]): row["error_code"] for row in rows if row["status"] != "completed"}
    assert not unfinished
    assert set(traffic.texts) == set(traffic.run_ids)
    assert set(traffic.texts.values()) == {DEFAULT_TEXT}
    assert traffic.told_to_reconnect, "no stream was open when a server was told to stop"
    say(f"{RESTARTS} restarts, each with exit status 0 after: {spread(stops_s)}")
    say(f"{traffic.answered} requests answered, none failed; {len(traffic.run_ids)} runs completed")
    told = len(traffic.told_to_reconnect)
    say(f"{told} streams told to reconnect after: {spread(traffic.told_s)}")


async def restart(replica: Replica, traffic: Traffic) -> float:
    """Stop it as a service manager does, start it again on its port; return how long it took."""
    told_before = len(traffic.told_to_reconnect)
    begin = time.monotonic()
    status = await asyncio.to_thread(replica.stop, EXIT_S)
    stopped_s = time.monotonic() - begin
    assert status == 0, replica.log.read_text()[-4000:]
    told_s = [told - begin for told in traffic.told_to_reconnect[told_before:]]
    assert max(told_s, default=0.0) < TOLD_S
    traffic.told_s += told_s
    await asyncio.to_thread(replica.start)
    return stopped_s


async def test_an_answer_that_another_server_can_continue_is_handed_over_at_once(
    stage: Stage, tmp_path: Path
) -> None:
    env = model_env(stage.provider_url, TERTULIA_OPENAI_CONTINUATION="vllm")
    with (
        Replica(stage.dsn, tmp_path / "one.log", env=env) as one,
        Replica(stage.dsn, tmp_path / "two.log", env=env) as two,
    ):
        async with Person([one.url]) as person:
            conversation_id = await person.new_conversation(title="Long")
            run_id = await person.start_run(conversation_id, 'script: {"pace_ms": 300}')
            await asyncio.sleep(1.5)
            begin = time.monotonic()
            assert await asyncio.to_thread(one.stop) == 0
            # The rest of the answer would have taken more than eleven seconds.
            assert time.monotonic() - begin < 8.0
            person.urls = [two.url]
            run = await person.end_of(run_id)
            assert (run["status"], run["attempt"]) == ("completed", 2)
            path = f"/conversations/{conversation_id}/messages/{run['message_id']}"
            assert (await person.call("GET", path)).json()["content"] == DEFAULT_TEXT


async def test_a_server_that_stops_without_its_database_still_exits(
    postgres: EmbeddedPostgres, stage: Stage, tmp_path: Path
) -> None:
    # The database is dropped under it: every connection is cut, and none can be made again.
    gone = f"gone_{new_id().hex}"
    await fetch(postgres.dsn, f"CREATE DATABASE {gone} TEMPLATE migrated_template")
    dsn = postgres.dsn.replace("/tertulia?", f"/{gone}?")
    env = model_env(stage.provider_url, TERTULIA_DRAIN_S="2")
    with Replica(dsn, tmp_path / "one.log", env=env) as one:
        async with Person([one.url]) as person:
            conversation_id = await person.new_conversation()
            await person.start_run(conversation_id, 'script: {"pace_ms": 50}')
            await fetch(postgres.dsn, f"DROP DATABASE {gone} WITH (FORCE)")
            assert (await person.call("GET", "/ready")).status_code == 503
        assert await asyncio.to_thread(one.stop, EXIT_S) == 0
    said = one.log.read_text()
    assert "runs not handed over" in said
    assert '"event": "Traceback' not in said
