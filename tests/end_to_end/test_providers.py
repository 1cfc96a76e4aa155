"""Promise G-28: a lying, slow or broken provider ends a run in its stated way, text not doubled."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.client import Client, Reading
from tests.kit.history import install_audit
from tests.kit.pair import Pair, script
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica, free_port
from tests.kit.stage import fresh_database, model_env, scripted_provider
from tests.kit.stage import run as run_now

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("providers")]

WORDS = DEFAULT_TEXT.split(" ")


def first_words(count: int) -> str:
    return " ".join(WORDS[:count])


@dataclass(frozen=True)
class Fault:
    """What the provider does, and what must become of it."""

    fields: dict[str, Any]
    code: str | None = None
    """None: the run completes."""
    text: str = ""
    calls: int = 1
    message: dict[str, Any] = field(default_factory=dict[str, Any])
    """Fields of the stored answer."""


FAULTS = {
    "429 without Retry-After": Fault({"status": 429}, "provider_rate_limited", calls=3),
    "429 with a Retry-After that is too long": Fault(
        {"status": 429, "retry_after": 3600}, "provider_rate_limited"
    ),
    "429 once": Fault(
        {"status": 429, "fail_times": 1, "retry_after": 0.1}, text=DEFAULT_TEXT, calls=2
    ),
    "500": Fault({"status": 500}, "provider_error", calls=3, message={"status_code": 502}),
    "502 twice": Fault({"status": 502, "fail_times": 2}, text=DEFAULT_TEXT, calls=3),
    "503": Fault({"status": 503}, "provider_overloaded", calls=3, message={"status_code": 503}),
    "529": Fault({"status": 529}, "provider_overloaded", calls=3),
    "400": Fault({"status": 400}, "provider_rejected", message={"status_code": 400}),
    "401": Fault({"status": 401}, "provider_unauthorized", message={"status_code": 401}),
    "cut before the status": Fault({"cut_after": -1}, "provider_disconnected", calls=3),
    "cut before the first token": Fault({"cut_after": 0}, "provider_disconnected", calls=3),
    "cut once before the first token": Fault(
        {"cut_after": 0, "fail_times": 1}, text=DEFAULT_TEXT, calls=2
    ),
    "cut after some tokens": Fault({"cut_after": 5}, "provider_disconnected", first_words(5)),
    "an end after some tokens": Fault({"eof_after": 5}, "provider_incomplete", first_words(5)),
    "malformed JSON": Fault({"malformed_at": 3}, "provider_invalid_response", first_words(3)),
    "an error in the stream": Fault({"error_at": 4}, "provider_error", first_words(4)),
    "a web page": Fault({"html": True}, "provider_invalid_response"),
    "a document": Fault({"json_document": True}, "provider_invalid_response"),
    "wrong types": Fault({"wrong_types": True}, "provider_invalid_response"),
    "a chunk of 10 MB": Fault({"huge_chunk": 10_000_000}, "provider_invalid_response"),
    "nothing": Fault({"empty": True}, "empty_answer"),
    "filtered": Fault({"content_filter": True}, "content_filtered"),
    "a tool call without a name": Fault({"tool_nameless": True}, "provider_invalid_response"),
    "tool arguments that are no JSON": Fault(
        {"tool_garbage": True}, message={"finish_reason": "tool_calls"}
    ),
    "no finish reason": Fault({"no_finish": True}, text=DEFAULT_TEXT),
    "no [DONE]": Fault({"no_done": True}, text=DEFAULT_TEXT),
    "no usage": Fault({"usage": None}, text=DEFAULT_TEXT, message={"prompt_tokens": None}),
    "a chunk twice": Fault(
        {"double_chunk_at": 0}, text="A" + DEFAULT_TEXT, message={"finish_reason": "stop"}
    ),
    "an endless stream": Fault(
        {"endless": True, "text": "x" * 2_000, "chunks": 1},
        text="x" * 1_000_000,
        message={"finish_reason": "length"},
    ),
    "NUL": Fault({"text": "a\0b"}, text="a\ufffdb"),
}


@pytest.fixture(scope="module")
def stage(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One replica; its breaker opens and closes here and disturbs nobody else's tests."""
    directory = tmp_path_factory.mktemp("providers")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(directory / "calls") as provider_url,
    ):
        run_now(install_audit(dsn))
        env = model_env(provider_url, TERTULIA_RUN_DEADLINE_S="45")
        with Replica(dsn, directory / "one.log", env=env) as replica:
            yield Pair(dsn, provider_url, replica, replica)


async def answer(client: Client, stage: Pair, fault: Fault) -> None:
    content = script(f"fault-{new_id()}", **fault.fields)
    conversation_id = await client.new_conversation(title="Fault")
    operation = await client.send(conversation_id, content)
    reading: Reading = await client.read(operation.run_id)
    run = reading.run
    assert run is not None
    assert run["status"] == ("completed" if fault.code is None else "failed")
    assert (run["error"] and run["error"]["code"]) == fault.code
    assert reading.text == fault.text
    message = await client.message(run)
    assert message["content"] == fault.text
    assert message["is_success"] is (fault.code is None)
    assert {name: message[name] for name in fault.message} == fault.message
    assert len(stage.calls(content)) == fault.calls


async def until_the_breaker_lets_through(client: Client) -> None:
    """Another test may have opened it just before."""
    for _ in range(60):
        conversation_id = await client.new_conversation(title="Is it open?")
        operation = await client.send(conversation_id, script(f"fault-{new_id()}"))
        run = (await client.read(operation.run_id)).run
        if run is not None and run["status"] == "completed":
            return
        await asyncio.sleep(0.5)
    raise AssertionError("the breaker stays open")


async def test_every_fault_has_its_stated_end(stage: Pair) -> None:
    async with Client([stage.one.url]) as client:
        await until_the_breaker_lets_through(client)
        # These two take half a minute; the others happen meanwhile.
        slow = asyncio.gather(
            answer(client, stage, Fault({"accept_stall": True}, "provider_timeout")),
            answer(client, stage, Fault({"stall_after": 5}, "provider_timeout", first_words(5))),
        )
        for name, fault in FAULTS.items():
            try:
                await answer(client, stage, fault)
            except AssertionError as error:
                raise AssertionError(f"after {name}") from error
            # The breaker counts failures in a row: each one is followed by a success.
            await answer(client, stage, Fault({}, text=DEFAULT_TEXT))
        await slow
        await client.history.judge(stage.dsn)


async def test_a_provider_that_keeps_failing_is_left_alone(stage: Pair) -> None:
    fault = Fault({"cut_after": 1}, "provider_disconnected", first_words(1))
    async with Client([stage.one.url]) as client:
        await answer(client, stage, Fault({}, text=DEFAULT_TEXT))
        for _ in range(5):
            await answer(client, stage, fault)
        await answer(client, stage, Fault({}, "provider_unavailable", calls=0))


async def test_a_provider_that_is_not_there_ends_the_run(
    dsn: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    env = model_env(f"http://127.0.0.1:{free_port()}/v1")
    log = tmp_path_factory.mktemp("refused") / "replica.log"
    with Replica(dsn, log, env=env) as replica:
        async with Client([replica.url]) as client:
            conversation_id = await client.new_conversation(title="Refused")
            operation = await client.send(conversation_id, "Hello?")
            run = (await client.read(operation.run_id)).run
            assert run is not None
            assert run["error"]["code"] == "provider_unreachable"
            assert "refused" in run["error"]["message"]
