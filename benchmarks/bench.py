"""What a cell is given, what it returns, and how targets take turns."""

import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from benchmarks.figures import Comparison, Sample, Spread
from benchmarks.goals import Judged
from benchmarks.load.jobs import Job, RequestsJob
from benchmarks.measuring import measure
from benchmarks.stage import Server, Stage, new_stage

Size = TypeVar("Size")
Target: TypeAlias = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Options:
    """How thoroughly to measure."""

    rounds: int = 3
    seconds: float = 3.0
    """Of each target in each round."""
    quick: bool = False
    """Only see that it runs: everything small."""


@dataclass(slots=True)
class Findings:
    """What a cell found."""

    comparisons: list[Comparison] = field(default_factory=list[Comparison])
    judged: list[Judged] = field(default_factory=list[Judged])
    notes: list[str] = field(default_factory=list[str])

    def judge(self, row: str, spread: Spread) -> None:
        """Compare with the goal of that row."""
        self.judged.append(Judged(row, spread))


class Bench:
    """The options, a stage that cells share, and rounds.

    Args:
        options: For all cells.
        stack: Closes what was started.
    """

    def __init__(self, options: Options, stack: ExitStack) -> None:
        self.options = options
        self._stack = stack
        self._stage: Stage | None = None
        self._began = time.monotonic()

    @property
    def stage(self) -> Stage:
        """The stage that most cells share."""
        if self._stage is None:
            self.say("  starting PostgreSQL")
            self._stage = self._stack.enter_context(new_stage(self.say))
        return self._stage

    @contextmanager
    def own_stage(self) -> Generator[Stage]:
        """Build a stage for a cell that would disturb the others; small, it disturbs nobody."""
        if self.options.quick:
            yield self.stage
            return
        with new_stage(self.say) as stage:
            yield stage

    def size(self, full: Size, quick: Size) -> Size:
        """Return the one that the options ask for."""
        return quick if self.options.quick else full

    def asking(
        self,
        server: Server,
        requests: Sequence[str],
        connections: int,
        *others: Job,
        in_turns: bool = False,
    ) -> Target:
        """Return how to measure requests, each connection repeating its own, and what else is done.

        Args:
            server: Who is asked.
            requests: Whole ones; connection i repeats number i, modulo.
            connections: At the same time.
            others: Jobs that are done meanwhile.
            in_turns: Send all requests one after the other instead, whoever sends them.
        """
        warm_s = self.size(0.5, 0.1)
        job = RequestsJob(server.port, list(requests), connections, warm_s, in_turns)
        return lambda: measure(server, job, *others, seconds=self.options.seconds)

    def rounds(
        self,
        title: str,
        targets: Mapping[str, Target],
        *,
        unit: str = "request",
        columns: Sequence[str] = (),
    ) -> Comparison:
        """Measure targets in turns: A B C, then C B A, and so on.

        Args:
            title: What they all do.
            targets: How to measure each once.
            unit: What an operation is.
            columns: The further figures to be shown.
        """
        comparison = Comparison(title, unit, columns, {name: [] for name in targets})
        names = list(targets)
        for number in range(self.options.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                sample = targets[name]()
                comparison.samples[name].append(sample)
                self.say(
                    f"  {title} · round {number + 1} · {name}: {sample.rate:,.0f}/s, "
                    f"{sample.cpu_ms * 1000:,.1f} us CPU per {unit}"
                    + (f", {sample.errors} ERRORS" if sample.errors else "")
                )
        return comparison

    def say(self, line: str) -> None:
        """Tell whoever waits how far it is."""
        print(f"{time.monotonic() - self._began:6.1f} s {line}", file=sys.stderr, flush=True)
