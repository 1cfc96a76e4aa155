"""Who may use one of a few connections next."""

import asyncio
from collections import deque
from types import TracebackType

from tertulia.domain.errors import Overloaded

_IDLE_PERIODS = 2
"""In a row: of one alone, most may have been over when it began."""
_LATE_S = 0.1
"""A timer that fires so much later than it was to has waited for this process, not for others."""


class Turns:
    """So many at once, the rest in the order they came: `async with turns: …`.

    Somebody who waits is turned away soon when nobody gets a turn any more, because what is waited
    for is stuck. While turns are passed on, a crowd is only a crowd: it is served, if that takes
    no longer than `wait_s`. A time limit alone would turn a whole crowd away, and serve nobody.

    Args:
        count: How many have a turn at once.
        stuck_s: How long nobody may get a turn before those who wait are turned away.
        wait_s: How long anybody waits.
    """

    def __init__(self, count: int, *, stuck_s: float, wait_s: float) -> None:
        self._free = count
        self._stuck_s = stuck_s
        self._wait_s = wait_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passed_on = 0

    async def __aenter__(self) -> None:
        """Wait for a turn.

        Raises:
            Overloaded: It is not to be expected soon.
        """
        if self._free and not self._waiting:
            self._free -= 1
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            await self._wait(mine)
        except BaseException:
            if mine.done():
                # It came in the moment of giving up.
                self._pass_on()
            else:
                self._waiting.remove(mine)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the next have the turn."""
        self._pass_on()

    async def _wait(self, mine: "asyncio.Future[None]") -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        period_s = self._stuck_s / _IDLE_PERIODS
        passed_on, idle_periods = self._passed_on, 0
        while True:
            due = loop.time() + period_s
            await asyncio.wait([mine], timeout=period_s)
            if mine.done():
                return
            now = loop.time()
            if self._passed_on != passed_on:
                passed_on, idle_periods = self._passed_on, 0
            elif now < due + _LATE_S:
                idle_periods += 1
            if idle_periods == _IDLE_PERIODS or now >= began + self._wait_s:
                raise Overloaded

    def _pass_on(self) -> None:
        self._passed_on += 1
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._free += 1
