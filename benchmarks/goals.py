"""The goals, and whether they are met. Must: no release without; aim: what to be proud of."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.figures import Spread

_NONE = math.inf


class Verdict(StrEnum):
    """How a goal stands."""

    AIM = "aim"
    MUST = "must"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Goal:
    """A row of the goals."""

    name: str
    must: float
    aim: float
    unit: str = ""
    less_is_better: bool = True

    def verdict(self, measured: float) -> Verdict:
        """Return what the median of the rounds reaches."""
        met: Callable[[float], bool] = (
            (lambda limit: measured <= limit)
            if self.less_is_better
            else (lambda limit: measured >= limit)
        )
        if met(self.aim):
            return Verdict.AIM
        return Verdict.MUST if met(self.must) else Verdict.MISSED


GOALS = {
    "1": Goal("list: times less CPU than the tutorial app", 12, 25, "x", less_is_better=False),
    "2": Goal("list: requests/s, part of pgbench's", 0.03, 0.06, "", less_is_better=False),
    "3": Goal("list: requests/s, part of ready bytes'", 0.10, 0.20, "", less_is_better=False),
    "4": Goal("50 messages: times less CPU than the tutorial app", 4, 7, "x", less_is_better=False),
    "5": Goal("append: times less CPU than the tutorial app", 4, 8, "x", less_is_better=False),
    "5b": Goal("append: requests/s, part of pgbench's", 0.08, 0.15, "", less_is_better=False),
    "6": Goal("growth to 5M messages: CPU, the worst request", 1.3, 1.1, "x"),
    "6b": Goal("growth to 5M messages: p50, the worst request", 1.3, 1.1, "x"),
    "7": Goal("list: statements a request", 2, 1),
    "8": Goal("1,000 connections, pool of 8: errors", 0, 0),
    "8b": Goal("the same: part of the rate at c=16", 0.9, 0.9, "", less_is_better=False),
    "8c": Goal("the same: p99, in fair shares (connections / rate)", _NONE, 3, "x"),
    "9": Goal("list at c=16: p99 / p50", 4, 2.5, "x"),
    "10": Goal("list p50 while 16 logins are in flight / idle", 3, 1.5, "x"),
    "10b": Goal("what 16 logins add to a running stream's p99", 50, 50, "ms"),
    "11": Goal("stream, flat out: CPU per token", 25, 15, "us"),
    "11b": Goal("the same / the openai SDK's relay", 1 / 7, 1 / 7, "x"),
    "11c": Goal("the same / raw relay", _NONE, 3, "x"),
    "12": Goal("stream, 40 x 50 tokens/s: CPU per token / raw relay", 1.6, 1.25, "x"),
    "12b": Goal("write transactions a second, however many streams", 50, 50),
    "13": Goal("added time to the first token, p50 at c=1", 4, 2, "ms"),
    "13b": Goal("first token of a new stream while 500 run, p99", 500, 100, "ms"),
    "14": Goal("200 streams: latency of a token beyond the writer's pause, p99", 20, 5, "ms"),
    "15": Goal("500 streams: the same; endless if they cannot run together", 20, 5, "ms"),
    "15b": Goal("1,000 streams: the same", _NONE, 20, "ms"),
    "16": Goal("memory of an open stream", 64, 40, "kB"),
    "18": Goal("a stored stream's CPU / an unstored one's (raw relay)", 1.5, 1.2, "x"),
    "22a": Goal("list: times less CPU than aegra-api", 2, 4, "x", less_is_better=False),
    "22b": Goal("20 messages: times less CPU than aegra-api", 2, 4, "x", less_is_better=False),
    "22c": Goal("append: times less CPU than aegra-api", 2, 4, "x", less_is_better=False),
    "22d": Goal("list: times less CPU than open-webui", 5, 10, "x", less_is_better=False),
    "22e": Goal("20 messages: times less CPU than open-webui", 5, 10, "x", less_is_better=False),
    "22f": Goal("append: times less CPU than open-webui", 5, 10, "x", less_is_better=False),
    "23": Goal("memory of an idle worker", 120, 90, "MB"),
    "start": Goal("ready on an existing data directory", 3, 3, "s"),
}
"""By row; a row with several measures has letters. 17 (durability) is broken on purpose by
`tests.promises`; 19 to 21 (search, vectors) come with their features; 22 (peers) is measured only
when its cell is named."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal and what was measured."""

    row: str
    spread: Spread

    @property
    def goal(self) -> Goal:
        """The goal of that row."""
        return GOALS[self.row]

    @property
    def verdict(self) -> Verdict:
        """How it stands, by the median of the rounds."""
        return self.goal.verdict(self.spread.median)
