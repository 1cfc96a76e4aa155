"""Being told to stop, at any moment."""

import os
import signal
import sys
import time

import pytest

from tertulia.cli.signals import StoppedBySignal, stopped_by_signals


class Interrupted:
    """Is told to stop while it is thrown away."""

    def __init__(self, signum: signal.Signals) -> None:
        self._signum = signum

    def __del__(self) -> None:
        os.kill(os.getpid(), self._signum)
        for _ in range(1000):
            pass


def be_interrupted(signum: signal.Signals) -> None:
    with stopped_by_signals():
        Interrupted(signum)
        time.sleep(30)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_in_a_moment_that_cannot_raise_is_not_lost(signum: signal.Signals) -> None:
    hook = sys.unraisablehook

    with pytest.raises(StoppedBySignal) as stopped:
        be_interrupted(signum)

    assert stopped.value.signum == signum
    assert sys.unraisablehook is hook
