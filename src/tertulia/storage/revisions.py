"""Moving the schema to a revision, with failures told in words.

Alembic is only loaded to move something: most starts find the schema where it belongs, and loading
it takes as long as starting PostgreSQL.
"""

from pathlib import Path

_VERSIONS = Path(__file__).parent / "migrations" / "versions"


class MigrationFailed(Exception):  # noqa: N818  named for what happened
    """The schema is where it was; the text says why."""


def newest_revision() -> str:
    """Return the newest revision this code knows: files are named by theirs, in their order."""
    return max(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*_*.py"))


def move(dsn: str, revision: str, *, up: bool) -> None:
    """Bring the schema of the database at `dsn` up or down to `revision`.

    Raises:
        MigrationFailed: There is no such revision, or PostgreSQL refused.
    """
    from alembic.util import CommandError  # noqa: PLC0415  heavy, and rarely wanted
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415  the same

    from tertulia.storage import migrations  # noqa: PLC0415  the same

    try:
        if up:
            migrations.upgrade(dsn, revision)
        else:
            migrations.downgrade(dsn, revision)
    except CommandError as error:
        raise MigrationFailed(f"{error} (the newest revision is {newest_revision()}).") from error
    except DBAPIError as error:
        raise MigrationFailed(
            f"PostgreSQL refused: {error.orig}. Nothing was changed; try again when nothing else "
            "holds locks on the tables."
        ) from error
