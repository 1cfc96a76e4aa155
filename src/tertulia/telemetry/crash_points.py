"""Named places at which a test lets the process die, to see what is lost.

`TERTULIA_CRASH_AT=name:3` ends the process, as `kill -9` would, when it passes the place `name`
for the third time. Without the variable a place costs a call that does nothing.
"""

import itertools
import os
from collections.abc import Callable

CRASH_POINTS = frozenset(
    {
        "send.before_transaction",
        "send.locked",
        "send.before_commit",
        "send.committed",
        "run.before_model",
        "run.first_token",
        "run.token",
        "run.model_done",
        "write.before_commit",
        "write.committed",
        "write.shown",
        "takeover.claimed",
        "cancel.before_commit",
        "cancel.committed",
        "title.suggested",
        "title.stored",
    }
)

_EXIT_STATUS = 137
"""Of a process that a shell saw killed: 128 + SIGKILL."""


def _nothing(_name: str) -> None:
    pass


def _crash_at(place: str, passes: int) -> Callable[[str], None]:
    if place not in CRASH_POINTS:
        raise ValueError(f"There is no crash point {place!r}")
    passed = itertools.count(1)

    def crash(name: str) -> None:
        if name == place and next(passed) == passes:
            os._exit(_EXIT_STATUS)

    return crash


def _chosen() -> Callable[[str], None]:
    place, _, passes = os.environ.get("TERTULIA_CRASH_AT", "").partition(":")
    return _crash_at(place, int(passes or 1)) if place else _nothing


crash_point: Callable[[str], None] = _chosen()
"""Pass a named place; see `CRASH_POINTS`."""
