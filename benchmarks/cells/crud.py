"""Lists, pages of messages, appends: requests that are one use of the database each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from uuid import UUID

from benchmarks.bench import Bench, Findings
from benchmarks.cells import cell
from benchmarks.figures import Comparison, Spread, cpu, p50, p99, rate
from benchmarks.people import Crowd
from benchmarks.requests import ask_one_by_one, get, post
from benchmarks.stage import Server, Stage
from benchmarks.yardsticks import tutorial
from benchmarks.yardsticks.pgbench import Script, run_pgbench
from benchmarks.yardsticks.ready_bytes import LIST_BYTES
from benchmarks.yardsticks.statements import recorded
from tertulia.conversations.messages import MessageService
from tertulia.domain.conversations import Role
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier

_PRODUCT, _FLOOR, _BYTES, _PGBENCH, _TUTORIAL = (
    "Tertulia",
    "floor",
    "ready bytes",
    "pgbench",
    "tutorial",
)
_NOBODY: Mapping[str, Server] = MappingProxyType({})
_COUNTED = 200
"""Requests whose statements are counted."""
_CONTENT = "A message of about a kilobyte, as somebody who explains a thing would write it. " * 13


@dataclass(frozen=True, slots=True)
class _Work:
    """A kind of request, for everybody who can do it."""

    title: str
    crowd: Crowd
    """Who asks, over HTTP or as pgbench's clients; the tutorial app knows them too."""
    requests: Sequence[str]
    use: Callable[[Database], Awaitable[object]]
    """What the product does with the database for the first of the crowd."""


@cell("list")
def measure_list(bench: Bench) -> Findings:
    """GET /conversations: the ten newest of a user, who has ten of twenty messages each."""
    stage = bench.stage
    crowd = stage.people.crowd(users=64, conversations=10, messages=20)
    path = "/conversations?limit=10"
    work = _Work(
        "list of 10",
        crowd,
        [get(path, crowd.token(user)) for user in range(64)],
        partial(_list, crowd.user_id()),
    )
    size = ask_one_by_one(stage.product().port, path, crowd.token(), times=1)
    ready = stage.yardstick("ready_bytes", **{LIST_BYTES: str(size)})
    findings = Findings()
    for connections in bench.size((1, 16, 64), (16,)):
        compared = _compare(bench, work, connections, {_BYTES: ready})
        findings.comparisons.append(compared)
        if connections == 16:
            findings.judge("1", compared.ratio(_TUTORIAL, _PRODUCT, cpu))
            findings.judge("2", compared.ratio(_PRODUCT, _PGBENCH, rate))
            findings.judge("3", compared.ratio(_PRODUCT, _BYTES, rate))
            tail = compared.spread(_PRODUCT, lambda sample: p99(sample) / p50(sample))
            findings.judge("9", tail)
    _count_statements(stage, crowd, findings)
    return findings


@cell("messages")
def measure_messages(bench: Bench) -> Findings:
    """GET /conversations/{id}/messages: a page of 50, of 0.6 kB each."""
    crowd = bench.stage.people.crowd(users=64, conversations=1, messages=50)
    paths = [f"/conversations/{crowd.conversation_id(user)}/messages" for user in range(64)]
    work = _Work(
        "50 messages",
        crowd,
        [get(path, crowd.token(user)) for user, path in enumerate(paths)],
        partial(_list_messages, crowd.conversation_id(), crowd.user_id()),
    )
    findings = Findings()
    for connections in bench.size((1, 16), (16,)):
        compared = _compare(bench, work, connections)
        findings.comparisons.append(compared)
        if connections == 16:
            findings.judge("4", compared.ratio(_TUTORIAL, _PRODUCT, cpu))
    return findings


@cell("append")
def measure_append(bench: Bench) -> Findings:
    """POST /conversations/{id}/messages: 1 kB, each connection in a conversation of its own."""
    crowd = bench.stage.people.crowd(users=64, conversations=1, messages=20)
    paths = [f"/conversations/{crowd.conversation_id(user)}/messages" for user in range(64)]
    body = {"role": "user", "content": _CONTENT}
    work = _Work(
        "append",
        crowd,
        [post(path, body, crowd.token(user)) for user, path in enumerate(paths)],
        partial(_append, crowd.conversation_id(), crowd.user_id()),
    )
    findings = Findings()
    for connections in bench.size((1, 16), (16,)):
        compared = _compare(bench, work, connections)
        findings.comparisons.append(compared)
        if connections == 16:
            findings.judge("5", compared.ratio(_TUTORIAL, _PRODUCT, cpu))
            findings.judge("5b", compared.ratio(_PRODUCT, _PGBENCH, rate))
    return findings


def _compare(
    bench: Bench, work: _Work, connections: int, others: Mapping[str, Server] = _NOBODY
) -> Comparison:
    """Let the product and all yardsticks do the work, from so many connections."""
    stage, seconds = bench.stage, bench.options.seconds
    servers = {_PRODUCT: stage.product(), _FLOOR: stage.yardstick("floor"), **others}
    sent = asyncio.run(recorded(stage.dsn, work.use))
    script = Script(sent, work.crowd.ids_by_client)
    return bench.rounds(
        f"{work.title}, c={connections}",
        {
            **{
                name: bench.asking(server, work.requests, connections)
                for name, server in servers.items()
            },
            _PGBENCH: lambda: run_pgbench(stage, script, clients=connections, seconds=seconds),
            _TUTORIAL: bench.asking(_tutorial(stage, work.crowd), work.requests, connections),
        },
    )


def _tutorial(stage: Stage, crowd: Crowd) -> Server:
    """Return the tutorial app, which knows the crowd."""
    dsn = stage.other_database("tutorial")
    tutorial.create_tables(dsn)
    stage.people.also_in_the_tutorial(dsn, crowd)
    return stage.yardstick("tutorial", **{tutorial.DSN: dsn})


async def _list(user_id: UUID, database: Database) -> None:
    async with database.reading() as work:
        await work.conversations.list(user_id=user_id, limit=10)


async def _list_messages(conversation_id: UUID, user_id: UUID, database: Database) -> None:
    async with database.reading() as work:
        await work.messages.list(conversation_id, user_id=user_id, limit=50)


async def _append(conversation_id: UUID, user_id: UUID, database: Database) -> None:
    await MessageService(database, Notifier(database)).append(
        conversation_id, user_id=user_id, role=Role.USER, content=_CONTENT
    )


def _count_statements(stage: Stage, crowd: Crowd, findings: Findings) -> None:
    """Count what PostgreSQL's log says of requests for 1, 10 and 100 conversations."""
    port = stage.product().port
    counted: list[float] = []
    for limit in (1, 10, 100):
        with stage.logged_statements() as count:
            began = time.monotonic()
            ask_one_by_one(port, f"/conversations?limit={limit}", crowd.token(), times=_COUNTED)
            during, lasted_s = count(), time.monotonic() - began
            # What the product asks without being asked.
            time.sleep(lasted_s)
            besides = count() - during
        counted.append(round((during - besides) / _COUNTED, 1))
    findings.judge("7", Spread.of(counted))
    findings.notes.append(
        "Statements a request for lists of 1, 10 and 100: "
        + ", ".join(f"{each:.1f}" for each in counted)
    )
