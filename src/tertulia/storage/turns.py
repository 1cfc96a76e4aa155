"""Who may use one of a few connections next."""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from tertulia.domain.errors import Overloaded

_IDLE_PERIODS = 6
"""In a row: of the first, most may have been over when it began."""
_LATE_S = 0.1
"""A timer that fires so much later than it was to has waited for this process, not for others."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    turn: "asyncio.Future[None]"
    since: float


class Turns:
    """So many at once, the rest in the order they came: `async with turns: …`.

    Somebody who waits is turned away soon when nobody gets a turn any more, because what is waited
    for is stuck. While turns are passed on, a crowd is only a crowd: it is served, if that takes
    no longer than `wait_s`. A time limit alone would turn a whole crowd away, and serve nobody.

    One timer watches over all who wait: under load every statement waits for its turn.

    Args:
        count: How many have a turn at once.
        stuck_s: How long nobody may get a turn before those who wait are turned away.
        wait_s: How long anybody waits, and at most a sixth of `stuck_s` longer.
    """

    def __init__(self, count: int, *, stuck_s: float, wait_s: float) -> None:
        self._free = count
        self._period_s = stuck_s / _IDLE_PERIODS
        self._wait_s = wait_s
        self._waiting: deque[_Waiting] = deque()
        self._passed_on = 0
        self._is_watched = False

    async def __aenter__(self) -> None:
        """Wait for a turn.

        Raises:
            Overloaded: It is not to be expected soon.
        """
        if self._free and not self._waiting:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        mine = _Waiting(loop.create_future(), loop.time())
        self._waiting.append(mine)
        if not self._is_watched:
            self._watch(loop, idle_periods=0)
        try:
            await mine.turn
        except BaseException:
            if mine.turn.cancelled():
                with contextlib.suppress(ValueError):  # passed over already
                    self._waiting.remove(mine)
            elif mine.turn.exception() is None:
                # It came in the moment of giving up.
                self._pass_on()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the next have the turn."""
        self._pass_on()

    def _watch(self, loop: asyncio.AbstractEventLoop, *, idle_periods: int) -> None:
        self._is_watched = True
        due = loop.time() + self._period_s
        loop.call_at(due, self._look, loop, due, self._passed_on, idle_periods)

    def _look(
        self, loop: asyncio.AbstractEventLoop, due: float, passed_on: int, idle_periods: int
    ) -> None:
        """Turn away who has waited too long, or all if nobody has had a turn for long."""
        now = loop.time()
        if self._passed_on != passed_on:
            idle_periods = 0
        elif now < due + _LATE_S:
            idle_periods += 1
        is_stuck = idle_periods == _IDLE_PERIODS
        while self._waiting and (is_stuck or now >= self._waiting[0].since + self._wait_s):
            first = self._waiting.popleft()
            if not first.turn.done():
                first.turn.set_exception(Overloaded())
        self._is_watched = False
        if self._waiting:
            self._watch(loop, idle_periods=idle_periods)

    def _pass_on(self) -> None:
        self._passed_on += 1
        while self._waiting:
            first = self._waiting.popleft()
            if not first.turn.done():
                first.turn.set_result(None)
                return
        self._free += 1
