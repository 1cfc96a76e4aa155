"""Whether a user's millionth message costs what the first did."""

from dataclasses import dataclass
from datetime import timedelta

from benchmarks.bench import Bench, Findings, Target
from benchmarks.cells import cell
from benchmarks.figures import Comparison, Spread, What, cpu, p50
from benchmarks.people import Crowd
from benchmarks.requests import get
from benchmarks.stage import Server
from tertulia.http.paging import encode_cursor

_CHARS = 150


@dataclass(frozen=True, slots=True)
class _User:
    """Somebody with a history of a size."""

    name: str
    crowd: Crowd
    """Many conversations."""
    long: Crowd
    """The same again: a user with one conversation, of a tenth of the messages."""


@cell("growth")
def measure_growth(bench: Bench) -> Findings:
    """The same pages for users with 10 to 100,000 conversations and 1,000 to 5,000,000 messages."""
    sizes = bench.size(((10, 100), (1000, 50), (100_000, 50)), ((10, 10), (50, 10)))
    with bench.own_stage() as stage:
        users: list[_User] = []
        for conversations, messages in sizes:
            total = conversations * messages
            bench.say(f"  making {total:,} messages")
            users.append(
                _User(
                    f"{conversations:,} conversations, {total:,} messages",
                    stage.people.crowd(
                        users=1, conversations=conversations, messages=messages, chars=_CHARS
                    ),
                    stage.people.crowd(
                        users=1, conversations=1, messages=max(60, total // 10), chars=_CHARS
                    ),
                )
            )
        product = stage.product()
        findings = Findings()
        for name in list(_requests_of(users[0]))[:: bench.size(1, 3)]:
            findings.comparisons.append(
                bench.rounds(
                    name,
                    {user.name: _target(bench, product, user, name) for user in users},
                )
            )
    for row, what in (("6", cpu), ("6b", p50)):
        worst = [_worst_growth(compared, what) for compared in findings.comparisons]
        findings.judge(row, max(worst, key=lambda spread: spread.median))
    return findings


def _requests_of(user: _User) -> dict[str, str]:
    """Return a request for each kind of page: name, path."""
    crowd, long = user.crowd, user.long
    middle, count = crowd.conversation_id(0, crowd.conversations // 2), long.messages
    listing, messages = "/conversations?limit=10", f"/conversations/{long.conversation_id()}"
    return {
        "list, first page": listing,
        "list, in the middle": f"{listing}&cursor={_cursor(crowd, crowd.conversations // 2 + 5)}",
        "list, last page": f"{listing}&cursor={_cursor(crowd, 10)}",
        "one conversation": f"/conversations/{middle}",
        "its messages": f"/conversations/{middle}/messages?limit=50",
        "long conversation, first page": f"{messages}/messages?limit=50",
        "long conversation, in the middle": (
            f"{messages}/messages?limit=50&cursor={encode_cursor(count // 2)}"
        ),
        "long conversation, last page": (
            f"{messages}/messages?limit=50&cursor={encode_cursor(count - 51)}"
        ),
    }


def _cursor(crowd: Crowd, after: int) -> str:
    """Return where the page after that conversation begins, counted from the oldest."""
    return encode_cursor(crowd.at + timedelta(seconds=after), crowd.conversation_id(0, after))


def _target(bench: Bench, product: Server, user: _User, name: str) -> Target:
    owner = user.long if name.startswith("long") else user.crowd
    return bench.asking(product, [get(_requests_of(user)[name], owner.token())], 1)


def _worst_growth(compared: Comparison, what: What) -> Spread:
    """Return the ratio of the largest user to the smallest."""
    smallest, *_, largest = compared.samples
    return compared.ratio(largest, smallest, what)
