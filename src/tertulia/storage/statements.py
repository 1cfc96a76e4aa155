"""SQL statements, written with SQLAlchemy, compiled once, run by asyncpg.

SQLAlchemy's own execution costs 0.25 to 0.44 ms of CPU a statement, asyncpg's 0.07
(`docs/decisions/0002-core-compiled-once-run-by-asyncpg.md`), so SQLAlchemy is used for what it is
best at, composing and checking statements, and stays out of the way when they run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql.elements import ClauseElement

_DIALECT = asyncpg.dialect()


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in asyncpg's form, and the order in which it takes its parameters."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of `$1, $2 …`. A missing one is a KeyError."""
        if not self.constants:
            return [parameters[name] for name in self.names]
        constants = self.constants
        return [parameters[name] if name in parameters else constants[name] for name in self.names]


def statement(source: ClauseElement | str) -> Statement:
    """Compile a Core statement, or SQL with `:named` parameters."""
    element = text(source) if isinstance(source, str) else source
    compiled = element.compile(dialect=_DIALECT)
    names = tuple(compiled.positiontup or ())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]  # on SQLCompiler, not in its stub
    constants = {
        name: value for name, value in (compiled.params or {}).items() if value is not None
    }
    return Statement(sql=str(compiled), names=names, constants=constants)
