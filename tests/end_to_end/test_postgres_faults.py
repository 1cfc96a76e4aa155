"""Promises G-21 to G-23: PostgreSQL away, frozen, locked, or with too few connections."""

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx2
import psutil
import pytest

from tertulia.telemetry.tasks import TaskSet
from tests.kit.chance import say
from tests.kit.client import Client, EventStream
from tests.kit.crowd import percentile, spread
from tests.kit.person import Person
from tests.kit.postgres_server import PostgresServer, durable_postgres
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fetch_number, model_env, scripted_provider, socket_of, through
from tests.kit.tcp_proxy import TcpProxy
from tests.kit.volley import request_of, volley
from tests.kit.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("postgres faults")]

POOL = sized(8, full=10)
OUTAGES = sized(1, full=7)
"""Of each kind; the shortest takes a second or less, the longest `OUTAGE_MAX_S`."""
OUTAGE_MAX_S = sized(0.0, full=60.0)
FROZEN_S, LOCKED_S = sized(3.0, full=30.0), sized(2.0, full=30.0)
TIMES = sized(1, full=10)
"""Faults that are over at once."""
STREAMED_RUNS = sized(12, full=100)
READERS = 5  # of each of these runs
REQUESTS = sized(200, full=1_000)
FIRST_503_S = sized(6.0, full=2.5)
"""The promise is 2 s; the rest is the machine's."""
SERVES_AGAIN_S = sized(15.0, full=5.0)
ANSWER_S = sized(15.0, full=7.0)
HEALTH_P99_S = sized(1.5, full=0.1)
"""The promise is 0.1 s, of which a few hundred answers say something."""
HEALTH_MAX_S = sized(1.5, full=2.0)
"""A loop that is blocked takes seconds."""
HELD = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'tertulia' AND state <> 'idle'
"""
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tertulia%'"


@dataclass(frozen=True)
class Stage:
    """One replica that reaches its PostgreSQL through a proxy."""

    server: PostgresServer
    proxy: TcpProxy
    replica: Replica


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("postgres_faults")
    with (
        # Not below pytest's own directory, which every start of pytest closes to other users.
        tempfile.TemporaryDirectory(prefix="tertulia-faults-") as directory,
        durable_postgres(Path(directory) / "data") as server,
        TcpProxy(socket_of(server.dsn)) as proxy,
        scripted_provider(home / "calls") as base_url,
        Replica(
            through(proxy.address, server.dsn),
            home / "replica.log",
            env=model_env(base_url, TERTULIA_POOL_SIZE=str(POOL)),
        ) as replica,
    ):
        yield Stage(server, proxy, replica)


@pytest.fixture
async def person(stage: Stage) -> AsyncIterator[Person]:
    async with Person([stage.replica.url]) as somebody:
        yield somebody


@dataclass(frozen=True)
class Timed:
    """An answer and how long it took, in seconds."""

    answer: httpx2.Response
    took_s: float


async def timed(asking: Awaitable[httpx2.Response]) -> Timed:
    begin = time.monotonic()
    answer = await asking
    return Timed(answer, time.monotonic() - begin)


def assert_says_later(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) >= 1
    assert set(answer.json()) >= {"detail", "code"}


async def assert_good_again(person: Person, conversation_id: str, since: float) -> float:
    """Within five seconds every read and write works; return after how many."""
    path = f"/conversations/{conversation_id}/messages"
    body = {"role": "user", "content": "again"}
    while True:
        asked = [person.call("GET", "/conversations") for _ in range(20)]
        answers = await asyncio.gather(person.call("POST", path, json=body), *asked)
        good_s = time.monotonic() - since
        refused = [answer for answer in answers if answer.status_code not in (200, 201)]
        if not refused:
            break
        for answer in refused:
            assert_says_later(answer)
        assert good_s < SERVES_AGAIN_S, f"{len(refused)} refused: {refused[0].text}"
        await asyncio.sleep(0.05)
    assert (await person.call("GET", "/ready")).status_code == 200
    return good_s


def assert_healthy(lags_s: list[float]) -> None:
    """Whatever else had to wait, the loop did not."""
    say(f"/health asked {len(lags_s)} times: {spread(lags_s)}")
    assert percentile(lags_s, 99) < HEALTH_P99_S
    assert max(lags_s) < HEALTH_MAX_S


@asynccontextmanager
async def watched_health(person: Person) -> AsyncGenerator[list[float]]:
    """Ask `/health` all the time and collect how long it takes, in seconds."""
    lags: list[float] = []

    async def watch() -> None:
        while True:
            health = await timed(person.call("GET", "/health"))
            assert health.answer.status_code == 200
            lags.append(health.took_s)
            await asyncio.sleep(0.02)

    tasks = TaskSet()
    watching = tasks.spawn(watch(), name="watch health")
    try:
        yield lags
    finally:
        was_watching = not watching.done()
        await tasks.cancel_all(1)
    assert was_watching, watching.exception()


async def take_away(stage: Stage, how: str) -> Callable[[], object]:
    """Make the database unreachable and return what makes it reachable again."""
    match how:
        case "stopped":
            await asyncio.to_thread(stage.server.stop_immediately)
            return stage.server.start_again
        case "refusing":
            stage.proxy.refuse()
            stage.proxy.reset()
            return stage.proxy.resume
        case _:
            stage.proxy.refuse()
            stage.proxy.half_close()
            return stage.proxy.resume


async def all_say_later(person: Person, conversation_id: str) -> list[float]:
    """Ask for this and that, see that the answer is 503, and return how long each took."""
    paths = ["/conversations", "/auth/me", f"/conversations/{conversation_id}/messages"]
    asked = [timed(person.call("GET", path)) for path in paths]
    asked.append(timed(person.call("POST", "/conversations", json={"title": "Away"})))
    found = await asyncio.gather(*asked)
    for each in found:
        assert_says_later(each.answer)
        assert each.took_s < FIRST_503_S
    assert (await person.call("GET", "/health")).status_code == 200
    assert_says_later(await person.call("GET", "/ready"))
    return [each.took_s for each in found]


@pytest.mark.parametrize("how", ["stopped", "refusing", "half closed"])
async def test_without_database_answers_are_503_soon_and_good_again_after(
    stage: Stage, person: Person, how: str
) -> None:
    conversation_id = await person.new_conversation()
    later_s: list[float] = []
    good_s: list[float] = []
    for number in range(OUTAGES):
        # From one second to the longest, each so many times as long as the one before.
        outage_s = OUTAGE_MAX_S ** (number / max(1, OUTAGES - 1)) if OUTAGE_MAX_S else 0.0
        give_back = await take_away(stage, how)
        ends = time.monotonic() + outage_s
        try:
            for _ in range(3):
                later_s += await all_say_later(person, conversation_id)
            while time.monotonic() < ends:
                later_s += await all_say_later(person, conversation_id)
                await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(give_back)
        good_s.append(await assert_good_again(person, conversation_id, time.monotonic()))
    titles = [each["title"] for each in (await person.call("GET", "/conversations")).json()]
    assert "Away" not in titles
    say(
        f"G-21 {how}: {OUTAGES} outages of up to {OUTAGE_MAX_S:.0f} s, {len(later_s)} answers 503 "
        f"({spread(later_s)}); good again after {spread(good_s)}"
    )


async def test_broken_connections_cost_one_answer_each_at_most(
    stage: Stage, person: Person
) -> None:
    lost = 0
    for _ in range(TIMES):
        await asyncio.gather(*(person.call("GET", "/conversations") for _ in range(4 * POOL)))
        stage.proxy.reset()
        answers = [await person.call("GET", "/conversations") for _ in range(2 * POOL)]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) <= POOL
        assert statuses[-1] == 200
        lost += statuses.count(503)
    say(f"G-21: all connections reset {TIMES} times: {lost} answers 503 at a pool of {POOL}")


async def ask_for(person: Person, conversation_id: str, seconds: float) -> list[Timed]:
    """Read and write for so long, ten at once."""
    found: list[Timed] = []
    deadline = time.monotonic() + seconds

    async def ask(number: int) -> None:
        while time.monotonic() < deadline:
            path = f"/conversations/{conversation_id}"
            body = {"role": "user", "content": "frozen"}
            asked = (
                person.call("GET", path)
                if number % 2
                else person.call("POST", f"{path}/messages", json=body)
            )
            found.append(await timed(asked))

    await asyncio.gather(*(ask(number) for number in range(10)))
    return found


def assert_bounded(found: list[Timed]) -> None:
    assert {each.answer.status_code for each in found} <= {200, 201, 503, 504}
    assert max(each.took_s for each in found) < ANSWER_S
    for each in found:
        if each.answer.status_code == 503:
            assert_says_later(each.answer)


def said_of(found: list[Timed]) -> str:
    statuses = Counter(each.answer.status_code for each in found)
    return f"answers {dict(statuses)}, {spread([each.took_s for each in found])}"


def server_processes(stage: Stage) -> list[int]:
    postmaster = psutil.Process(stage.server.pid())
    return [postmaster.pid, *(child.pid for child in postmaster.children())]


async def freeze(stage: Stage, how: str) -> Callable[[], object]:
    """Make the database silent and return what lets it speak again."""
    match how:
        case "a stalled network":
            stage.proxy.stall()
            return stage.proxy.resume
        case _:
            frozen = server_processes(stage)
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            return lambda: [os.kill(pid, signal.SIGCONT) for pid in frozen]


@pytest.mark.parametrize("how", ["a stalled network", "a frozen server"])
async def test_a_silent_database_bounds_every_answer(
    stage: Stage, person: Person, how: str
) -> None:
    conversation_id = await person.new_conversation()
    async with watched_health(person) as lags:
        thaw = await freeze(stage, how)
        try:
            found = await ask_for(person, conversation_id, FROZEN_S)
        finally:
            thaw()
        assert_bounded(found)
        assert {each.answer.status_code for each in found} & {503, 504}
        good_s = await assert_good_again(person, conversation_id, time.monotonic())
    say(f"G-22 {how} for {FROZEN_S:.0f} s: {said_of(found)}; good again after {good_s:.2f} s")
    assert_healthy(lags)


async def test_an_answer_that_stalls_in_its_middle_is_bounded(stage: Stage, person: Person) -> None:
    conversation_id = await person.new_conversation()
    content = "x" * 50_000
    for _ in range(4):
        body = {"role": "user", "content": content}
        await person.call("POST", f"/conversations/{conversation_id}/messages", json=body)
    took_s: list[float] = []
    for _ in range(TIMES):
        stage.proxy.delay(0.2)
        listing = TaskSet().spawn(
            timed(person.call("GET", f"/conversations/{conversation_id}/messages")), name="list"
        )
        await asyncio.sleep(0.7)
        stage.proxy.stall()
        try:
            found = await listing
        finally:
            stage.proxy.resume()
        assert_says_later(found.answer)
        assert found.took_s < ANSWER_S
        took_s.append(found.took_s)
        await assert_good_again(person, conversation_id, time.monotonic())
    say(f"G-22: {TIMES} answers stalled in their middle: 503, {spread(took_s)}")


@pytest.mark.parametrize(
    "lock",
    [
        "SELECT FROM conversations WHERE id = '{id}' FOR UPDATE",
        "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE",
    ],
    ids=["a row", "a table"],
)
async def test_a_lock_that_is_never_released_bounds_every_answer(
    stage: Stage, person: Person, lock: str
) -> None:
    conversation_id = await person.new_conversation()
    holder: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(stage.server.dsn)
    try:
        async with watched_health(person) as lags:
            async with holder.transaction():
                await holder.execute(lock.format(id=conversation_id))
                found = await ask_for(person, conversation_id, LOCKED_S)
            assert_bounded(found)
            assert 503 in {each.answer.status_code for each in found}
            good_s = await assert_good_again(person, conversation_id, time.monotonic())
    finally:
        await holder.close()
    say(f"G-22 a lock for {LOCKED_S:.0f} s: {said_of(found)}; good again after {good_s:.2f} s")
    assert_healthy(lags)


async def test_open_streams_hold_no_connection_and_starve_nobody(stage: Stage) -> None:
    tasks = TaskSet()
    async with Client([stage.replica.url]) as client:
        chats = [await client.new_conversation(title="Idle") for _ in range(STREAMED_RUNS)]
        run_ids = [await client.start_run(chat, 'script: {"stall_after": 2}') for chat in chats]
        streams = [await client.follow(run_id) for run_id in run_ids for _ in range(READERS)]
        assert {stream.status for stream in streams} == {200}
        readers = [tasks.spawn(read_on(stream), name="reader") for stream in streams]
        await asyncio.sleep(0.5)
        try:
            reads = [request_of(client, "GET", "/conversations")] * (REQUESTS // 2)
            writes = [request_of(client, "POST", "/conversations", {})] * (REQUESTS // 2)
            async with asyncio.timeout(30):
                found = await volley(stage.replica.url, [*reads, *writes])
            shed = [each for each in found if each.status not in (200, 201)]
            say(
                f"G-23: {len(streams)} idle streams, {REQUESTS} requests at once, pool {POOL}: "
                f"{len(shed)} shed; all {spread([each.took_s for each in found])}, "
                f"shed {spread([each.took_s for each in shed] or [0.0])}"
            )
            for each in shed:
                assert (each.status, "retry-after" in each.headers) == (503, True)
                assert each.took_s < FIRST_503_S
            await until(lambda: holds_none(stage), "all connections to be free", within_s=3)
            assert await fetch_number(stage.server.dsn, CONNECTIONS) <= POOL
            assert not [reader for reader in readers if reader.done()]
        finally:
            await tasks.cancel_all(5)
            for stream in streams:
                stream.cut("rst")
            for run_id in run_ids:
                await client.insist("POST", f"/runs/{run_id}/cancel")


async def read_on(stream: EventStream) -> None:
    async for _ in stream.events():
        pass


async def holds_none(stage: Stage) -> bool:
    return not await fetch_number(stage.server.dsn, HELD)
