"""Tokens that say when they were sent: `~` and seven digits, tenths of a millisecond.

All processes of one machine read the same clock; it goes round every 1,000 seconds.
"""

import time

MARK = b"~"
_UNITS_A_SECOND = 10_000
_ROUND = 10**7


def stamp() -> bytes:
    """Return a token that says now."""
    return b"~%07d" % (int(time.monotonic() * _UNITS_A_SECOND) % _ROUND)


def milliseconds_since(stamp_: int) -> float:
    """Return how long ago a token with these digits was made."""
    return (int(time.monotonic() * _UNITS_A_SECOND) - stamp_) % _ROUND / 10
