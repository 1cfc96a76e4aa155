"""The history of the schema, and the three things one does with it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL, make_url

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


def sqlalchemy_url(dsn: str) -> URL:
    """Return `dsn` for SQLAlchemy: `postgresql+asyncpg`, which only migrations go through."""
    return make_url(dsn).set(drivername="postgresql+asyncpg")


def _config(dsn: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.attributes["dsn"] = dsn
    return config
