"""What can be known about a PostgreSQL before anything is done with it."""

from dataclasses import dataclass

import asyncpg

from tertulia.storage.unreachable import why_not

OLDEST_VERSION = 15

_STATE = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       current_setting('server_encoding') AS encoding,
       current_setting('max_connections')::int AS max_connections,
       current_database() AS database,
       current_user AS role,
       pg_is_in_recovery() AS is_standby,
       to_regclass('alembic_version') IS NOT NULL AS is_migrated
"""
_UNSAFE = """
SELECT name, setting, source FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off'
ORDER BY name
"""


@dataclass(frozen=True, slots=True)
class UnsafeSetting:
    """A setting with which PostgreSQL may lose what it acknowledged, should it crash."""

    name: str
    value: str
    remedy: str
    """What to do: half a sentence, or SQL."""

    def __str__(self) -> str:
        return f"{self.name} is {self.value}. Turn it on: {self.remedy}"


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """A PostgreSQL that answers."""

    version: str
    max_connections: int
    revision: str | None
    """Of our schema; None if it was never migrated."""
    faults: tuple[str, ...]
    """Why it cannot be used at all, one sentence each; the last words say what to do."""
    unsafe: tuple[UnsafeSetting, ...]
    """Why what it stores may be lost: good enough for trying things out, not for production."""


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
            unsafe = await connection.fetch(_UNSAFE)
            revision = None
            if row["is_migrated"]:
                revision = await connection.fetchval("SELECT version_num FROM alembic_version")
        finally:
            await connection.close(timeout=timeout_s)
    except (
        OSError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        raise why_not(error, dsn) from error
    return DatabaseState(
        version=row["version"],
        max_connections=row["max_connections"],
        revision=revision,
        faults=_faults(row),
        unsafe=tuple(
            UnsafeSetting(each["name"], each["setting"], _remedy(each, row)) for each in unsafe
        ),
    )


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
    return tuple(faults)


def _remedy(setting: asyncpg.Record, state: asyncpg.Record) -> str:
    """Return how the setting is turned on, which depends on where it was turned off."""
    name, database, role = setting["name"], state["database"], state["role"]
    # The words of the manual's section on pg_settings; a narrower place wins over ALTER SYSTEM.
    match setting["source"]:
        case "command line":
            return f"take -c {name}={setting['setting']} off the command that starts PostgreSQL."
        case "database":
            return f'ALTER DATABASE "{database}" RESET {name};'
        case "user":
            return f'ALTER ROLE "{role}" RESET {name};'
        case "database user":
            return f'ALTER ROLE "{role}" IN DATABASE "{database}" RESET {name};'
        case "client":
            return "take it out of DATABASE_URL."
        case _:
            return f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"
