"""One connection to PostgreSQL, and the rows that come from it."""

from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

from tertulia.storage.statements import Statement

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

Driver: TypeAlias = "PoolConnectionProxy[Row]"


class Row(asyncpg.Record):
    """A row whose columns are attributes, too; where many rows are read, `row["id"]` is quicker."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  a column is of any type
        """Return a column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Connection:
    """Runs statements, one at a time."""

    __slots__ = ("_timeout_s", "driver")

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._timeout_s: float | None = None  # the pool's own

    async def be_patient(self, statement_s: float) -> None:
        """Let each later statement of this transaction take so long.

        For the few whose work grows with a user's history: deleting it.
        """
        self._timeout_s = statement_s
        milliseconds = round(statement_s * 1000)
        await self.driver.execute(f"SET LOCAL statement_timeout = {milliseconds:d}")

    def hurry(self) -> None:
        """Forget that this transaction was patient: it has ended."""
        self._timeout_s = None

    async def all(self, query: Statement, **parameters: Any) -> list[Row]:  # noqa: ANN401  a value of any type
        """Return every row."""
        arguments = query.arguments(parameters)
        return await self.driver.fetch(query.sql, *arguments, timeout=self._timeout_s)

    async def first(self, query: Statement, **parameters: Any) -> Row | None:  # noqa: ANN401  a value of any type
        """Return the first row, or None."""
        arguments = query.arguments(parameters)
        return await self.driver.fetchrow(query.sql, *arguments, timeout=self._timeout_s)

    async def one(self, query: Statement, **parameters: Any) -> Row:  # noqa: ANN401  a value of any type
        """Return the row that is certainly there."""
        row = await self.first(query, **parameters)
        assert row is not None, "the statement returned no row"
        return row

    async def run(self, query: Statement, **parameters: Any) -> int:  # noqa: ANN401  a value of any type
        """Run it and return the number of rows it changed."""
        arguments = query.arguments(parameters)
        status = await self.driver.execute(query.sql, *arguments, timeout=self._timeout_s)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0
