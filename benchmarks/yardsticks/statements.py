"""The statements that the product sends, taken down while it sends them: they cannot drift."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from unittest.mock import patch

import asyncpg

from tertulia.storage.connection import Row
from tertulia.storage.database import Database


@dataclass(frozen=True, slots=True)
class Sent:
    """One statement, what it was given, and what came back."""

    sql: str
    arguments: Sequence[Any] = ()
    rows: Sequence[Row] = ()


# Generic only for type checkers.
if TYPE_CHECKING:
    _Connection = asyncpg.Connection[Row]
else:
    _Connection = asyncpg.Connection


class _Recorder(_Connection):
    """The driver's connection; it takes down what it is asked, beginnings and commits too."""

    sent: ClassVar[list[Sent]] = []

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Row]:  # noqa: ANN401  the driver's
        rows = await super().fetch(query, *args, **options)
        self.sent.append(Sent(query, args, rows))
        return rows

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Row | None:  # noqa: ANN401  the driver's
        row = await super().fetchrow(query, *args, **options)
        self.sent.append(Sent(query, args, [] if row is None else [row]))
        return row

    async def execute(self, query: str, *args: Any, **options: Any) -> str:  # noqa: ANN401  the driver's
        self.sent.append(Sent(query.rstrip(";"), args))
        return await super().execute(query, *args, **options)


async def recorded(dsn: str, use: Callable[[Database], Awaitable[object]]) -> list[Sent]:
    """Return the statements of one use of the product's database."""
    # The product has no say in what its driver's connections are; nobody else needs it to.
    recording = partial(asyncpg.create_pool, connection_class=_Recorder)
    with patch.object(asyncpg, "create_pool", recording):
        database = await Database.open(dsn)
    try:
        _Recorder.sent.clear()
        await use(database)
        return list(_Recorder.sent)
    finally:
        await database.close()
