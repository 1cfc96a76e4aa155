"""Looking at a PostgreSQL."""

import pytest

from tertulia.storage import migrations
from tertulia.storage.inspection import DatabaseNotReady, inspect


async def test_a_migrated_database_tells_its_revision(dsn: str) -> None:
    state = await inspect(dsn)
    assert state.revision == migrations.head()
    assert state.version.startswith("18")
    assert state.max_connections == 200


async def test_settings_that_lose_answers_are_faults(dsn: str) -> None:
    state = await inspect(dsn)
    # The test run's own PostgreSQL is as unsafe as it is fast.
    assert [fault.split()[0] for fault in state.faults] == [
        "fsync",
        "full_page_writes",
        "synchronous_commit",
    ]


async def test_a_database_that_is_not_there_may_come(dsn: str) -> None:
    with pytest.raises(DatabaseNotReady, match="does not exist") as failure:
        await inspect(dsn.replace("/test_", "/missing_"))
    assert not failure.value.is_lasting


async def test_a_server_that_is_not_there_may_come() -> None:
    with pytest.raises(DatabaseNotReady) as failure:
        await inspect("postgresql://nobody@127.0.0.1:1/nothing")
    assert not failure.value.is_lasting


async def test_a_refused_user_is_lasting(dsn: str) -> None:
    with pytest.raises(DatabaseNotReady, match="mallory") as failure:
        await inspect(dsn.replace("tertulia@", "mallory@"))
    assert failure.value.is_lasting
