"""When the writer stores what was said, and when those who speak are listened to again.

A few answers are stored every 20 ms. Where many are written at once, most of what a token costs is
not its storing but its coming, alone, through the loop: so the connections of models are left alone
for a while and then read at one go, and what has gathered is one event. With very many that is a
burst that others would wait for; so they take turns in groups.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

_ROUNDS = 4
"""Of the event loop, in which those who are listened to again are woken, their connections read,
and what they say is heard."""
_CROWD_RUNS = 16
"""From so many runs at once on, longer pauses save more than anybody would notice."""
_GROUP_RUNS = 100
"""At most so many are read and stored together: 10 to 15 ms of the event loop."""
_TURN_S = 0.025


class _Step(NamedTuple):
    """How it is done for so many runs."""

    pause_s: float
    """Between two events of one run."""
    groups: int
    """As many commits in each pause."""


_ALONE = _Step(0.02, 1)
_CROWD = _Step(0.05, 1)


def pause_s(runs: int) -> float:
    """Return the time between two events of one run while so many are written."""
    return _step(runs).pause_s


def _step(runs: int) -> _Step:
    """Return the pace for so many: at most fifty commits a second, however many they are."""
    if runs < _CROWD_RUNS:
        return _ALONE
    if runs < _GROUP_RUNS:
        return _CROWD
    groups = max(2, -(-runs // _GROUP_RUNS))
    return _Step(groups * _TURN_S, groups)


@dataclass(slots=True)
class Pace:
    """The pace of one writer."""

    _step: _Step = _ALONE
    _turned: float = 0.0
    """When the last turn was over, and the next group's began."""
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])
    """Those who are not listened to, the longest first."""
    _first: asyncio.Event = field(default_factory=asyncio.Event)
    """Somebody waits for the first words of an answer."""

    def hurry(self) -> None:
        """The first words of an answer have been said."""
        self._first.set()

    def breathe(self) -> Awaitable[None] | None:
        """Return what to wait for before a model is listened to again; None: nothing."""
        if self._step is _ALONE:
            return None
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return turn

    def begin(self) -> None:
        """A batch begins, of all that was said."""
        self._first.clear()

    async def rest(self, written: int) -> None:
        """Wait until the next batch may begin, and until those whose turn it is have spoken.

        Args:
            written: How many runs were in the last one.
        """
        self._step = _step(max(written, len(self._waiting)))
        left_s = self._turned + self._step.pause_s / self._step.groups - time.monotonic()
        if self._step is not _ALONE:
            await asyncio.sleep(max(0.0, left_s))
        elif left_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._first.wait()
        self._turned = time.monotonic()
        if self._waiting:
            self.wake(-(-len(self._waiting) // self._step.groups))
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)

    def wake(self, count: int | None = None) -> None:
        """Let those go on who have waited longest; None: all."""
        for _ in range(len(self._waiting) if count is None else count):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
