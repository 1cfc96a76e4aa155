"""What was measured, and how it is compared: medians, ratios within a round, and their spread."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from tertulia.runs.pace import pause_s


@dataclass(frozen=True, slots=True)
class Sample:
    """One target in one round."""

    operations: int = 0
    seconds: float = 0.0
    app_s: float = 0.0
    """CPU of the server's processes."""
    postgres_s: float = 0.0
    """CPU of PostgreSQL, all of it: its background work too."""
    foreign_cores: float = 0.0
    """What everybody else on the machine used meanwhile."""
    errors: int = 0
    p50_ms: float = math.nan
    p99_ms: float = math.nan
    extra: Mapping[str, float] = field(default_factory=dict[str, float])
    """Further figures, by the name of their column."""

    @property
    def cpu_ms(self) -> float:
        """CPU per operation."""
        return self.app_ms + self.postgres_ms

    @property
    def app_ms(self) -> float:
        """The server's part of it."""
        return self._each(self.app_s)

    @property
    def postgres_ms(self) -> float:
        """PostgreSQL's part of it."""
        return self._each(self.postgres_s)

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds if self.seconds else math.nan

    def with_extra(self, more: Mapping[str, float]) -> "Sample":
        """Return it with further figures."""
        return replace(self, extra={**self.extra, **more})

    def _each(self, seconds: float) -> float:
        return seconds * 1000 / self.operations if self.operations else math.nan


What: TypeAlias = Callable[[Sample], float]
"""A figure of a sample."""


class Spread(NamedTuple):
    """What all rounds said."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(min(values), statistics.median(values), max(values))


@dataclass(slots=True)
class Comparison:
    """Targets that did the same work in the same rounds."""

    title: str
    unit: str = "request"
    """What an operation is."""
    columns: Sequence[str] = ()
    """The further figures that are shown."""
    samples: dict[str, list[Sample]] = field(default_factory=dict[str, list[Sample]])
    """By target, one for each round."""

    def median(self, target: str, what: What) -> float:
        """Return the median of all rounds."""
        return statistics.median(what(sample) for sample in self.samples[target])

    def spread(self, target: str, what: What) -> Spread:
        """Return the lowest, the median and the highest of all rounds."""
        return Spread.of([what(sample) for sample in self.samples[target]])

    def ratio(self, target: str, yardstick: str, what: What) -> Spread:
        """Return target : yardstick, formed within each round."""
        pairs = zip(self.samples[target], self.samples[yardstick], strict=True)
        return Spread.of([_divide(what(ours), what(theirs)) for ours, theirs in pairs])


def _divide(one: float, other: float) -> float:
    return one / other if other else math.nan


def cpu(sample: Sample) -> float:
    """Return the CPU of an operation, PostgreSQL's included, in milliseconds."""
    return sample.cpu_ms


def rate(sample: Sample) -> float:
    """Return operations a second."""
    return sample.rate


def p50(sample: Sample) -> float:
    """Return the median latency, in milliseconds."""
    return sample.p50_ms


def p99(sample: Sample) -> float:
    """Return the latency of the slowest hundredth, in milliseconds."""
    return sample.p99_ms


def lateness(sample: Sample) -> float:
    """Return what the latest hundredth of the tokens had to wait beyond the writer's pause."""
    return max(0.0, sample.p99_ms - pause_s(int(sample.extra["open"])) * 1000)


def extra(name: str) -> What:
    """Return how to read one of the further figures."""
    return lambda sample: sample.extra.get(name, math.nan)
