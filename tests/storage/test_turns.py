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


class TestACrowd:
    """Those who are to begin only when few wait: with one turn, two."""

    async def test_begins_in_its_order_and_only_while_the_line_is_short(self) -> None:
        turns, served = Turns(1, stuck_s=5, wait_s=5), list[int]()
        begun = most = 0

        async def visit(number: int) -> None:
            nonlocal begun, most
            await turns.until_short()
            begun += 1
            most = max(most, begun)
            async with turns:
                await asyncio.sleep(0)
            begun -= 1
            served.append(number)

        first = [asyncio.ensure_future(visit(number)) for number in range(50)]
        await asyncio.sleep(0)
        # They find no room in the order of the first, and stand behind them.
        later = [asyncio.ensure_future(visit(number)) for number in range(50, 100)]
        await asyncio.gather(*first, *later)
        assert served == list(range(100))
        # One has the turn, two wait, and one may have ended its turn and not have left.
        assert most <= 4

    async def test_goes_on_when_those_who_were_let_in_want_no_turn(self) -> None:
        turns, begun = Turns(1, stuck_s=60, wait_s=60), asyncio.Event()
        holding = asyncio.ensure_future(hold(turns, begun))
        await begun.wait()
        waiting = [asyncio.ensure_future(hold(turns, asyncio.Event())) for _ in range(2)]
        await asyncio.sleep(0)
        crowd = [asyncio.ensure_future(turns.until_short()) for _ in range(50)]
        await asyncio.sleep(0.01)
        assert not any(each.done() for each in crowd)
        # Nobody's turn ends: one of those who wait for it leaves.
        waiting[1].cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*crowd)
        for each in (holding, *waiting):
            each.cancel()
        await asyncio.gather(holding, *waiting, return_exceptions=True)

    async def test_is_turned_away_with_those_in_the_line_when_that_is_stuck(self) -> None:
        turns, begun = Turns(1, stuck_s=0.2, wait_s=60), asyncio.Event()
        holding = asyncio.ensure_future(hold(turns, begun))
        await begun.wait()
        waiting = [asyncio.ensure_future(hold(turns, asyncio.Event())) for _ in range(2)]
        await asyncio.sleep(0)
        crowd = [asyncio.ensure_future(turns.until_short()) for _ in range(5)]
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*waiting, *crowd, return_exceptions=True)
        assert [type(end) for end in ends] == [Overloaded] * 7
        await turns.until_short()
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)

    async def test_gets_its_share_of_turns_when_others_keep_the_line_long(self) -> None:
        turns = Turns(1, stuck_s=60, wait_s=60)

        async def again_and_again() -> None:
            while True:
                async with turns:
                    await asyncio.sleep(0)

        others = [asyncio.ensure_future(again_and_again()) for _ in range(10)]
        await asyncio.sleep(0)
        served = 0

        async def visit() -> None:
            nonlocal served
            await turns.until_short()
            async with turns:
                served += 1

        async with asyncio.timeout(10):
            await asyncio.gather(*(visit() for _ in range(50)))
        assert served == 50
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def test_loses_nobodys_place_when_some_leave(self) -> None:
        turns, begun = Turns(1, stuck_s=60, wait_s=60), asyncio.Event()
        holding = asyncio.ensure_future(hold(turns, begun))
        await begun.wait()

        async def visit() -> None:
            await turns.until_short()
            async with turns:
                pass

        visits = [asyncio.ensure_future(visit()) for _ in range(30)]
        await asyncio.sleep(0)
        for each in visits[::2]:
            each.cancel()
        holding.cancel()
        async with asyncio.timeout(10):
            ends = await asyncio.gather(*visits, return_exceptions=True)
        assert ends[1::2] == [None] * 15
        assert all(isinstance(end, asyncio.CancelledError) for end in ends[::2])
        async with asyncio.timeout(10), turns:
            await turns.until_short()
