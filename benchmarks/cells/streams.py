"""What a token costs: stored by the product, and passed on by relays."""

from benchmarks.audience import Audience
from benchmarks.bench import Bench, Findings, Target
from benchmarks.cells import cell
from benchmarks.figures import Sample, cpu, extra
from benchmarks.load.jobs import StreamsJob
from benchmarks.measuring import measure
from benchmarks.stage import Server
from benchmarks.upstream import PACE, prompt

_PRODUCT, _RELAY, _SDK = "Tertulia, stored", "raw relay", "openai SDK relay"
_FLAT_TOKENS = 10_000
_SDK_TOKENS = 2_000
"""The SDK's relay would need half a minute for what the others do in two seconds."""


@cell("stream-flat")
def measure_flat(bench: Bench) -> Findings:
    """Eight answers of 10,000 tokens at a time, as fast as they come."""
    stage, audience = bench.stage, Audience.of(bench)

    def target(server: Server, tokens: int = _FLAT_TOKENS) -> Target:
        wanted = prompt(tokens=bench.size(tokens, 500), pace=0)

        def measured() -> Sample:
            requests = audience.requests_to(server, wanted, bench.size(400, 200))
            job = StreamsJob(server.port, requests, 8, renew=True)
            return measure(server, job, seconds=bench.options.seconds)

        return measured

    compared = bench.rounds(
        "flat out, 8 streams",
        {
            _PRODUCT: target(stage.product()),
            _RELAY: target(stage.yardstick("relay")),
            _SDK: target(stage.yardstick("sdk_relay"), _SDK_TOKENS),
        },
        unit="token",
    )
    findings = Findings([compared])
    findings.judge("11", compared.spread(_PRODUCT, lambda sample: sample.cpu_ms * 1000))
    findings.judge("11b", compared.ratio(_PRODUCT, _SDK, cpu))
    findings.judge("11c", compared.ratio(_PRODUCT, _RELAY, cpu))
    return findings


@cell("stream-paced")
def measure_paced(bench: Bench) -> Findings:
    """Answers at 50 tokens a second each, in the middle of them."""
    stage, audience = bench.stage, Audience.of(bench)
    streams = bench.size(40, 8)
    seconds = bench.size(max(5.0, bench.options.seconds), bench.options.seconds)

    def target(server: Server) -> Target:
        return lambda: measure(server, audience.paced(server, streams, seconds), seconds=seconds)

    compared = bench.rounds(
        f"{streams} streams x {PACE} tokens/s",
        {
            _PRODUCT: target(stage.product()),
            _RELAY: target(stage.yardstick("relay")),
            _SDK: target(stage.yardstick("sdk_relay")),
        },
        unit="token",
        columns=["open", "write transactions/s"],
    )
    findings = Findings([compared])
    findings.judge("12", compared.ratio(_PRODUCT, _RELAY, cpu))
    findings.judge("12b", compared.spread(_PRODUCT, extra("write transactions/s")))
    findings.judge("18", compared.ratio(_PRODUCT, _RELAY, cpu))
    return findings
