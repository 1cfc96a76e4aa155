"""How long readers wait: for the first token, and for each token after the upstream said it."""

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.audience import Audience
from benchmarks.bench import Bench, Findings, Target
from benchmarks.cells import cell
from benchmarks.figures import Comparison, Sample, Spread, extra, lateness
from benchmarks.measuring import measure
from benchmarks.stage import Server

_PRODUCT, _RELAY, _UPSTREAM = "Tertulia, stored", "raw relay", "upstream, directly"
_FIRSTS = ("first p50 ms", "first p99 ms", "firsts")
_WAYS = ("open", *_FIRSTS)
_PROBES = 1000
"""Short answers, one after the other, of one measurement; at most."""
_SLOW_MODEL_MS = 100


@cell("first-token")
def measure_first_token(bench: Bench) -> Findings:
    """The time from connecting to the first token: alone, and while 500 streams run."""
    stage, audience = bench.stage, Audience.of(bench)
    seconds = bench.options.seconds
    findings = Findings()

    def alone(server: Server, delay_ms: int) -> Target:
        def target() -> Sample:
            job = audience.firsts(server, _PROBES, delay_ms=delay_ms)
            sample = measure(server, job, seconds=seconds)
            # What counts is what a whole answer costs, however few its tokens.
            return replace(sample, operations=int(sample.extra["firsts"]))

        return target

    for delay_ms in bench.size((0, _SLOW_MODEL_MS), (0,)):
        compared = bench.rounds(
            f"first token, one after the other; the model takes {delay_ms} ms",
            {
                _PRODUCT: alone(stage.product(), delay_ms),
                _RELAY: alone(stage.yardstick("relay"), delay_ms),
                _UPSTREAM: alone(stage.upstream, delay_ms),
            },
            unit="answer",
            columns=_FIRSTS,
        )
        findings.comparisons.append(compared)
        added = _added(compared)
        if delay_ms:
            findings.notes.append(
                f"Added to a model that takes {delay_ms} ms: {added.median:.1f} ms (p50)"
            )
        else:
            findings.judge("13", added)
    running = bench.size(500, 20)

    def beside(server: Server) -> Target:
        def target() -> Sample:
            lasts_s = bench.size(max(5.0, seconds), seconds)
            streams = audience.paced(server, running, lasts_s)
            probes = audience.firsts(server, _PROBES)
            return measure(server, streams, probes, seconds=lasts_s)

        return target

    compared = bench.rounds(
        f"first token while {running} streams run",
        {_PRODUCT: beside(stage.product()), _RELAY: beside(stage.yardstick("relay"))},
        unit="token",
        columns=_WAYS,
    )
    findings.comparisons.append(compared)
    findings.judge("13b", compared.spread(_PRODUCT, extra("first p99 ms")))
    return findings


@cell("deltas")
def measure_deltas(bench: Bench) -> Findings:
    """How long a token is on the way to the reader at 200 streams, and what a stream holds."""
    stage, audience = bench.stage, Audience.of(bench)
    seconds = bench.size(max(5.0, bench.options.seconds), bench.options.seconds)
    streams = bench.size(200, 10)

    def target(server: Server) -> Target:
        def measured() -> Sample:
            # What a process allocates once is not a stream's: prepared statements, connections.
            measure(server, audience.paced(server, streams // 10, 1.0), seconds=1.0)
            empty = server.memory_bytes()

            def look() -> Mapping[str, float]:
                return {"kB a stream": (server.memory_bytes() - empty) / streams / 1000}

            job = audience.paced(server, streams, seconds)
            return measure(server, job, seconds=seconds, look=look)

        return measured

    # In a process of its own: one that had streams before has memory that it did not give back.
    with stage.started_product() as product:
        compared = bench.rounds(
            f"{streams} streams",
            {_PRODUCT: target(product), _RELAY: target(stage.yardstick("relay"))},
            unit="token",
            columns=["open", "max ms", "kB a stream", "write transactions/s"],
        )
    findings = Findings([compared])
    findings.judge("14", compared.spread(_PRODUCT, lateness))
    # Of the first round: later ones find memory that was not given back.
    findings.judge("16", Spread.of([compared.samples[_PRODUCT][0].extra["kB a stream"]]))
    return findings


def _added(compared: Comparison) -> Spread:
    """Return what the product adds to the upstream's own time, at the median."""
    firsts = [
        [sample.extra["first p50 ms"] for sample in compared.samples[target]]
        for target in (_PRODUCT, _UPSTREAM)
    ]
    return Spread.of([ours - its for ours, its in zip(*firsts, strict=True)])
