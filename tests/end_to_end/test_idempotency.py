"""Promises G-12 and G-13: one key is one message, one run and one bill."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tertulia.telemetry.tasks import TaskSet
from tests.kit.chance import say, seeded
from tests.kit.client import Client
from tests.kit.crowd import crowd, spread
from tests.kit.history import Operation
from tests.kit.pair import Pair, asked, calls_of, pair_of_replicas, script
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica
from tests.kit.size import sized
from tests.kit.stage import fetch, fetch_number

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

KEYS = sized(20, full=200)
SENDERS = sized(15, full=50)
KEYS_BETWEEN_DEATHS = sized(6, full=200)
KILLS = sized(1, full=10)
"""At least: a start takes its time."""
KEYS_AT_ONCE = 2
"""While replicas die; each with all its senders."""
ACKNOWLEDGED_S = 60.0


async def test_retries_with_one_key_make_one_message_one_run_and_one_call(pair: Pair) -> None:
    async with Client(pair.urls) as client:

        async def one_key(number: int) -> float:
            began = time.monotonic()
            key, content = new_id().hex, script(f"key-{number}-{new_id()}", pace_ms=1)
            conversation_id = await client.new_conversation(title="Keyed")
            operations = await asyncio.gather(
                *(
                    client.send(conversation_id, content, key=key, url=pair.urls[sender % 2])
                    for sender in range(SENDERS)
                )
            )
            took_s = time.monotonic() - began
            assert {(each.state, each.status) for each in operations} == {("ok", 202)}
            assert len({each.run_id for each in operations}) == 1
            run = await client.end_of(operations[0].run_id)
            assert run["status"] == "completed"
            assert len(pair.calls(content)) == 1
            late = await client.send(conversation_id, content, key=key)
            assert late.run_id == operations[0].run_id
            return took_s

        took_s = await crowd(one_key, count=KEYS, at_once=1)
        count = "SELECT count(*) FROM runs r JOIN conversations c ON c.id = r.conversation_id"
        mine = f"{count} WHERE c.title = 'Keyed' AND r.user_id = $1"
        assert await fetch_number(pair.dsn, mine, client.id) == KEYS
        await client.history.judge(pair.dsn)
    say(
        f"G-12: {KEYS} keys, each from {SENDERS} senders at once at two replicas: {KEYS} messages, "
        f"{KEYS} runs, {KEYS} calls; all answered after {spread(took_s)}"
    )


@pytest.fixture(scope="module")
def mortal(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two replicas to be killed, whose model goes on from the beginning of an answer."""
    with pair_of_replicas(
        postgres.dsn,
        tmp_path_factory.mktemp("mortal"),
        TERTULIA_OPENAI_CONTINUATION="vllm",
        TERTULIA_RUN_ATTEMPTS="10",
    ) as pair:
        yield pair


@dataclass
class Death:
    """Kills one replica or the other in the middle of its work, and starts it again."""

    chance: random.Random
    count: int = 0
    is_over: bool = False

    async def haunt(self, *replicas: Replica) -> None:
        """Kill until it is over; all of them live at the end."""
        while not self.is_over:
            victim = self.chance.choice(replicas)
            # At every step of a send, and before and after the first token of its answer.
            await asyncio.sleep(self.chance.uniform(0.2, 2.0))
            await asyncio.to_thread(victim.kill)
            self.count += 1
            await asyncio.to_thread(victim.start)


async def acknowledged(client: Client, conversation_id: str, content: str, key: str) -> Operation:
    """Send with a key until it is acknowledged, as a client that was cut off does."""
    deadline = time.monotonic() + ACKNOWLEDGED_S
    while True:
        url = random.choice(client.urls)
        operation = await client.send(conversation_id, content, key=key, url=url)
        if operation.state == "ok":
            return operation
        assert operation.status in (None, 503) or is_in_flight(operation), operation
        assert time.monotonic() < deadline, f"not acknowledged: {operation}"
        # All senders together leave a starting replica some of the processors.
        await asyncio.sleep(0.2)


def is_in_flight(operation: Operation) -> bool:
    """Whether the answer was that another sender's request has not ended yet."""
    return operation.status == 409 and operation.body["code"] == "idempotency_key_in_flight"


async def test_one_key_stays_one_run_when_replicas_are_killed_in_between(mortal: Pair) -> None:
    death = Death(seeded())
    async with Client(mortal.urls) as client:
        runs: dict[str, str] = {}

        async def one_key(number: int) -> float:
            began = time.monotonic()
            key = new_id().hex
            content = script(f"mortal-{number}-{new_id()}", first_byte_delay_ms=100, pace_ms=10)
            conversation_id = await client.new_conversation(title="Mortal")
            operations = await asyncio.gather(
                *(acknowledged(client, conversation_id, content, key) for _ in range(SENDERS))
            )
            assert len({each.run_id for each in operations}) == 1
            runs[content] = operations[0].run_id
            return time.monotonic() - began

        killing = TaskSet().spawn(death.haunt(mortal.one, mortal.two), name="death")
        try:
            took_s = await crowd(one_key, count=KEYS_BETWEEN_DEATHS, at_once=KEYS_AT_ONCE)
        finally:
            death.is_over = True
            await killing
        ended = {content: await client.end_of(run_id) for content, run_id in runs.items()}
        await assert_stored_once(mortal, ended)
        again = assert_called_again_only_after_a_death(mortal, ended)
        await client.history.judge(mortal.dsn)
    assert death.count >= KILLS
    say(
        f"G-12: {KEYS_BETWEEN_DEATHS} keys, each from {SENDERS} senders, {death.count} kills in "
        f"between: as many messages and runs; {again} calls of a later attempt; all acknowledged "
        f"after {spread(took_s)}"
    )


async def assert_stored_once(pair: Pair, ended: dict[str, dict[str, Any]]) -> None:
    assert {run["status"] for run in ended.values()} == {"completed"}
    rows = await fetch(
        pair.dsn,
        """
        SELECT r.id::text, m.content, r.restart_attempt FROM runs r
        JOIN messages m ON m.id = r.message_id JOIN conversations c ON c.id = r.conversation_id
        WHERE c.title = 'Mortal'
        """,
    )
    assert sorted(row["id"] for row in rows) == sorted(run["id"] for run in ended.values())
    assert {row["content"] for row in rows} == {DEFAULT_TEXT}
    # This model can go on, so nothing that was stored is said again.
    assert {row["restart_attempt"] for row in rows} == {None}


def assert_called_again_only_after_a_death(pair: Pair, ended: dict[str, dict[str, Any]]) -> int:
    """No attempt calls twice, and only the first tokens' absence lets one begin anew."""
    calls: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in calls_of(pair.provider_url):
        calls[asked(call)].append(call)
    again = 0
    for content, run in ended.items():
        made = calls[content]
        assert made, "an answer that nobody gave"
        assert len(made) <= run["attempt"], "one attempt called twice"
        goes_on = [bool(call["body"].get("continue_final_message")) for call in made]
        # Once text was stored, every later call goes on from it.
        assert goes_on == sorted(goes_on)
        again += len(made) - 1
    return again


async def test_a_key_goes_with_one_request_of_one_user(pair: Pair) -> None:
    async with Client(pair.urls) as ana, Client(pair.urls) as bob:
        key = new_id().hex
        hers = await ana.new_conversation(title="Hers")
        his = await bob.new_conversation(title="His")
        first = await ana.send(hers, "A question", key=key)
        other_body = await ana.send(hers, "Another question", key=key, url=pair.two.url)
        assert (other_body.status, other_body.body["code"]) == (422, "idempotency_key_reused")
        await ana.end_of(first.run_id)
        other_place = await ana.send(await ana.new_conversation(title="x"), "A question?", key=key)
        assert (other_place.status, other_place.body["code"]) == (422, "idempotency_key_reused")
        other_user = await bob.send(his, "His own question", key=key)
        assert other_user.run_id != first.run_id
        await bob.end_of(other_user.run_id)


async def test_a_refused_send_leaves_its_key_free(pair: Pair) -> None:
    async with Client(pair.urls) as client:
        conversation_id = await client.new_conversation(title="Busy")
        busy = await client.send(conversation_id, script("holds", pace_ms=50))
        key, content = new_id().hex, f"after all {new_id()}"
        refused = await client.send(conversation_id, content, key=key, url=pair.two.url)
        assert (refused.status, refused.body["code"]) == (409, "run_active")
        await client.cancel(busy.run_id)
        again = await client.send(conversation_id, content, key=key, url=pair.one.url)
        assert again.state == "ok"
        await client.end_of(again.run_id)
        await client.history.judge(pair.dsn)
