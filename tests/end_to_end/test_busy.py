"""Promise G-14: concurrent sends to one conversation have one named outcome."""

import asyncio
import itertools
import time
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tests.kit.chance import say
from tests.kit.client import Client, Reading
from tests.kit.crowd import crowd, spread
from tests.kit.history import Operation
from tests.kit.pair import Pair, script
from tests.kit.size import sized
from tests.kit.stage import fetch

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

ROUNDS = sized(10, full=100)
"""Of each way to be busy."""
SENDERS = sized(8, full=10)
AT_ONCE = 3
"""Rounds; more senders than that would be turned away as overload on a busy machine."""
ENDS_S = 60.0


async def send_at_once(
    client: Client, pair: Pair, conversation_id: str, on_busy: str, **fields: object
) -> list[Operation]:
    return await asyncio.gather(
        *(
            client.send(
                conversation_id,
                script(f"{on_busy}-{new_id()}", **fields),
                url=pair.urls[sender % 2],
                on_busy=on_busy,
            )
            for sender in range(SENDERS)
        )
    )


async def runs_of(pair: Pair, conversation_id: str) -> list[Any]:
    """Return the conversation's runs in the order in which they take turns."""
    return await fetch(
        pair.dsn, "SELECT * FROM runs WHERE conversation_id = $1 ORDER BY seq", conversation_id
    )


def assert_one_at_a_time(runs: list[Any]) -> None:
    ran = sorted((r for r in runs if r["started_at"]), key=lambda r: r["started_at"])
    for before, after in itertools.pairwise(ran):
        assert before["ended_at"] <= after["started_at"]


def say_rounds(on_busy: str, rounds_s: list[float], outcome: str) -> None:
    say(
        f"G-14 {on_busy}: {len(rounds_s)} rounds of {SENDERS} senders at two replicas, {outcome}; "
        f"a round took {spread(rounds_s)}"
    )


async def test_a_busy_conversation_rejects_by_default(pair: Pair) -> None:
    async with Client(pair.urls) as client:

        async def one_round(_: int) -> float:
            began = time.monotonic()
            conversation_id = await client.new_conversation(title="Rejects")
            # It says little for long, so that it is there when the last of them arrives.
            operations = await send_at_once(client, pair, conversation_id, "reject", pace_ms=200)
            (accepted,) = (each for each in operations if each.state == "ok")
            refused = [each for each in operations if each is not accepted]
            assert {(each.status, each.body["code"]) for each in refused} == {(409, "run_active")}
            await client.cancel(accepted.run_id)
            assert len(await runs_of(pair, conversation_id)) == 1
            return time.monotonic() - began

        took_s = await crowd(one_round, count=ROUNDS, at_once=1)
        await client.history.judge(pair.dsn)
    say_rounds("reject", took_s, "one stored each, the others 409")


async def test_a_queue_keeps_the_order_of_arrival(pair: Pair) -> None:
    async with Client(pair.urls) as client:

        async def one_round(_: int) -> float:
            began = time.monotonic()
            conversation_id = await client.new_conversation(title="Queues")
            operations = await send_at_once(
                client, pair, conversation_id, "queue", text="a b c", pace_ms=5
            )
            assert {each.state for each in operations} == {"ok"}
            for operation in operations:
                run = await client.end_of(operation.run_id, within_s=ENDS_S)
                assert run["status"] == "completed"
            runs = await runs_of(pair, conversation_id)
            assert {str(run["id"]) for run in runs} == {each.run_id for each in operations}
            assert [run["attempt"] for run in runs] == [1] * SENDERS
            in_turn = sorted(runs, key=lambda run: run["started_at"])
            assert in_turn == runs
            assert_one_at_a_time(runs)
            return time.monotonic() - began

        took_s = await crowd(one_round, count=ROUNDS, at_once=AT_ONCE)
        await client.history.judge(pair.dsn)
    say_rounds("queue", took_s, "all stored, answered in the order of arrival, one at a time")


async def test_an_interrupt_ends_the_former_run_with_its_partial_answer(pair: Pair) -> None:
    former_text = "so far " * 300
    async with Client(pair.urls) as client:

        async def one_round(_: int) -> float:
            began = time.monotonic()
            conversation_id = await client.new_conversation(title="Interrupts")
            first = await client.send(
                conversation_id, script(f"former-{new_id()}", text=former_text, pace_ms=30)
            )
            await client.read_some(Reading(first.run_id), stop_after_events=1)
            operations = await send_at_once(
                client, pair, conversation_id, "interrupt", text="a b c", pace_ms=20
            )
            assert {each.state for each in operations} == {"ok"}
            for operation in operations:
                await client.end_of(operation.run_id, within_s=ENDS_S)
            former = await client.end_of(first.run_id)
            assert former["status"] == "cancelled"
            partial = (await client.message(former))["content"]
            assert partial
            assert former_text.startswith(partial)
            runs = await runs_of(pair, conversation_id)
            assert len(runs) == SENDERS + 1
            assert runs[-1]["status"] == "completed"
            assert {run["status"] for run in runs} == {"cancelled", "completed"}
            assert_one_at_a_time(runs)
            return time.monotonic() - began

        took_s = await crowd(one_round, count=ROUNDS, at_once=AT_ONCE)
        await client.history.judge(pair.dsn)
    say_rounds("interrupt", took_s, "all stored, the former with its partial answer, one at a time")
