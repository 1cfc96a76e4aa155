"""Promises G-12 and G-13: one key is one message, one run and one bill."""

import asyncio

import pytest

from tertulia.domain.ids import new_id
from tests.kit.client import Client
from tests.kit.pair import Pair, script
from tests.kit.stage import fetch_number

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("pair")]

KEYS = 20
SENDERS = 15


async def test_retries_with_one_key_make_one_message_one_run_and_one_call(pair: Pair) -> None:
    async with Client(pair.urls) as client:
        for number in range(KEYS):
            key, content = new_id().hex, script(f"key-{number}-{new_id()}", pace_ms=1)
            conversation_id = await client.new_conversation(title="Keyed")
            operations = await asyncio.gather(
                *(
                    client.send(conversation_id, content, key=key, url=pair.urls[sender % 2])
                    for sender in range(SENDERS)
                )
            )
            assert {(each.state, each.status) for each in operations} == {("ok", 202)}
            assert len({each.run_id for each in operations}) == 1
            run = await client.end_of(operations[0].run_id)
            assert run["status"] == "completed"
            assert len(pair.calls(content)) == 1
            late = await client.send(conversation_id, content, key=key)
            assert late.run_id == operations[0].run_id
        count = "SELECT count(*) FROM runs r JOIN conversations c ON c.id = r.conversation_id"
        mine = f"{count} WHERE c.title = 'Keyed' AND r.user_id = $1"
        assert await fetch_number(pair.dsn, mine, client.id) == KEYS
        await client.history.judge(pair.dsn)


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
