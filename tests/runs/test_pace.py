"""When the writer stores, and when models are listened to again."""

import asyncio
from collections import Counter

from tertulia.runs.pace import Pace, pause_s
from tertulia.telemetry.tasks import TaskSet


async def listen(pace: Pace, rounds: int, heard: list[int], name: int) -> None:
    for _ in range(rounds):
        if (turn := pace.breathe()) is not None:
            await turn
        heard.append(name)


async def test_few_never_wait() -> None:
    pace = Pace()
    pace.begin()
    await pace.rest(15)
    assert pace.breathe() is None


async def test_the_first_words_of_an_answer_end_a_rest_of_few() -> None:
    pace = Pace()
    await pace.rest(1)  # From now on there is a pause between two batches.
    pace.begin()
    resting = TaskSet().spawn(pace.rest(1), name="rest")
    for _ in range(3):
        await asyncio.sleep(0)
    assert not resting.done()
    pace.hurry()
    await resting


async def test_many_are_listened_to_in_groups_that_take_turns_and_each_comes_as_often() -> None:
    pace, heard = Pace(), list[int]()
    pace.begin()
    await pace.rest(250)
    async with asyncio.TaskGroup() as group:
        for number in range(250):
            group.create_task(listen(pace, 4, heard, number))
        await asyncio.sleep(0)
        sizes = list[int]()
        for _ in range(4 * 3 + 3):
            before = len(heard)
            pace.begin()
            await pace.rest(0)
            sizes.append(len(heard) - before)
    assert max(sizes) <= 100, "a group is no more than that"
    assert set(Counter(heard).values()) == {4}
    first_of_each = list(dict.fromkeys(heard))
    assert first_of_each == list(range(250)), "who has waited longest comes first"


async def test_when_the_crowd_leaves_nobody_is_left_waiting() -> None:
    pace, heard = Pace(), list[int]()
    pace.begin()
    await pace.rest(20)
    tasks = TaskSet()
    listening = [tasks.spawn(listen(pace, 1, heard, number), name="one") for number in range(20)]
    await asyncio.sleep(0)
    for left in listening[:18]:
        left.cancel()
    await asyncio.gather(*listening[:18], return_exceptions=True)
    async with asyncio.timeout(5):
        while not all(each.done() for each in listening):
            pace.begin()
            await pace.rest(0)
    assert heard == [18, 19]
    await pace.rest(0)
    assert pace.breathe() is None


def test_commits_stay_below_fifty_a_second_and_pauses_grow_with_the_crowd() -> None:
    assert [pause_s(runs) for runs in (1, 15, 16, 99)] == [0.02, 0.02, 0.05, 0.05]
    assert [round(pause_s(runs), 3) for runs in (100, 200, 500, 1000)] == [0.05, 0.05, 0.125, 0.25]
