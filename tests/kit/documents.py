"""The tables in `docs/` that say what the code says. `python -m tests.kit.documents` writes them.

A table stands between `<!-- name -->` and `<!-- /name -->`; what is around it is written by hand.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tertulia.config import Settings
from tertulia.http.errors import DOCUMENTED_CODES

DOCS = Path(__file__).parents[2] / "docs"


def settings_table() -> str:
    rows = [
        (f"`{'` or `'.join(_names(name, field))}`", _default(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("Variable", "Default", "Meaning"), rows)


def error_codes_table() -> str:
    rows = [
        (f"`{code}`", str(known.status), known.meaning)
        for code, known in sorted(DOCUMENTED_CODES.items(), key=lambda item: item[1].status)
    ]
    return _table(("Code", "Status", "Meaning"), rows)


TABLES = {
    "settings": (DOCS / "settings.md", settings_table),
    "error-codes": (DOCS / "errors.md", error_codes_table),
}


def table_in(document: Path, name: str) -> str:
    """Return the table of that name as it stands in the document."""
    found = _place(name).search(document.read_text())
    assert found, f"{document.name} has no place for the table {name!r}"
    return found.group(2).strip()


def write_all() -> None:
    for name, (document, render) in TABLES.items():
        text = document.read_text()
        table = render()
        document.write_text(_place(name).sub(lambda m: f"{m[1]}\n{table}\n{m[3]}", text))  # noqa: B023


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->)(.*?)(<!-- /{name} -->)", re.DOTALL)


def _names(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [f"TERTULIA_{name.upper()}"]


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return "none"
    assert not isinstance(value, SecretStr), "a secret has no default"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    write_all()
