import asyncio
import time

import pytest

from tertulia.domain.errors import Overloaded
from tertulia.storage.turns import Turns


async def hold(turns: Turns, begun: asyncio.Event) -> None:
    async with turns:
        begun.set()
        await asyncio.Event().wait()


async def test_turns_are_taken_in_the_order_they_were_asked_for() -> None:
    turns, served = Turns(2, stuck_s=5, wait_s=5), list[int]()
    at_once = most = 0

    async def visit(number: int) -> None:
        nonlocal at_once, most
        async with turns:
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            served.append(number)
            at_once -= 1

    await asyncio.gather(*(visit(number) for number in range(50)))
    assert served == list(range(50))
    assert most == 2


async def test_who_waits_for_something_stuck_is_turned_away_soon() -> None:
    turns, begun = Turns(1, stuck_s=0.2, wait_s=60), asyncio.Event()
    holding = asyncio.ensure_future(hold(turns, begun))
    await begun.wait()
    with pytest.raises(Overloaded):
        async with asyncio.timeout(10), turns:
            pass
    holding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holding
    async with asyncio.timeout(10), turns:
        pass


async def test_a_crowd_is_served_while_turns_are_passed_on() -> None:
    turns = Turns(1, stuck_s=0.2, wait_s=60)

    async def visit() -> None:
        async with turns:
            await asyncio.sleep(0.01)

    # Together ten times as long as one may wait for something stuck.
    await asyncio.gather(*(visit() for _ in range(200)))


async def test_nobody_waits_longer_than_the_limit() -> None:
    turns = Turns(1, stuck_s=0.2, wait_s=0.5)

    async def visit() -> None:
        async with turns:
            await asyncio.sleep(0.01)

    visits = await asyncio.gather(*(visit() for _ in range(500)), return_exceptions=True)
    turned_away = [visit for visit in visits if isinstance(visit, Overloaded)]
    assert 0 < len(turned_away) < len(visits)


async def test_a_process_that_was_busy_itself_turns_nobody_away() -> None:
    turns = Turns(1, stuck_s=0.2, wait_s=60)

    async def visit() -> None:
        async with turns:
            await asyncio.sleep(0.01)

    visits = [asyncio.ensure_future(visit()) for _ in range(5)]
    await asyncio.sleep(0)
    time.sleep(0.5)  # noqa: ASYNC251  all of its timers are overdue now
    await asyncio.gather(*visits)


async def test_a_turn_that_comes_when_nobody_waits_any_more_is_passed_on() -> None:
    turns, begun = Turns(1, stuck_s=5, wait_s=60), asyncio.Event()
    holding = asyncio.ensure_future(hold(turns, begun))
    await begun.wait()
    waiting = [asyncio.ensure_future(hold(turns, asyncio.Event())) for _ in range(2)]
    await asyncio.sleep(0)
    # The turn is given to the first that waits, which leaves before it learns of it.
    holding.cancel()
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await asyncio.gather(holding, *waiting, return_exceptions=True)
    async with asyncio.timeout(10), turns:
        pass
