"""What an end-to-end test stands on: a database of its own and a provider in its own process."""

import asyncio
import subprocess
import sys
from collections.abc import Coroutine, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid1

import asyncpg

from tertulia.storage.embedded_cluster import PORT
from tests.conftest import TEMPLATE, database_dsn

Result = TypeVar("Result")

ROOT = Path(__file__).parents[2]
MODEL = "openai:scripted"


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Do something asynchronous in a fixture that outlives the loop of one test."""
    return asyncio.run(coroutine)


@contextmanager
def fresh_database(server_dsn: str, *, migrated: bool = True) -> Generator[str]:
    """Make a database that nobody else uses, and drop it at the end.

    Args:
        server_dsn: Of a database on the server of the test run.
        migrated: Whether it has the schema; else it is empty.
    """
    name = f"stage_{uuid1().hex}"
    template = f" TEMPLATE {TEMPLATE} STRATEGY file_copy" if migrated else ""
    run(_execute(server_dsn, f"CREATE DATABASE {name}{template}"))
    try:
        yield database_dsn(server_dsn, name)
    finally:
        run(_execute(server_dsn, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@contextmanager
def scripted_provider(log: Path) -> Generator[str]:
    """Start the scripted provider as a process; yield its base URL. `log` gets a line a call."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.scripted_provider", "--log", str(log)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def model_env(base_url: str, **more: str) -> Mapping[str, str]:
    """Return the settings of a replica whose only model is the scripted one."""
    return {"OPENAI_BASE_URL": base_url, "TERTULIA_DEFAULT_MODEL": MODEL, **more}


def socket_of(server_dsn: str) -> Path:
    """Return the Unix socket of the embedded PostgreSQL, for a proxy to stand before."""
    query = server_dsn.partition("?host=")[2]
    return Path(query.partition("&")[0].replace("%2F", "/")) / f".s.PGSQL.{PORT}"


def through(address: str, dsn: str) -> str:
    """Return the DSN of the same database, reached over TCP at `address`."""
    database = dsn.partition("?")[0].rpartition("/")[2]
    return f"postgresql://tertulia@{address}/{database}"


async def fetch(dsn: str, query: str, *values: object) -> list[asyncpg.Record]:
    """Ask the database beside the servers, under a name that no server uses."""
    connection = await _connect(dsn)
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()


async def fetch_number(dsn: str, query: str, *values: object) -> int:
    """Ask for one number."""
    return int((await fetch(dsn, query, *values))[0][0])


async def _execute(dsn: str, command: str) -> None:
    connection = await _connect(dsn)
    try:
        await connection.execute(command)
    finally:
        await connection.close()


async def _connect(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(dsn, timeout=10, server_settings={"application_name": "examiner"})
