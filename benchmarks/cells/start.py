"""How fast a server is ready, and what an idle one holds."""

import time

from benchmarks.bench import Bench, Findings, Target
from benchmarks.cells import cell
from benchmarks.figures import Sample, extra
from benchmarks.processes import Meter
from benchmarks.stage import Stage

_ELSEWHERE, _BUNDLED = "a provider elsewhere", "the bundled model"
_REST_S = 2.0


@cell("start")
def measure_start(bench: Bench) -> Findings:
    """`tertulia serve` on a data directory that is there, PostgreSQL's start included."""
    findings = Findings()
    with bench.own_stage() as stage:
        if not bench.options.quick:
            stage.leave_postgres()
        compared = bench.rounds(
            "from the command to `ready`",
            {
                _BUNDLED: _start(bench, stage, TERTULIA_LOCAL_MODEL="true"),
                **bench.size({_ELSEWHERE: _start(bench, stage)}, {}),
            },
            unit="start",
            columns=["seconds", "MB idle"],
        )
    findings.comparisons.append(compared)
    findings.judge("start", compared.spread(_BUNDLED, extra("seconds")))
    if _ELSEWHERE in compared.samples:
        findings.judge("23", compared.spread(_ELSEWHERE, extra("MB idle")))
    return findings


def _start(bench: Bench, stage: Stage, **settings: str) -> Target:
    def target() -> Sample:
        began = time.monotonic()
        with stage.started_product(**settings) as server:
            ready_s = time.monotonic() - began
            cost = Meter(app=[server.pid], postgres=stage.postgres_pid()).so_far()
            time.sleep(bench.size(_REST_S, 0.1))
            idle_mb = server.memory_bytes() / 1e6
        return Sample(
            operations=1,
            seconds=ready_s,
            app_s=cost.app_s,
            postgres_s=cost.postgres_s,
            extra={"seconds": ready_s, "MB idle": idle_mb},
        )

    return target
