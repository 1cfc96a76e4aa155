"""Alembic's entry: connect, take the lock, migrate."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from tertulia.storage.migrations import engine_of
from tertulia.storage.tables import metadata

# Any number will do, as long as it is always the same: "tertulia" in ASCII.
_LOCK = 0x74657274756C6961


def _migrate(connection: Connection) -> None:
    # A migration that waits for a lock makes everybody behind it wait too: give up early and let
    # it be run again. Waiting for another migrator is different, and may take as long as it takes.
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    connection.execute(text("SET lock_timeout = '2s'"))
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK})
        connection.commit()


async def _connect_and_migrate() -> None:
    dsn: str = context.config.attributes["dsn"]
    engine = engine_of(dsn)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


asyncio.run(_connect_and_migrate())
