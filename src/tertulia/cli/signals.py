"""What SIGINT, SIGTERM and SIGHUP do to a command that is not serving yet, or cleans up."""

import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

CLEAN_UP_S = 30.0
"""For so long after the first signal others are passed over: what was started is being stopped."""
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_AGAIN_S = 0.01


class StoppedBySignal(SystemExit):
    """The command was told to stop before it did what it is for.

    As a `SystemExit` it passes through event loops, and means the right status to whoever does not
    know it: 128 and the signal's number.

    Attributes:
        signum: The first signal that came.
    """

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(128 + signum)


@contextmanager
def stopped_by_signals() -> Generator[None]:
    """Let a signal raise StoppedBySignal, so that what was started is stopped on the way out.

    SIGHUP, of a closed terminal, becomes a SIGTERM: that is what a server knows how to drain on.
    Signals that are ignored, as `nohup` and `&` have it, stay so.
    """
    handler = _Handler()
    hook_before, sys.unraisablehook = sys.unraisablehook, handler.catch_up
    chosen = [
        signum
        for signum in (*_STOPPING, signal.SIGHUP)
        if signal.getsignal(signum) != signal.SIG_IGN
    ]
    before = {signum: signal.signal(signum, handler) for signum in chosen}
    try:
        yield
    finally:
        sys.unraisablehook = hook_before
        for signum, old in before.items():
            signal.signal(signum, old)


@contextmanager
def undisturbed() -> Generator[None]:
    """Pass over signals while something that takes moments must not stop halfway."""
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in _STOPPING}
    try:
        yield
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def die_of(signum: int) -> NoReturn:
    """End this process as the signal would have.

    A shell then sees 128 and the signal's number, and knows that a script is to stop as well;
    systemd counts SIGTERM and SIGINT, unlike the exit status 143, as a clean stop.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    # The first process of a container does not die of signals.
    sys.exit(128 + signum)


class _Handler:
    """Raises for the first signal, and for one that comes when cleaning up takes too long."""

    def __init__(self) -> None:
        self._not_before = 0.0

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        now = time.monotonic()
        if now < self._not_before:
            return
        self._not_before = now + CLEAN_UP_S
        raise StoppedBySignal(signum)

    def catch_up(self, lost: "sys.UnraisableHookArgs") -> None:
        """Send a signal once more whose exception Python dropped, for it came in a `__del__`."""
        error = lost.exc_value
        if not isinstance(error, StoppedBySignal):
            sys.__unraisablehook__(lost)
            return
        self._not_before = 0.0
        # Not from here, where it would be dropped again.
        threading.Timer(_AGAIN_S, os.kill, (os.getpid(), error.signum)).start()
