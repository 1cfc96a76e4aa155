"""Those who have answers streamed: requests for them, and how paced ones are measured."""

from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.load.jobs import Job, StreamsJob
from benchmarks.people import Crowd
from benchmarks.requests import post
from benchmarks.stage import Server
from benchmarks.upstream import MODEL, PACE, prompt

_EVENTS = "text/event-stream"
_CONVERSATIONS = 20_000
_STARTS_A_SECOND = 50
"""A thousand people do not send in the same second."""


@dataclass(slots=True)
class Audience:
    """Readers of streams; the product's each in a conversation that nobody has used."""

    crowd: Crowd
    lead_s: float
    """How much longer than measured paced streams run, for all of them to run meanwhile."""
    _used: int = 0

    @classmethod
    def of(cls, bench: Bench) -> "Audience":
        """Return a new one, on the stage that cells share."""
        crowd = bench.stage.people.crowd(users=1, conversations=_CONVERSATIONS, messages=0)
        return cls(crowd, bench.size(1.5, 0.3))

    def requests_to(self, server: Server, wanted: str, count: int) -> list[str]:
        """Return requests for so many answers; those to a relay are all the same."""
        if server.name == "Tertulia":
            return [self._run(wanted) for _ in range(count)]
        messages = [{"role": "user", "content": wanted}]
        body = {"model": MODEL, "messages": messages, "stream": True}
        return [post("/v1/chat/completions", body, accept=_EVENTS)]

    def paced(self, server: Server, streams: int, seconds: float) -> Job:
        """Return a job of streams that run all the time that is measured, and end soon after.

        Args:
            server: Who streams.
            streams: How many at the same time.
            seconds: How long is measured.
        """
        over_s = streams / _STARTS_A_SECOND
        wanted = prompt(tokens=round(PACE * (1.3 * over_s + seconds + self.lead_s)))
        requests = self.requests_to(server, wanted, streams)
        return StreamsJob(server.port, requests, streams, over_s=over_s)

    def firsts(self, server: Server, count: int, *, delay_ms: int = 0) -> Job:
        """Return a job of short answers one after the other, for when their first token comes.

        Args:
            server: Who streams.
            count: How many answers there may be at most.
            delay_ms: How long the upstream itself takes to its first token.
        """
        wanted = prompt(tokens=3, delay_ms=delay_ms)
        requests = self.requests_to(server, wanted, count)
        return StreamsJob(server.port, requests, 1, renew=True, pause_s=0.02)

    def _run(self, wanted: str) -> str:
        """Return a request that starts a run in a conversation of its own."""
        number, self._used = self._used, self._used + 1
        assert number < self.crowd.conversations, "not enough conversations were made"
        path = f"/conversations/{self.crowd.conversation_id(0, number)}/runs"
        return post(path, {"content": wanted}, self.crowd.token(), accept=_EVENTS)
