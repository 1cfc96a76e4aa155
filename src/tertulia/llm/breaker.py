"""A circuit breaker: a provider that keeps failing is left alone for a while."""

from collections.abc import Callable
from time import monotonic


class Breaker:
    """The state of one provider: closed (ask it), open (do not), half-open (one trial).

    It counts answers, not tries: an answer that came at the second try is a success. (M. Nygard,
    "Release It!", 2nd edition, 2018, chapter 5.)

    Args:
        failures_to_open: Failed answers in a row after which it opens.
        open_s: How long it stays open before a trial.
        clock: Seconds from any fixed point, never running backwards.
    """

    def __init__(
        self,
        failures_to_open: int = 5,
        open_s: float = 15.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._failures_to_open = failures_to_open
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._trial_runs = False

    def admit(self) -> bool:
        """Return whether the provider may be asked now.

        Whoever is admitted reports back with `succeeded`, `failed` or `left`; while half-open,
        only one is admitted until then.
        """
        if self._open_until is None:
            return True
        if self._trial_runs or self._clock() < self._open_until:
            return False
        self._trial_runs = True
        return True

    def answers(self) -> None:
        """Take note of a first token: a trial has shown that the provider is back."""
        if self._trial_runs:
            self._close()

    def succeeded(self) -> None:
        """Take note of a whole answer, or of a refusal that shows the provider alive."""
        self._close()

    def failed(self) -> None:
        """Take note of an answer that the provider did not give."""
        self._failures += 1
        if self._trial_runs or (
            self._open_until is None and self._failures >= self._failures_to_open
        ):
            self._open_until = self._clock() + self._open_s
        self._trial_runs = False

    def left(self) -> None:
        """Take note of an answer that nobody waited for, which proves nothing."""
        self._trial_runs = False

    def _close(self) -> None:
        self._failures = 0
        self._open_until = None
        self._trial_runs = False
