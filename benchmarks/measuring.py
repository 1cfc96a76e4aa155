"""The one way in which a server is measured: load it, and read the meters meanwhile."""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from benchmarks.figures import Sample
from benchmarks.load.jobs import Job, Measured, encode
from benchmarks.processes import Cost, Meter, Started
from benchmarks.stage import Server

_READY_S = 180.0
_END_S = 120.0


def measure(
    server: Server,
    *jobs: Job,
    seconds: float,
    look: Callable[[], Mapping[str, float]] | None = None,
) -> Sample:
    """Load a server and return what it cost.

    Args:
        server: Whose CPU counts.
        jobs: What is done, at the same time; operations and times are those of the first, first
            tokens those of the last.
        seconds: How long, once the load runs evenly.
        look: Further figures, taken under load.
    """
    stage = server.stage
    with ExitStack() as ended:
        log = stage.directory / "load.log"
        loads = [ended.enter_context(Started("benchmarks.load", log=log)) for _ in jobs]
        for load, job in zip(loads, jobs, strict=True):
            load.tell(encode(job))
        for load in loads:
            load.line(_READY_S)
        meter = Meter(app=[server.pid], postgres=stage.postgres_pid())
        written = stage.write_transactions()
        meter.begin()
        _tell(loads, "begin")
        time.sleep(seconds)
        _tell(loads, "end")
        cost = meter.end()
        written = stage.write_transactions() - written
        looked = dict(look()) if look else {}
        done = [Measured(**json.loads(load.line(_END_S))) for load in loads]
        for load in loads:
            load.wait(_END_S)
    for note in (note for each in done for note in each.notes):
        stage.say(f"    {server.name} answered: {note!r:.200}")
    return _sample(cost, done, {"write transactions/s": written / cost.seconds, **looked})


def _tell(loads: list[Started], word: str) -> None:
    for load in loads:
        load.tell(word)


def _sample(cost: Cost, done: list[Measured], looked: Mapping[str, float]) -> Sample:
    first, last = done[0], done[-1]
    return Sample(
        operations=first.operations,
        seconds=cost.seconds,
        app_s=cost.app_s,
        postgres_s=cost.postgres_s,
        foreign_cores=cost.foreign_cores,
        errors=sum(each.errors for each in done),
        p50_ms=first.p50_ms,
        p99_ms=first.p99_ms,
        extra={
            "max ms": first.max_ms,
            "open": first.open,
            "firsts": last.firsts,
            "first p50 ms": last.first_p50_ms,
            "first p99 ms": last.first_p99_ms,
            **looked,
        },
    )
