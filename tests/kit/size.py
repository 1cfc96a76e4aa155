"""How often a promise is broken: a few times in the suite, as often as was promised on demand."""

import os
from typing import TypeVar

VARIABLE = "TERTULIA_TEST_SIZE"
"""`full` breaks every promise as often as `python -m tests.promises` is there for."""

_Number = TypeVar("_Number", int, float)


def sized(smoke: _Number, *, full: _Number) -> _Number:
    """Return how often, or for how long, something is done in this test run."""
    return full if os.environ.get(VARIABLE) == "full" else smoke
