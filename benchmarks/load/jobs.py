"""What the generator is asked to do, and what it answers."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

HOST = "127.0.0.1"
NUMBER = "########"
"""In requests that are sent in turns: a number of as many digits, another one each time."""


@dataclass(frozen=True, slots=True)
class RequestsJob:
    """Ask again and again, each connection as soon as it is answered (keep-alive)."""

    port: int
    requests: list[str]
    """Whole requests as they go over the wire; connection i repeats number i, modulo."""
    connections: int
    warm_s: float = 0.5
    in_turns: bool = False
    """Whether each connection sends the one that has not been sent for longest instead."""


@dataclass(frozen=True, slots=True)
class StreamsJob:
    """Open streams and read them; count the upstream's tokens and how long they were on the way."""

    port: int
    requests: list[str]
    """One for each stream; after the last comes the first again."""
    streams: int
    """At the same time."""
    renew: bool = False
    """Whether the next begins when one has ended."""
    pause_s: float = 0.0
    """Between an end and the next beginning."""
    over_s: float = 0.0
    """The first ones begin evenly spread over so many seconds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one job saw between `begin` and `end`. Times are in milliseconds."""

    operations: int = 0
    """Good answers, or tokens."""
    errors: int = 0
    """Answers that are none: another status, a broken connection, nothing for 30 seconds."""
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    """Of an answer from the request on, or of a token from the upstream on."""
    open: int = 0
    """Streams that had begun and not ended, at the end."""
    firsts: int = 0
    """Streams of which the first token came."""
    first_p50_ms: float = 0.0
    first_p99_ms: float = 0.0
    """From the beginning to connect to the first token."""
    notes: list[str] = field(default_factory=list[str])
    """The beginning of some answers that were none."""


Job: TypeAlias = RequestsJob | StreamsJob


def encode(job: Job) -> str:
    """Return the line that asks for it."""
    return json.dumps({"kind": type(job).__name__, **asdict(job)})


def decode(line: str) -> Job:
    """Return what such a line asks for."""
    fields: dict[str, Any] = json.loads(line)
    kinds: dict[str, type[Job]] = {"RequestsJob": RequestsJob, "StreamsJob": StreamsJob}
    return kinds[fields.pop("kind")](**fields)


def percentile(values: list[float], percent: float) -> float:
    """Return the smallest of the values that so many percent of them do not exceed; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]
