"""Hundreds of streams in one process: whether tokens keep coming."""

import math

from benchmarks.audience import Audience
from benchmarks.bench import Bench, Findings, Target
from benchmarks.cells import cell
from benchmarks.figures import Sample, Spread, extra, lateness
from benchmarks.measuring import measure
from benchmarks.stage import Server
from benchmarks.upstream import PACE

_PRODUCT, _RELAY = "Tertulia, stored", "raw relay"
_COLUMNS = ("open", "delivered", "app cores", "max ms", "write transactions/s")


@cell("many-streams")
def measure_many_streams(bench: Bench) -> Findings:
    """500 and 1,000 streams of 50 tokens a second in one worker."""
    stage, audience = bench.stage, Audience.of(bench)
    seconds = bench.size(max(8.0, bench.options.seconds), bench.options.seconds)
    findings = Findings()
    for streams in bench.size((500, 1000), (30,)):

        def target(server: Server, streams: int = streams) -> Target:
            def measured() -> Sample:
                job = audience.paced(server, streams, seconds)
                return _with_shares(measure(server, job, seconds=seconds), streams)

            return measured

        compared = bench.rounds(
            f"{streams} streams",
            {_PRODUCT: target(stage.product()), _RELAY: target(stage.yardstick("relay"))},
            unit="token",
            columns=_COLUMNS,
        )
        findings.comparisons.append(compared)
        open_ = compared.spread(_PRODUCT, extra("open")).low
        if open_ < streams:
            findings.notes.append(
                f"In one round only {open_:,.0f} of {streams:,} stored streams ran at the end, for "
                "they began too slowly to run together: its figures are those of fewer streams."
            )
        late = Spread.of([math.inf]) if open_ < streams else compared.spread(_PRODUCT, lateness)
        findings.judge("15b" if streams == 1000 else "15", late)
    return findings


def _with_shares(sample: Sample, streams: int) -> Sample:
    """Add which part of the tokens came in time, and the processors that it took."""
    shares = {
        "delivered": sample.rate / (streams * PACE),
        "app cores": sample.app_s / sample.seconds,
    }
    return sample.with_extra(shares)
