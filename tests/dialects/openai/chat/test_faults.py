"""Promise G-41: a chat whose server freezes says so, for it cannot take back what it has shown."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.pair import Pair, pair_of_replicas, script
from tests.kit.person import Person
from tests.kit.stage import fetch_number
from tests.kit.waiting import until

pytestmark = pytest.mark.faults


@pytest.fixture
def pair(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Pair]:
    """Replicas whose model starts an interrupted answer again."""
    with pair_of_replicas(postgres.dsn, tmp_path) as pair:
        yield pair


async def test_an_answer_that_begins_again_ends_the_stream_that_has_shown_some_of_it(
    pair: Pair,
) -> None:
    asked = {"role": "user", "content": script("frozen", pace_ms=500)}
    body = {"model": "scripted", "messages": [asked], "stream": True}
    async with (
        Person(pair.urls) as ana,
        ana.client.stream(
            "POST", f"{pair.one.url}/v1/chat/completions", json=body, headers=ana.headers
        ) as answer,
    ):
        lines = answer.aiter_lines()
        await _first_word(lines)
        await _take_over(pair)
        told = [line async for line in lines if line.startswith("data: ")]

    assert json.loads(told[-1].removeprefix("data: "))["error"]["code"] == "answer_restarted"
    await until(lambda: _nothing_is_left(pair), "the conversation to be deleted")


async def _first_word(lines: AsyncIterator[str]) -> None:
    async for line in lines:
        if '"content":"A"' in line:
            return


async def _take_over(pair: Pair) -> None:
    """Let the other replica take the answer over, and the first one see it."""
    pair.one.freeze()
    try:
        await until(lambda: _was_taken_over(pair), "the other replica", within_s=60)
    finally:
        pair.one.thaw()


async def _was_taken_over(pair: Pair) -> bool:
    return await fetch_number(pair.dsn, "SELECT max(attempt) FROM runs") == 2


async def _nothing_is_left(pair: Pair) -> bool:
    return await fetch_number(pair.dsn, "SELECT count(*) FROM conversations") == 0
