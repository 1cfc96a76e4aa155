"""What PostgreSQL's and the driver's errors mean for a caller.

Codes: PostgreSQL manual, appendix A. Nothing that the database does becomes a 500.
"""

import asyncio

import asyncpg

from tertulia.domain.errors import (
    Conflict,
    DatabaseUnavailable,
    Invalid,
    NotFound,
    Overloaded,
    TertuliaError,
    TransactionConflict,
)

_RETRYABLE = frozenset({"40001", "40P01"})
_BAD_TEXT = frozenset({"22021", "22P02", "22P05", "22003", "22001", "22007", "22008", "22000"})
_CONNECTION_FAULTS = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,
    OSError,
    asyncio.IncompleteReadError,
)


def translated(error: BaseException) -> TertuliaError | None:
    """Return what a caller is told about a database error; None if it is not one."""
    match error:
        case asyncpg.PostgresError():
            return _by_sqlstate(error)
        case TimeoutError():
            return DatabaseUnavailable("The database did not answer in time; try again")
        case _ if isinstance(error, _CONNECTION_FAULTS):
            return DatabaseUnavailable()
        case _:
            return None


def breaks_connection(error: BaseException) -> bool:
    """Whether the connection must be thrown away: nobody knows what it is in the middle of."""
    if isinstance(error, asyncpg.PostgresError):
        return False
    return isinstance(error, (TimeoutError, asyncio.CancelledError, *_CONNECTION_FAULTS))


def _by_sqlstate(error: asyncpg.PostgresError) -> TertuliaError:
    code = error.sqlstate or ""
    if code in _RETRYABLE:
        return TransactionConflict(retry_after_s=1)
    if code == "23505":
        return Conflict("It exists already")
    if code == "23503":
        return NotFound("What this refers to does not exist any more")
    if code in _BAD_TEXT or code.startswith("23"):
        return Invalid("The database cannot store this value")
    if code == "53300":
        return Overloaded("The database has no connection left; try again")
    return DatabaseUnavailable()
