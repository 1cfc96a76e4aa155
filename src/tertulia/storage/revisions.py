"""Moving the schema to a revision, with failures told in words."""

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from tertulia.storage import migrations


class MigrationFailed(Exception):  # noqa: N818  named for what happened
    """The schema is where it was; the text says why."""


def move(dsn: str, revision: str, *, up: bool) -> None:
    """Bring the schema of the database at `dsn` up or down to `revision`.

    Raises:
        MigrationFailed: There is no such revision, or PostgreSQL refused.
    """
    try:
        if up:
            migrations.upgrade(dsn, revision)
        else:
            migrations.downgrade(dsn, revision)
    except CommandError as error:
        raise MigrationFailed(f"{error} (the newest revision is {migrations.head()}).") from error
    except DBAPIError as error:
        raise MigrationFailed(
            f"PostgreSQL refused: {error.orig}. Nothing was changed; try again when nothing else "
            "holds locks on the tables."
        ) from error
