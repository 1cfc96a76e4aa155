"""Tools that the server calls, and processes that die: no side effect happens twice unnoticed."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.client import Client, Reading
from tests.kit.pair import Pair, pair_of_replicas, script
from tests.kit.tool_hosting import Json, config_file, let_go, noted, over_stdio
from tests.kit.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("deaths")]

LONG = "It was a dark and stormy night, and nobody had thought of bringing an umbrella."


@dataclass(frozen=True)
class Stage:
    """Two replicas with the same tools."""

    pair: Pair
    notes: Path
    continues: bool
    """Whether its model goes on from the beginning of an answer."""

    async def start(self, client: Client, content: str) -> Reading:
        """Start a run on replica one."""
        conversation_id = await client.new_conversation(title="Tools")
        operation = await client.send(conversation_id, content, url=self.pair.one.url, mcp=["kit"])
        return Reading(operation.run_id)

    async def done(self, *lines: str) -> None:
        """Wait until tools have done all this."""
        await until(lambda: set(lines) <= set(noted(self.notes)), str(lines), within_s=30)

    def count(self, line: str) -> int:
        return noted(self.notes).count(line)


@pytest.fixture(scope="module", params=["none", "vllm"])
def stage(
    request: pytest.FixtureRequest,
    postgres: EmbeddedPostgres,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """Replicas whose model starts an interrupted answer again, or continues it."""
    directory = tmp_path_factory.mktemp("tools")
    notes = directory / "notes"
    config = config_file(directory, kit=over_stdio(notes, default="allow"))
    with pair_of_replicas(
        postgres.dsn,
        directory,
        TERTULIA_MCP_CONFIG=str(config),
        TERTULIA_OPENAI_CONTINUATION=request.param,
    ) as pair:
        yield Stage(pair, notes, continues=request.param != "none")


def calls(*wanted: tuple[str, str], then: Json | None = None) -> str:
    """Return a message whose answer calls these tools, each with one text."""
    tool_calls = [
        {"name": f"kit__{tool}", "arguments": f'{{"text": "{text}"}}'} for tool, text in wanted
    ]
    return script(
        f"tools-{new_id()}", text="Let me.", tool_calls=tool_calls, then=[then or {"text": "Done."}]
    )


async def finish(stage: Stage, client: Client, reading: Reading) -> list[dict[str, Any]]:
    """Read to the end, start replica one again, and return the answer's parts."""
    await client.read_on(reading)
    await asyncio.to_thread(stage.pair.one.start)
    assert reading.run is not None
    assert reading.run["status"] == "completed"
    assert reading.run["attempt"] == 2
    message = await client.message(reading.run)
    again = await client.read(reading.run_id)
    assert [seen.id for seen in again.events] == [
        seen.id for seen in reading.events if int(seen.id or 0) >= int(again.events[0].id or 0)
    ]
    return message["parts"]


async def test_a_call_under_way_in_a_process_that_dies_is_not_made_again(stage: Stage) -> None:
    first, second = new_id().hex, new_id().hex
    async with Client(stage.pair.urls) as client:
        reading = await stage.start(client, calls(("wait", first), ("send", second)))
        await stage.done(f"wait {first}")
        stage.pair.one.kill()
        parts = await finish(stage, client, reading)
    assert [part["type"] for part in parts] == [
        "text",
        "tool_call",
        "tool_call",
        "tool_result",
        "tool_result",
        "text",
    ]
    assert "not known" in parts[3]["content"]
    # The second call had certainly not begun.
    assert parts[4]["content"] == f"sent {second}"
    assert (stage.count(f"wait {first}"), stage.count(f"send {second}")) == (1, 1)
    assert "restart" not in [seen.event for seen in reading.events]


async def test_a_call_that_may_be_repeated_is_made_again(stage: Stage) -> None:
    text = new_id().hex
    async with Client(stage.pair.urls) as client:
        reading = await stage.start(client, calls(("wait_again", text)))
        await stage.done(f"wait_again {text}")
        stage.pair.one.kill()
        let_go(stage.notes, text)
        parts = await finish(stage, client, reading)
    assert parts[2]["content"] == f"waited {text}"
    assert stage.count(f"wait_again {text}") == 2


async def test_what_was_called_is_not_called_again_when_the_words_after_it_are_lost(
    stage: Stage,
) -> None:
    text = new_id().hex
    async with Client(stage.pair.urls) as client:
        then = {"text": LONG, "pace_ms": 150}
        reading = await stage.start(client, calls(("send", text), then=then))
        # The first words, the call, its result, and some of the words after it.
        await client.read_some(reading, url=stage.pair.two.url, stop_after_events=9)
        stage.pair.one.kill()
        parts = await finish(stage, client, reading)
    assert [part["type"] for part in parts] == ["text", "tool_call", "tool_result", "text"]
    assert (parts[2]["content"], parts[3]["text"]) == (f"sent {text}", LONG)
    assert stage.count(f"send {text}") == 1
    assert ("restart" in [seen.event for seen in reading.events]) is not stage.continues
