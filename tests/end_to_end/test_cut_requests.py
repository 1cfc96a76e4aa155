"""Promise G-24: a request that its client cuts off leaves nothing behind."""

import asyncio
import json
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.chance import say, seeded
from tests.kit.crowd import crowd
from tests.kit.person import Person
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import (
    fetch_number,
    fresh_database,
    model_env,
    scripted_provider,
)
from tests.kit.tcp_proxy import TcpProxy
from tests.kit.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("cut requests")]

POOL = 8
REQUESTS = sized(300, full=10_000)
AT_ONCE = 20
DESCRIPTORS_MORE = sized(4, full=2)
QUIET_S = sized(0.0, full=20.0)
"""After which client, server and provider have let go of connections that they kept for reuse."""
SETTLES_S = 8.0
AGAIN = sized(15, full=90)
"""Messages whose answers are cut, for each way to cut."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'tertulia%' AND state <> 'idle'
"""
CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'tertulia%'
"""


@dataclass(frozen=True)
class Stage:
    """One replica with a small pool."""

    dsn: str
    replica: Replica

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.replica.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def descriptors(self) -> int:
        return psutil.Process(self.replica.process.pid).num_fds()

    def memory_mb(self) -> int:
        return psutil.Process(self.replica.process.pid).memory_info().rss >> 20


@pytest.fixture(scope="module")
def stage(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home: Path = tmp_path_factory.mktemp("cut_requests")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(home / "calls") as base_url,
        Replica(
            dsn, home / "replica.log", env=model_env(base_url, TERTULIA_POOL_SIZE=str(POOL))
        ) as replica,
    ):
        yield Stage(dsn, replica)


def requests_of(person: Person, conversation_id: str) -> list[bytes]:
    """Return requests of every kind, as they go over the wire."""
    chat = f"/conversations/{conversation_id}"
    asked: list[tuple[str, str, object]] = [
        ("GET", "/auth/me", None),
        ("GET", "/conversations", None),
        ("POST", "/conversations", {"title": "cut", "first_message": "cut"}),
        ("POST", f"{chat}/messages", {"role": "user", "content": "cut " * 500}),
        ("PATCH", chat, {"title": "cut"}),
        ("POST", f"{chat}/runs", {"content": "cut", "on_busy": "interrupt"}),
        ("GET", f"/text/generate/stream?prompt=cut&conversation_id={conversation_id}", None),
    ]
    return [_bytes_of(person, method, path, body) for method, path, body in asked]


def _bytes_of(person: Person, method: str, path: str, body: object) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: cut\r\nAuthorization: Bearer {person.token}\r\n"
    if content:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content


async def cut(stage: Stage, request: bytes, chance: random.Random) -> None:
    """Send it to a random byte, or read its answer to a random byte, and be gone."""
    reader, writer = await asyncio.open_connection(*stage.address)
    if chance.random() < 0.5:
        writer.write(request[: chance.randrange(1, len(request))])
    else:
        writer.write(request)
        if chance.random() < 0.7:
            await reader.read(chance.randrange(1, 2000))
    await asyncio.sleep(chance.uniform(0, 0.02))
    if chance.random() < 0.5:
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


async def settled(stage: Stage, base_descriptors: int) -> None:
    """Wait until nothing of the cut requests is left."""

    async def nothing_is_left() -> bool:
        more = stage.descriptors() - base_descriptors
        return more <= DESCRIPTORS_MORE and not await fetch_number(stage.dsn, IN_TRANSACTION)

    await until(nothing_is_left, "nothing to be left", within_s=SETTLES_S)


async def cut_many(stage: Stage, people: list[Person], chance: random.Random, times: int) -> None:
    """Cut so many requests while both people ask who they are; all connections are closed after."""
    urls = [stage.replica.url]
    async with Person.known(people[0], urls) as one, Person.known(people[1], urls) as two:
        requests: list[bytes] = []
        for person in (one, two):
            requests += requests_of(person, await person.new_conversation())

        async def cut_some(_: int) -> None:
            cuts = [cut(stage, chance.choice(requests), chance) for _ in range(AT_ONCE)]
            seen = await asyncio.gather(
                *(person.call("GET", "/auth/me") for person in (one, two) for _ in range(3)),
                *cuts,
            )
            ids = [answer.json().get("id") for answer in seen[:6] if answer is not None]
            assert ids == [one.id] * 3 + [two.id] * 3

        await crowd(cut_some, count=times // AT_ONCE, at_once=1)


async def test_cut_requests_leave_no_transaction_connection_or_descriptor(stage: Stage) -> None:
    chance = seeded()
    async with Person([stage.replica.url]) as one, Person([stage.replica.url]) as two:
        people = [one, two]
    # So that the pool stands as it will.
    await cut_many(stage, people, chance, 2 * AT_ONCE)
    await asyncio.sleep(QUIET_S)
    base, base_mb = stage.descriptors(), stage.memory_mb()
    await cut_many(stage, people, chance, REQUESTS)
    await asyncio.sleep(QUIET_S)
    await settled(stage, base)
    connections = await fetch_number(stage.dsn, CONNECTIONS)
    say(
        f"G-24: {REQUESTS} requests cut at a random byte, none in a transaction; descriptors "
        f"{base}, then {stage.descriptors()}; {connections} connections of at most "
        f"{POOL}; memory {base_mb} MB, then {stage.memory_mb()} MB"
    )
    assert connections <= POOL
    async with Person.known(one, [stage.replica.url]) as again:
        assert (await again.call("GET", "/ready")).status_code == 200
    assert "unhandled exception" not in stage.replica.log.read_text()
    assert '"status": 500' not in stage.replica.log.read_text()


async def test_answers_cut_by_the_network_can_be_asked_for_again(stage: Stage) -> None:
    chance = seeded()
    with TcpProxy(stage.address, seed=chance.randrange(2**32)) as proxy:
        async with Person([stage.replica.url]) as direct:
            conversation_id = await direct.new_conversation()
            path = f"/conversations/{conversation_id}/messages"
            for ending in ("rst", "fin"):
                proxy.cut_each_within(1, 4000, ending)
                for number in range(AGAIN):
                    key = f"{ending}-{number}"
                    async with Person.known(direct, [f"http://{proxy.address}"]) as cut_off:
                        body = {"role": "user", "content": key}
                        made = await cut_off.insist("POST", path, json=body, key=key)
                    assert made.json()["content"] == key
            listed = (await direct.call("GET", f"{path}?limit=200")).json()
    contents = [message["content"] for message in listed]
    assert len(contents) == len(set(contents)) == 2 * AGAIN
    say(f"G-24: {2 * AGAIN} answers cut by the network, asked for again: each message once")
