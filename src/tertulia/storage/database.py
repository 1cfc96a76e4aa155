"""Connections and transactions."""

import asyncio
import contextlib
import functools
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import asyncpg

from tertulia.domain.errors import (
    DatabaseUnavailable,
    OutcomeUnknown,
    TransactionConflict,
)
from tertulia.storage.connection import Connection, Driver, Row
from tertulia.storage.sqlstates import breaks_connection, translated
from tertulia.storage.statements import statement
from tertulia.storage.turns import Turns
from tertulia.storage.unit_of_work import UnitOfWork

_open: ContextVar[bool] = ContextVar("a unit of work is open", default=False)
_ALIVE = statement("SELECT 1 AS alive")
_CLOSE_S = 2.0
_S = TypeVar("_S")
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DatabaseLimits:
    """How long anything may take, so that no answer takes longer than seven seconds.

    Waiting until few wait for a turn, waiting for a turn (twice, where who asks is asked by
    itself), connecting and one stuck statement are what a request can wait for; the first fault
    ends it, and the guard ends what all of them together make too long.
    """

    pool_size: int = 10
    deletions: int = 2
    """At once; each may hold its connection for many seconds."""
    stuck_s: float = 1.5
    """How long no connection may come free before those who wait are turned away."""
    turn_s: float = 3.0
    """How long anybody waits for one while they do come free; before that as long again for few
    to wait."""
    connect_s: float = 2.0
    statement_s: float = 4.5
    lock_s: float = 4.0
    idle_in_transaction_s: float = 5.0
    """After this PostgreSQL itself ends a transaction whose process is frozen."""


class Database:
    """A pool of connections to one PostgreSQL.

    A connection is held for a statement or a transaction, never for a request, and never while
    anything but the database is awaited.
    """

    def __init__(self, pool: "asyncpg.Pool[Row]", dsn: str, limits: DatabaseLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._turns = Turns(limits.pool_size, stuck_s=limits.stuck_s, wait_s=limits.turn_s)
        self._idle: list[UnitOfWork] = []
        """On connections that are the pool's to make and to close, but not to look after between
        two uses: that would cost as much as the statement."""
        self._is_closing = False
        self._deletions = asyncio.Semaphore(limits.deletions)
        self.dsn = dsn

    @classmethod
    async def open(cls, dsn: str, limits: DatabaseLimits | None = None) -> "Database":
        """Connect to `dsn` (`postgresql://…`).

        Raises:
            DatabaseUnavailable: It cannot be reached.
        """
        limits = limits or DatabaseLimits()
        try:
            pool = await asyncpg.create_pool(
                dsn,
                # None is kept open for its own sake: the driver would go on about a floor that it
                # cannot restore while the database is away.
                min_size=0,
                max_size=limits.pool_size,
                timeout=limits.connect_s,
                command_timeout=limits.statement_s,
                statement_cache_size=256,
                max_cached_statement_lifetime=0,
                record_class=Row,
                init=_prepare,
                # Nothing is ever SET on a connection, so there is nothing to reset between uses;
                # the driver's default would cost as much as half the query.
                reset=_nothing,
                server_settings=_server_settings(limits),
            )
        except Exception as error:
            raise translated(error) or error from error
        database = cls(pool, dsn, limits)
        try:
            await database.check()
        except BaseException:
            pool.terminate()
            raise
        return database

    async def check(self) -> None:
        """Make sure that the database answers.

        Raises:
            DatabaseUnavailable: It does not.
        """
        async with self.reading() as work:
            await work.connection.one(_ALIVE)

    async def close(self) -> None:
        """Close every connection; those that do not answer are cut."""
        self._is_closing = True
        try:
            async with asyncio.timeout(_CLOSE_S):
                while self._idle:
                    await self._pool.release(self._idle.pop().connection.driver)
                await self._pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._pool.terminate()

    async def until_ready(self) -> None:
        """Wait while many wait for a connection; before work that ends in needing one.

        Raises:
            Overloaded: It is not to be expected soon.
        """
        await self._turns.until_short()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[UnitOfWork]:
        """Commit when the block ends, roll back when it raises. Never nested.

        Raises:
            TransactionConflict: PostgreSQL gave it up for another's sake; see `retried`.
            OutcomeUnknown: The connection broke during the commit.
            TertuliaError: As `sqlstates.translated` says.
        """
        async with self.reading() as work:
            driver = work.connection.driver
            transaction = driver.transaction()
            await transaction.start()
            try:
                yield work
            except BaseException as error:
                # Asking a connection that did not answer to roll back would only wait again;
                # cutting it makes PostgreSQL roll back by itself.
                if breaks_connection(error):
                    _cut(driver)
                elif _is_open(driver):
                    await transaction.rollback()
                raise
            try:
                await transaction.commit()
            except Exception as error:
                if _hides_the_outcome(error):
                    raise OutcomeUnknown from error
                raise

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[UnitOfWork]:
        """Run one statement that changes something, if it finds what: a transaction of its own.

        Raises:
            OutcomeUnknown: The connection broke before the answer came.
            TertuliaError: As `sqlstates.translated` says.
        """
        async with self.reading() as work:
            try:
                yield work
            except Exception as error:
                if _hides_the_outcome(error):
                    _cut(work.connection.driver)
                    raise OutcomeUnknown from error
                raise

    @asynccontextmanager
    async def deletion(self) -> AsyncGenerator[UnitOfWork]:
        """A transaction that may take long; few at once, so that the others find a connection."""
        async with self._deletions, self.transaction() as work:
            yield work

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[UnitOfWork]:
        """Run single statements, each its own transaction: what most reads need.

        Raises:
            TertuliaError: As `sqlstates.translated` says.
        """
        assert not _open.get(), "a unit of work is already open in this task"
        token = _open.set(True)
        try:
            async with self._turns:
                work = await self._take()
                try:
                    yield work
                except BaseException as error:
                    if breaks_connection(error):
                        _cut(work.connection.driver)
                    raise
                finally:
                    await self._give_back(work)
        except asyncpg.PostgresError as error:
            raise translated(error) or error from error
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            raise translated(error) or error from error
        finally:
            _open.reset(token)

    async def _take(self) -> UnitOfWork:
        while self._idle:
            work = self._idle.pop()
            if _is_open(work.connection.driver):
                return work
            await self._pool.release(work.connection.driver)
        try:
            driver = await self._pool.acquire(timeout=self._limits.connect_s)
        except TimeoutError as error:
            raise DatabaseUnavailable from error
        return UnitOfWork(Connection(driver))

    async def _give_back(self, work: UnitOfWork) -> None:
        driver = work.connection.driver
        if _is_open(driver) and driver.is_in_transaction():
            _cut(driver)
        elif _is_open(driver) and not self._is_closing:
            work.connection.hurry()
            self._idle.append(work)
            return
        # Shielded: a connection must find its way back even when its task is being cancelled.
        await asyncio.shield(self._pool.release(driver, timeout=self._limits.connect_s))


def _hides_the_outcome(error: Exception) -> bool:
    """Whether what was to be committed may have been."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(("08", "57"))
    return breaks_connection(error)


def _is_open(driver: Driver) -> bool:
    try:
        return not driver.is_closed()
    except asyncpg.InterfaceError:
        # A connection that breaks goes back to the pool by itself; its proxy is empty then.
        return False


def _cut(driver: Driver) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # the pool has it back already
        driver.terminate()


def retried(
    method: Callable[Concatenate[_S, _P], Awaitable[_T]],
) -> Callable[Concatenate[_S, _P], Awaitable[_T]]:
    """Let a use case be tried again when PostgreSQL gave its transaction up for another's sake.

    At most three more times, after a random part of 20, 40, 80 ms (so that the same two do not
    meet again). Only for methods that are one transaction and touch nothing else before it.
    """

    @functools.wraps(method)
    async def attempt(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        for pause_s in (0.02, 0.04, 0.08):
            try:
                return await method(self, *args, **kwargs)
            except TransactionConflict:
                await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311  jitter, no secret
        return await method(self, *args, **kwargs)

    return attempt


async def _prepare(driver: "asyncpg.Connection[Row]") -> None:
    await driver.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=_json)


def _json(text: str) -> object:
    # What most rows hold.
    return {} if text == "{}" else json.loads(text)


async def _nothing(_driver: "asyncpg.Connection[Row]") -> None:
    pass


def _server_settings(limits: DatabaseLimits) -> dict[str, str]:
    def milliseconds(seconds: float) -> str:
        return str(round(seconds * 1000))

    return {
        "application_name": "tertulia",
        "statement_timeout": milliseconds(limits.statement_s),
        "lock_timeout": milliseconds(limits.lock_s),
        "idle_in_transaction_session_timeout": milliseconds(limits.idle_in_transaction_s),
        "timezone": "UTC",
        "jit": "off",
        # Every list here is a walk along an index that stops after a page. PostgreSQL judges by
        # the average conversation, of a few messages, and would rather gather them all and sort:
        # with 100,000 of them that took 13 ms in the place of 0.6. A statement that needs a bitmap
        # (an index of words, say) turns this on for its transaction.
        "enable_bitmapscan": "off",
    }
