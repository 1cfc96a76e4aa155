"""Doing a thing many times, but only so many at once; and saying how long it took."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Result = TypeVar("Result")


async def crowd(
    work: Callable[[int], Awaitable[Result]], *, count: int, at_once: int
) -> list[Result]:
    """Do `work` for every number below `count` and return the results in that order.

    The first that fails ends all others.
    """
    results: dict[int, Result] = {}
    numbers = iter(range(count))

    async def one_worker() -> None:
        for number in numbers:
            results[number] = await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, count)):
            group.create_task(one_worker())
    return [results[number] for number in range(count)]


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest of the values that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def spread(values: Sequence[float]) -> str:
    """Return median, p99 and maximum of so many seconds, for people."""
    median, p99 = statistics.median(values), percentile(values, 99)
    return f"median {median:.2f} s, p99 {p99:.2f} s, max {max(values):.2f} s"
