"""Runs as server-sent events."""

from collections.abc import AsyncGenerator

import pytest

from tertulia.domain.errors import DatabaseUnavailable, Invalid, TertuliaError, Unauthenticated
from tertulia.domain.runs import EventKind, RunEvent
from tertulia.runs.follower import Followed, Reconnect
from tertulia.runs.wire import parse_cursor, to_event, to_events


async def three_words() -> AsyncGenerator[Followed, None]:
    for seq, word in enumerate(("one", "two", "three"), 1):
        yield RunEvent(seq, EventKind.TEXT, {"delta": word})


class Door:
    """Lets so many pass, then raises."""

    def __init__(self, opens: int, error: TertuliaError) -> None:
        self._opens = opens
        self._error = error

    async def __call__(self) -> None:
        self._opens -= 1
        if self._opens < 0:
            raise self._error


async def test_a_stream_ends_when_its_reader_is_shut_out() -> None:
    door = Door(1, Unauthenticated())
    events = [event async for event in to_events(three_words(), door, check_every_s=0)]
    assert [event.id for event in events] == ["1"]


async def test_a_stream_goes_on_while_nobody_can_tell() -> None:
    door = Door(0, DatabaseUnavailable())
    events = [event async for event in to_events(three_words(), door, check_every_s=0)]
    assert [event.id for event in events] == ["1", "2", "3"]


async def test_credentials_are_not_judged_at_every_event() -> None:
    door = Door(0, Unauthenticated())
    events = [event async for event in to_events(three_words(), door, check_every_s=60)]
    assert len(events) == 3


def test_a_reader_that_is_sent_elsewhere_keeps_its_place() -> None:
    assert to_event(Reconnect()).id is None


@pytest.mark.parametrize("value", ["", "-1", "1.0", "one", "2147483648", "9" * 30, "\u0661", " 1"])
def test_what_is_no_cursor_is_refused(value: str) -> None:
    with pytest.raises(Invalid):
        parse_cursor(value, field="query.after")


def test_the_last_number_there_can_be_is_a_cursor() -> None:
    assert parse_cursor("2147483647", field="query.after") == 2**31 - 1
