"""Runs as server-sent events, in Tertulia's own words."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from tertulia.domain.errors import Invalid
from tertulia.domain.runs import EventKind, RunEvent
from tertulia.http.sse import StreamEvent
from tertulia.runs.follower import Followed, Reconnect
from tertulia.runs.live import RunEnded
from tertulia.runs.schemas import RunResponse

SEQ_MAX = 2**31 - 1
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
