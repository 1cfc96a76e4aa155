import pytest

from tertulia.runs.titles import tidy


@pytest.mark.parametrize(
    ("suggested", "title"),
    [
        ("Bulls and Books", "Bulls and Books"),
        ('"Bulls and Books."', "Bulls and Books"),
        ("**Title:** Bulls", "Bulls"),
        ("Title: Bulls\nBecause you asked.", "Bulls"),
        ("\n\n  # A heading\nand more", "A heading"),
        ("《斗牛》", "斗牛"),
        ("标题很好", "标题很好"),
        ("a \t\u00a0 b", "a b"),
        ("", ""),
        ("...", ""),
        ("x" * 80, "x" * 80),
        ("x" * 81, "x" * 79 + "…"),
    ],
)
def test_a_suggestion_becomes_a_title(suggested: str, title: str) -> None:
    assert tidy(suggested) == title
