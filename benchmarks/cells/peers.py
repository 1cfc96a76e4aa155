"""Other products that keep conversations, on the same PostgreSQL."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType

from benchmarks.bench import Bench, Findings, Target
from benchmarks.cells import cell
from benchmarks.figures import Sample, cpu
from benchmarks.peers import aegra, open_webui
from benchmarks.peers.contender import APPENDED_TO, ITEMS, MESSAGES, Contender
from benchmarks.people import Crowd, message_text
from benchmarks.requests import get, post
from benchmarks.stage import Server

_PRODUCT = "Tertulia"
_KINDS: Mapping[str, Callable[[Contender], list[str]]] = MappingProxyType(
    {
        f"list of {ITEMS}": lambda contender: contender.listing(),
        f"{MESSAGES} messages": lambda contender: contender.pages(),
        # Last: it makes conversations, which lists would have to look through.
        "append": lambda contender: contender.appends(),
    }
)
_ROWS = MappingProxyType(
    {aegra.NAME: ("22a", "22b", "22c"), open_webui.NAME: ("22d", "22e", "22f")}
)
"""The goals against each peer, in the order of the kinds."""
_APPENDED = {"role": "user", "content": message_text(MESSAGES + 1)}


@dataclass(frozen=True, slots=True)
class _Ours:
    """The product itself, asked in the same way."""

    bench: Bench
    server: Server
    crowd: Crowd

    @property
    def more_and_less(self) -> str:
        return (
            f"{_PRODUCT} asks its database each time whether the session goes on. Its list says "
            "how many messages there are. A page is twenty messages of however many, an append "
            "one row and the conversation's; the answer is the message."
        )

    def listing(self) -> list[str]:
        return [get(f"/conversations?limit={ITEMS}", self.crowd.token())]

    def pages(self) -> list[str]:
        crowd, token = self.crowd, self.crowd.token()
        return [
            get(f"/conversations/{crowd.conversation_id(0, each)}/messages?limit={MESSAGES}", token)
            for each in range(ITEMS)
        ]

    def appends(self) -> list[str]:
        crowd = self.bench.stage.people.crowd(users=1, conversations=APPENDED_TO, messages=MESSAGES)
        paths = [
            f"/conversations/{crowd.conversation_id(0, each)}/messages"
            for each in range(APPENDED_TO)
        ]
        return [post(path, _APPENDED, crowd.token()) for path in paths]


@cell("peers", on_request=True)
def measure_peers(bench: Bench) -> Findings:
    """A list of ten, a page of twenty messages and an append, beside other products."""
    findings = Findings()
    with ExitStack() as ended:
        crowd = bench.stage.people.crowd(users=1, conversations=ITEMS, messages=MESSAGES)
        contenders: dict[str, Contender] = {
            _PRODUCT: _Ours(bench, bench.stage.product(), crowd),
            aegra.NAME: ended.enter_context(aegra.started(bench)),
            open_webui.NAME: ended.enter_context(open_webui.started(bench)),
        }
        for number, (title, requests_for) in enumerate(_KINDS.items()):
            compared = [
                bench.rounds(
                    f"{title} beside peers, c={connections}",
                    {
                        name: _target(bench, contender, requests_for, connections)
                        for name, contender in contenders.items()
                    },
                )
                for connections in bench.size((1, 16), (16,))
            ]
            findings.comparisons += compared
            for peer, rows in _ROWS.items():
                findings.judge(rows[number], compared[-1].ratio(peer, _PRODUCT, cpu))
        findings.notes += [contender.more_and_less for contender in contenders.values()]
    return findings


def _target(
    bench: Bench,
    contender: Contender,
    requests_for: Callable[[Contender], list[str]],
    connections: int,
) -> Target:
    def measured() -> Sample:
        requests = requests_for(contender)
        return bench.asking(contender.server, requests, connections, in_turns=True)()

    return measured
