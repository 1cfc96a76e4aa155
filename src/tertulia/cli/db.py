"""`tertulia db`: the history of the schema."""

from typing import Annotated

import typer

from tertulia.cli.database import ANSWER_S, database, migrate, wait_for_database
from tertulia.cli.progress import Terminal
from tertulia.cli.settings import DataDir, load_settings
from tertulia.storage.revisions import newest_revision


def command() -> typer.Typer:
    """Return the group."""
    group = typer.Typer(add_completion=False, help="Migrate the database.", no_args_is_help=True)
    group.command()(upgrade)
    group.command()(downgrade)
    group.command()(current)
    return group


def upgrade(
    revision: Annotated[str, typer.Argument(help="Where to; the newest by default.")] = "head",
    data_dir: DataDir = None,
) -> None:
    """Bring the schema to a newer revision."""
    _migrate(revision, data_dir, up=True)


def downgrade(
    revision: Annotated[str, typer.Argument(help='Where to: a revision, "-1" or "base".')],
    data_dir: DataDir = None,
) -> None:
    """Take the schema back. What the newer revisions stored is lost."""
    _migrate(revision, data_dir, up=False)


def current(data_dir: DataDir = None) -> None:
    """Say which revision the database is at, and which is the newest."""
    terminal = Terminal()
    settings = load_settings(data_dir)
    with database(settings, terminal.step) as dsn:
        revision = wait_for_database(dsn, terminal.step).revision
        newest = newest_revision()
        note = "" if revision == newest else f" (the newest is {newest})"
        terminal.print(f"{revision or 'none'}{note}")


def _migrate(revision: str, data_dir: DataDir, *, up: bool) -> None:
    terminal = Terminal()
    settings = load_settings(data_dir)
    # It is run by itself where a deployment starts, perhaps together with its database.
    wait_s = settings.database_wait_s if up else ANSWER_S
    with database(settings, terminal.step, wait_s=wait_s) as dsn:
        migrate(dsn, revision, up=up)
        at = wait_for_database(dsn, terminal.step).revision
        terminal.good(f"The database is at revision {at or 'none'}.")
