"""One PostgreSQL for the whole test run, one freshly migrated database for each test."""

import asyncio
import fcntl
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid1

import asyncpg
import pytest
import structlog

from tertulia.storage import migrations
from tertulia.storage.database import Database, DatabaseLimits
from tertulia.storage.embedded import EmbeddedPostgres

TEMPLATE = "migrated_template"
_SLOW = frozenset({"end_to_end", "cli"})


def pytest_configure() -> None:
    """Log tracebacks plainly: the default draws them with all variables, which takes seconds."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: the last of them would keep one process waiting."""
    items.sort(key=lambda item: not _SLOW.intersection(item.path.parts))


@pytest.fixture(scope="session")
def postgres(testrun_uid: str) -> Iterator[EmbeddedPostgres]:
    """The embedded PostgreSQL, shared by all test processes; the last to leave stops it."""
    # Not below pytest's own directory, which every start of pytest closes to other users, and so
    # to the one that PostgreSQL runs as where the tests run as root.
    home = Path(tempfile.gettempdir()) / f"tertulia-tests-{testrun_uid}"
    home.mkdir(exist_ok=True)
    # Tests lose nothing when the machine loses power, so they need not wait for the disk.
    unsafe = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
    server = EmbeddedPostgres.start(home, lambda _line: None, extra=unsafe)
    try:
        with (home / "template.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if asyncio.run(_create_if_missing(server.dsn)):
                migrations.upgrade(database_dsn(server.dsn, TEMPLATE))
        yield server
    finally:
        if server.stop():
            shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A migrated database that only this test uses."""
    name = f"test_{uuid1().hex}"
    admin = await asyncpg.connect(postgres.dsn)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        yield database_dsn(postgres.dsn, name)
    finally:
        await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await admin.close()


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """The test's database, open."""
    database = await Database.open(dsn, DatabaseLimits(pool_size=5))
    yield database
    await database.close()


def database_dsn(dsn: str, name: str) -> str:
    """Return `dsn` with another database's name."""
    before, _, query = dsn.partition("?")
    return f"{before.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


async def _create_if_missing(dsn: str) -> bool:
    admin = await asyncpg.connect(dsn)
    try:
        if await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", TEMPLATE):
            return False
        await admin.execute(f"CREATE DATABASE {TEMPLATE}")
        return True
    finally:
        await admin.close()
