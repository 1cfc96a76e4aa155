"""Moving the schema."""

import asyncio
import sys

import pytest

from tertulia.storage import migrations
from tertulia.storage.inspection import inspect
from tertulia.storage.revisions import MigrationFailed, move, newest_revision


async def test_down_to_nothing_and_up_again(dsn: str) -> None:
    await asyncio.to_thread(move, dsn, "base", up=False)
    assert (await inspect(dsn)).revision is None

    await asyncio.to_thread(move, dsn, "head", up=True)
    assert (await inspect(dsn)).revision == migrations.head()


def test_the_newest_revision_is_where_alembic_goes() -> None:
    assert newest_revision() == migrations.head()


async def test_an_unknown_revision_is_named(dsn: str) -> None:
    with pytest.raises(MigrationFailed, match="no_such_revision"):
        await asyncio.to_thread(move, dsn, "no_such_revision", up=True)


async def test_four_processes_at_once_migrate_once(dsn: str) -> None:
    await asyncio.to_thread(move, dsn, "base", up=False)
    migrate = (
        "import sys; from tertulia.storage.revisions import move; move(*sys.argv[1:], up=True)"
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", migrate, dsn, "head")
        for _ in range(4)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0, 0]
    assert (await inspect(dsn)).revision == migrations.head()
