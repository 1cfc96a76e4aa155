"""The history of the schema, and the three things one does with it."""

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

_HERE = Path(__file__).parent


def upgrade(dsn: str, revision: str = "head") -> None:
    """Bring the database at `dsn` to a revision; safe to call from many processes at once."""
    command.upgrade(_config(dsn), revision)


def downgrade(dsn: str, revision: str) -> None:
    """Take the database at `dsn` back to a revision (`-1`: the one before)."""
    command.downgrade(_config(dsn), revision)


def head() -> str:
    """Return the newest revision this code knows."""
    revision = ScriptDirectory.from_config(_config("")).get_current_head()
    assert revision is not None, "there is at least one migration"
    return revision


def engine_of(dsn: str) -> AsyncEngine:
    """Return SQLAlchemy's way to the database at `dsn`, which only migrations go."""

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        # The driver reads the DSN, here as everywhere: SQLAlchemy knows fewer of its parameters.
        return await asyncpg.connect(dsn)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


def _config(dsn: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    return config
