"""Looking at a PostgreSQL."""

import asyncpg

from tertulia.storage import migrations
from tertulia.storage.inspection import inspect


async def test_a_migrated_database_tells_its_revision(dsn: str) -> None:
    state = await inspect(dsn)
    assert state.revision == migrations.head()
    assert state.version.startswith("18")
    assert state.max_connections == 200


async def test_settings_that_lose_answers_are_named_with_their_remedy(dsn: str) -> None:
    state = await inspect(dsn)
    assert not state.faults
    # The test run's own PostgreSQL is as unsafe as it is fast.
    assert [each.name for each in state.unsafe] == [
        "fsync",
        "full_page_writes",
        "synchronous_commit",
    ]
    assert str(state.unsafe[0]) == (
        "fsync is off. Turn it on: take -c fsync=off off the command that starts PostgreSQL."
    )


async def test_a_setting_of_the_database_is_reset_there(dsn: str) -> None:
    name = dsn.partition("?")[0].rpartition("/")[2]
    admin: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    await admin.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await admin.close()

    remedies = {each.name: each.remedy for each in (await inspect(dsn)).unsafe}
    assert remedies["synchronous_commit"] == f'ALTER DATABASE "{name}" RESET synchronous_commit;'
