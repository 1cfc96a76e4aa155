"""The documents say what the code says."""

import re
from pathlib import Path

import pytest

from tests.kit.documents import DOCS, TABLES, table_in

ROOT = DOCS.parent
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")
_DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_code_says(name: str) -> None:
    document, render = TABLES[name]
    assert table_in(document, name) == render(), "run: python -m tests.kit.documents"


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = _LINK.findall(document.read_text())
    missing = [link for link in links if not (document.parent / link).exists()]
    assert not missing


def test_every_decision_is_numbered_once() -> None:
    numbers = [path.name[:4] for path in sorted((DOCS / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
