"""What can be known about a PostgreSQL before anything is done with it."""

from dataclasses import dataclass

import asyncpg

OLDEST_VERSION = 15

_LASTING = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ClientConfigurationError,
)
"""Errors that waiting does not mend."""

_STATE = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('max_connections')::int AS max_connections,
       pg_is_in_recovery() AS is_standby,
       to_regclass('alembic_version') IS NOT NULL AS is_migrated
"""


class DatabaseNotReady(Exception):  # noqa: N818  named for what happened
    """A PostgreSQL cannot be asked.

    Attributes:
        is_lasting: Whether waiting is in vain, as for a wrong password.
    """

    def __init__(self, reason: str, *, is_lasting: bool) -> None:
        self.is_lasting = is_lasting
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """A PostgreSQL that answers."""

    version: str
    max_connections: int
    revision: str | None
    """Of our schema; None if it was never migrated."""
    faults: tuple[str, ...]
    """What is wrong with it for our purposes, one sentence each; the last words say what to do."""


async def inspect(dsn: str, *, timeout_s: float = 5.0) -> DatabaseState:
    """Connect to `dsn` and look.

    Raises:
        DatabaseNotReady: It cannot be reached, refuses us, or does not answer in time.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=timeout_s, command_timeout=timeout_s)
        try:
            row = await connection.fetchrow(_STATE)
            assert row is not None
            revision = None
            if row["is_migrated"]:
                revision = await connection.fetchval("SELECT version_num FROM alembic_version")
        finally:
            await connection.close(timeout=timeout_s)
    except TimeoutError as error:
        raise DatabaseNotReady(f"no answer in {timeout_s:.0f} s", is_lasting=False) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseNotReady(
            str(error) or type(error).__name__, is_lasting=isinstance(error, _LASTING)
        ) from error
    return DatabaseState(row["version"], row["max_connections"], revision, _faults(row))


def _faults(row: asyncpg.Record) -> tuple[str, ...]:
    faults: list[str] = []
    if row["major"] < OLDEST_VERSION:
        faults.append(f"PostgreSQL {row['version']} is too old: use {OLDEST_VERSION} or newer.")
    if row["encoding"] != "UTF8":
        faults.append(
            f"Its encoding is {row['encoding']}, which cannot hold every text: make a database "
            "with ENCODING 'UTF8'."
        )
    if row["is_standby"]:
        faults.append("It is a standby and takes no writes: connect to the primary.")
    faults += [
        f"{name} is off, so answers that were shown may be lost in a crash: turn it on."
        for name in ("fsync", "full_page_writes", "synchronous_commit")
        if row[name] == "off"
    ]
    return tuple(faults)
