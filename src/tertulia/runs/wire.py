"""Runs as server-sent events, in Tertulia's own words."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import msgspec

from tertulia.domain.errors import Invalid, TertuliaError, Unavailable
from tertulia.domain.runs import EventKind, RunEvent
from tertulia.http.sse import StreamEvent
from tertulia.runs.follower import Followed, Reconnect
from tertulia.runs.live import RunEnded
from tertulia.runs.schemas import RunResponse

SEQ_MAX = 2**31 - 1
CHECK_CREDENTIALS_S = 10.0
"""How long a stream goes on after its credentials were revoked, at most."""
_encode = msgspec.json.Encoder().encode


def to_event(item: Followed) -> StreamEvent:
    """Return one thing that a follower sees as an event of the native wire."""
    match item:
        case RunEvent(seq, kind, data):
            return StreamEvent(str(seq), kind.value, _encode(data))
        case RunEnded(seq, run):
            data = RunResponse.of(run).model_dump_json().encode()
            return StreamEvent(str(seq), EventKind.DONE.value, data)
        case Reconnect():
            # No id: the reader's Last-Event-ID stays where it is.
            return StreamEvent(None, "reconnect", b"{}")


async def to_events(items: AsyncGenerator[Followed, None]) -> AsyncGenerator[StreamEvent, None]:
    """Yield the events of a followed run; closing it stops following."""
    async with aclosing(items) as followed:
        async for item in followed:
            yield to_event(item)


async def refusal(
    still_allowed: Callable[[], Awaitable[object]], *, check_every_s: float = CHECK_CREDENTIALS_S
) -> TertuliaError:
    """Wait until a reader has logged out, or been shut out, and return what was said then.

    Args:
        still_allowed: Raises once the reader's credentials are good no more.
        check_every_s: How often it is asked, whether or not there is something to read.
    """
    while True:
        await asyncio.sleep(check_every_s)
        try:
            await still_allowed()
        except Unavailable:
            pass  # Nobody can tell now; ask again later.
        except TertuliaError as error:
            return error


def parse_cursor(value: str, *, field: str) -> int:
    """Return the number of the event after which to go on.

    Raises:
        Invalid: It is no cursor of a run.
    """
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(SEQ_MAX))):
        raise Invalid("This is not a cursor of this run", field=field)
    seq = int(value)
    if seq > SEQ_MAX:
        raise Invalid("This is not a cursor of this run", field=field)
    return seq
