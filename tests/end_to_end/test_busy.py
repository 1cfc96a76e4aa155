"""Promise G-14: concurrent sends to one conversation have one named outcome."""

import asyncio
import itertools
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tests.kit.client import Client
from tests.kit.history import Operation
from tests.kit.pair import Pair, script
from tests.kit.stage import fetch

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

ROUNDS = 10
SENDERS = 8


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


async def test_a_busy_conversation_rejects_by_default(pair: Pair) -> None:
    async with Client(pair.urls) as client:
        for _ in range(ROUNDS):
            conversation_id = await client.new_conversation(title="Rejects")
            operations = await send_at_once(client, pair, conversation_id, "reject", pace_ms=20)
            (accepted,) = (each for each in operations if each.state == "ok")
            refused = [each for each in operations if each is not accepted]
            assert {(each.status, each.body["code"]) for each in refused} == {(409, "run_active")}
            await client.cancel(accepted.run_id)
            assert len(await runs_of(pair, conversation_id)) == 1
        await client.history.judge(pair.dsn)


async def test_a_queue_keeps_the_order_of_arrival(pair: Pair) -> None:
    async def one_round(client: Client) -> None:
        conversation_id = await client.new_conversation(title="Queues")
        operations = await send_at_once(
            client, pair, conversation_id, "queue", text="a b c", pace_ms=5
        )
        for operation in operations:
            assert (await client.end_of(operation.run_id))["status"] == "completed"
        runs = await runs_of(pair, conversation_id)
        assert {str(run["id"]) for run in runs} == {each.run_id for each in operations}
        assert [run["attempt"] for run in runs] == [1] * SENDERS
        in_turn = sorted(runs, key=lambda run: run["started_at"])
        assert in_turn == runs
        assert_one_at_a_time(runs)

    async with Client(pair.urls) as client:
        await asyncio.gather(*(one_round(client) for _ in range(ROUNDS)))
        await client.history.judge(pair.dsn)


async def test_an_interrupt_ends_the_former_run_with_its_partial_answer(pair: Pair) -> None:
    async def one_round(client: Client) -> None:
        conversation_id = await client.new_conversation(title="Interrupts")
        first = await client.send(
            conversation_id, script(f"former-{new_id()}", text="so far " * 99, pace_ms=30)
        )
        await asyncio.sleep(0.5)
        operations = await send_at_once(
            client, pair, conversation_id, "interrupt", text="a b c", pace_ms=20
        )
        for operation in operations:
            await client.end_of(operation.run_id)
        former = await client.end_of(first.run_id)
        assert former["status"] == "cancelled"
        partial = (await client.message(former))["content"]
        assert partial
        assert ("so far " * 99).startswith(partial)
        runs = await runs_of(pair, conversation_id)
        assert len(runs) == SENDERS + 1
        assert runs[-1]["status"] == "completed"
        assert {run["status"] for run in runs} == {"cancelled", "completed"}
        assert_one_at_a_time(runs)

    async with Client(pair.urls) as client:
        await asyncio.gather(*(one_round(client) for _ in range(ROUNDS)))
        await client.history.judge(pair.dsn)
