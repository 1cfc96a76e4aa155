"""What a crowd does to everybody else: a thousand connections, and people who log in."""

from benchmarks.audience import Audience
from benchmarks.bench import Bench, Findings, Target
from benchmarks.cells import cell
from benchmarks.figures import Sample, Spread, p50, p99, rate
from benchmarks.load.jobs import Job, RequestsJob
from benchmarks.measuring import measure
from benchmarks.people import PASSWORD
from benchmarks.requests import get, post

_LOGINS = 16
_LONG_S = 60.0
_POOL = 8


@cell("connections")
def measure_connections(bench: Bench) -> Findings:
    """1,000 connections that ask for lists, on a pool of 8 connections to PostgreSQL."""
    stage = bench.stage
    crowd = stage.people.crowd(users=100, conversations=10, messages=2)
    requests = [get("/conversations?limit=10", crowd.token(user)) for user in range(100)]
    product = stage.product(**bench.size({"TERTULIA_POOL_SIZE": str(_POOL)}, {}))
    long_s = bench.size(_LONG_S / bench.options.rounds, bench.options.seconds)
    many = bench.size(1000, 64)

    def target(connections: int, seconds: float) -> Target:
        job = RequestsJob(product.port, requests, connections, warm_s=bench.size(3.0, 0.5))
        return lambda: measure(product, job, seconds=seconds)

    compared = bench.rounds(
        f"list of 10, pool of {_POOL}",
        {
            "16 connections": target(16, bench.options.seconds),
            f"{many:,} connections": target(many, long_s),
        },
        columns=["max ms"],
    )
    findings = Findings([compared])
    few, crowded = compared.samples
    errors = sum(sample.errors for sample in compared.samples[crowded])
    findings.judge("8", Spread.of([errors]))
    findings.judge("8b", compared.ratio(crowded, few, rate))
    findings.judge(
        "8c", compared.spread(crowded, lambda sample: sample.p99_ms / 1000 * sample.rate / many)
    )
    return findings


@cell("login")
def measure_login(bench: Bench) -> Findings:
    """16 people who log in again and again, beside somebody who lists and streams that run."""
    stage, audience = bench.stage, Audience.of(bench)
    crowd = stage.people.crowd(users=_LOGINS, conversations=10, messages=2)
    product = stage.product()
    seconds = bench.size(max(5.0, bench.options.seconds), bench.options.seconds)
    streams = bench.size(20, 5)
    listing = RequestsJob(
        product.port, [get("/conversations?limit=10", crowd.token(user)) for user in range(4)], 4
    )
    logins = _logins(product.port, crowd.user)

    def lists(*others: Job) -> Target:
        return lambda: measure(product, listing, *others, seconds=seconds)

    def streamed(*others: Job) -> Target:
        def measured() -> Sample:
            job = audience.paced(product, streams, seconds)
            return measure(product, job, *others, seconds=seconds)

        return measured

    listed = bench.rounds("list of 10, c=4", {"idle": lists(), f"{_LOGINS} logins": lists(logins)})
    told = bench.rounds(
        f"{streams} streams",
        {"idle": streamed(), f"{_LOGINS} logins": streamed(logins)},
        unit="token",
        columns=["max ms"],
    )
    findings = Findings([listed, told])
    findings.judge("10", listed.ratio(f"{_LOGINS} logins", "idle", p50))
    pairs = zip(told.samples[f"{_LOGINS} logins"], told.samples["idle"], strict=True)
    findings.judge("10b", Spread.of([p99(busy) - p99(idle) for busy, idle in pairs]))
    return findings


def _logins(port: int, first_user: int) -> Job:
    bodies = [
        {"email": f"u{first_user + number}@example.com", "password": PASSWORD}
        for number in range(_LOGINS)
    ]
    return RequestsJob(port, [post("/auth/login", body) for body in bodies], _LOGINS)
