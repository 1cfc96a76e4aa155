"""Waiting for what other processes do, which nobody announces."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_PAUSE_S = 0.01


async def until(
    condition: Callable[[], bool | Awaitable[bool]], what: str, *, within_s: float = 15.0
) -> float:
    """Wait until the condition holds; return how many seconds it took.

    Raises:
        AssertionError: It did not in time; says `what` was waited for.
    """
    began = time.monotonic()
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return time.monotonic() - began
        assert time.monotonic() - began < within_s, f"waited in vain for {what}"
        await asyncio.sleep(_PAUSE_S)
