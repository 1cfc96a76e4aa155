"""Runs as server-sent events."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from tertulia.domain.errors import (
    DatabaseUnavailable,
    Invalid,
    TertuliaError,
    Unauthenticated,
    UserInactive,
)
from tertulia.domain.runs import EventKind, RunEvent
from tertulia.runs.follower import Followed, Reconnect
from tertulia.runs.wire import parse_cursor, refusal, to_event, to_events


async def three_words() -> AsyncGenerator[Followed, None]:
    for seq, word in enumerate(("one", "two", "three"), 1):
        yield RunEvent(seq, EventKind.TEXT, {"delta": word})


class Door:
    """Says these things, one each time: None lets pass, an error is raised."""

    def __init__(self, *says: TertuliaError | None) -> None:
        self.says = list(says)

    async def __call__(self) -> None:
        said = self.says.pop(0)
        if said is not None:
            raise said


async def test_events_keep_their_order() -> None:
    events = [event async for event in to_events(three_words())]
    assert [event.id for event in events] == ["1", "2", "3"]


async def test_a_reader_that_leaves_stops_the_following() -> None:
    closed = False

    async def followed() -> AsyncGenerator[Followed, None]:
        nonlocal closed
        try:
            async for item in three_words():
                yield item
        finally:
            closed = True

    events = to_events(followed())
    await anext(events)
    await events.aclose()
    assert closed


async def test_credentials_are_judged_until_they_are_refused() -> None:
    door = Door(None, None, Unauthenticated(), None)
    assert isinstance(await refusal(door, check_every_s=0), Unauthenticated)
    assert len(door.says) == 1


async def test_credentials_that_nobody_can_judge_now_are_judged_again() -> None:
    door = Door(DatabaseUnavailable(), DatabaseUnavailable(), UserInactive())
    assert isinstance(await refusal(door, check_every_s=0), UserInactive)


async def test_credentials_are_not_judged_all_the_time() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await refusal(Door(), check_every_s=60)


def test_a_reader_that_is_sent_elsewhere_keeps_its_place() -> None:
    assert to_event(Reconnect()).id is None


@pytest.mark.parametrize("value", ["", "-1", "1.0", "one", "2147483648", "9" * 30, "\u0661", " 1"])
def test_what_is_no_cursor_is_refused(value: str) -> None:
    with pytest.raises(Invalid):
        parse_cursor(value, field="query.after")


def test_the_last_number_there_can_be_is_a_cursor() -> None:
    assert parse_cursor("2147483647", field="query.after") == 2**31 - 1
