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
_SHORT = 2
"""A line is short while it is no longer than so many times as many as have a turn at once. There
is always somebody to be next then, who need not be fetched from further away."""
_OWED = 8
"""One of so many turns is the crowd's, however long the line: it would wait for ever behind those
who come to the line without having waited for it to be short, and then come again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    call: "asyncio.Future[None]"
    since: float

    def is_called(self) -> bool:
        """Call it, unless it has gone or was turned away."""
        if self.call.done():
            return False
        self.call.set_result(None)
        return True


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
        self._short = _SHORT * count
        self._period_s = stuck_s / _IDLE_PERIODS
        self._wait_s = wait_s
        self._line: deque[_Waiting] = deque()
        """Who waits for a turn."""
        self._crowd: deque[_Waiting] = deque()
        """Who waits for that line to be short."""
        self._passed_on = 0
        self._is_watched = False
        self._is_letting_in = False
        self._let_in_at = 0
        """How many turns had been passed on when somebody was let in last."""

    async def __aenter__(self) -> None:
        """Wait for a turn.

        Raises:
            Overloaded: It is not to be expected soon.
        """
        if self._free and not self._line:
            self._free -= 1
            return
        mine = self._wait_in(self._line)
        try:
            await mine.call
        except BaseException:
            if self._was_called(mine, self._line):
                self._pass_on()
            self._let_in_soon()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the next have the turn."""
        self._pass_on()

    async def until_short(self) -> None:
        """Wait until the line is short, in the order of those who do so, or for a place owed.

        For whoever has things to prepare before a turn. A thousand who are prepared cost more than
        a thousand who have not begun: nothing of them is in the processor's caches any more when
        their turns come, and whoever needs another turn stands behind them all.

        Raises:
            Overloaded: It is not to be expected soon.
        """
        if len(self._line) < self._short and not self._crowd:
            return
        mine = self._wait_in(self._crowd)
        try:
            await mine.call
        except BaseException:
            self._was_called(mine, self._crowd)
            raise

    def _wait_in(self, those: deque[_Waiting]) -> _Waiting:
        loop = asyncio.get_running_loop()
        mine = _Waiting(loop.create_future(), loop.time())
        those.append(mine)
        if not self._is_watched:
            self._watch(loop, idle_periods=0)
        return mine

    def _was_called(self, mine: _Waiting, those: deque[_Waiting]) -> bool:
        """Forget who gives up. Return whether the call came in that very moment."""
        if mine.call.cancelled():
            with contextlib.suppress(ValueError):  # passed over already
                those.remove(mine)
            return False
        return mine.call.exception() is None

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
        for those in (self._line, self._crowd):
            while those and (is_stuck or now >= those[0].since + self._wait_s):
                first = those.popleft()
                if not first.call.done():
                    first.call.set_exception(Overloaded())
        self._let_in_soon()
        self._is_watched = False
        if self._line or self._crowd:
            self._watch(loop, idle_periods=idle_periods)

    def _pass_on(self) -> None:
        self._passed_on += 1
        is_taken = False
        while self._line and not is_taken:
            is_taken = self._line.popleft().is_called()
        self._free += not is_taken
        self._let_in_soon()

    def _let_in_soon(self) -> None:
        """Fill the line up again, once for all who leave it in this round of the loop."""
        if self._crowd and not self._is_letting_in:
            self._is_letting_in = True
            asyncio.get_running_loop().call_soon(self._let_in)

    def _let_in(self) -> None:
        self._is_letting_in = False
        room = self._short - len(self._line)
        if room <= 0 and self._passed_on - self._let_in_at >= _OWED:
            room = 1
        if room <= 0:
            return
        self._let_in_at = self._passed_on
        while self._crowd and room > 0:
            room -= self._crowd.popleft().is_called()
        # When it looks again, they stand in the line, or did not want a turn at all.
        self._let_in_soon()
