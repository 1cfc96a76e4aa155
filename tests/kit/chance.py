"""Chance that can be had again: every random test says its seed."""

import os
import random

SEED_VARIABLE = "TERTULIA_TEST_SEED"
"""Set it to the seed that a failed test printed."""


def seeded() -> random.Random:
    """Return a source of chance whose seed stands in the test's output."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.randrange(2**32))
    say(f"{SEED_VARIABLE}={seed}")
    return random.Random(seed)


def say(measured: str) -> None:
    """Put what was measured into the test's output, which pytest shows when it fails."""
    print(measured)  # noqa: T201  whoever repeats the test reads it
