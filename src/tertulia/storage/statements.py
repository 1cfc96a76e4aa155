"""SQL statements with named parameters, compiled once, run by asyncpg.

See `docs/decisions/0014-sql-as-text-sqlalchemy-only-migrates.md`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PARAMETER = re.compile(r"'[^']*'|\"[^\"]*\"|--[^\n]*|::|:([a-z_]+)")
"""A parameter, or something in which a colon is none: text, a name, a comment, a cast."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in asyncpg's form, and the order in which it takes its parameters."""

    sql: str
    names: tuple[str, ...]
    source: str
    """What it was compiled from."""

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the values in the order of `$1, $2 …`. A missing one is a KeyError."""
        return [parameters[name] for name in self.names]


def statement(source: str) -> Statement:
    """Compile SQL with `:named` parameters; one that is named twice is one parameter."""
    names: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return found[0]
        return f"${names.setdefault(name, len(names) + 1)}"

    sql = _PARAMETER.sub(numbered, source)
    return Statement(sql=sql, names=tuple(names), source=source)
