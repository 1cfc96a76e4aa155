"""Promise G-28: a lying, slow or broken provider ends a run in its stated way, text not doubled."""

import asyncio
import itertools
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.chance import say, seeded
from tests.kit.client import Client, Reading
from tests.kit.crowd import crowd, spread
from tests.kit.history import install_audit
from tests.kit.pair import Pair, script, start_all
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.replica import Replica, free_port
from tests.kit.size import sized
from tests.kit.stage import fresh_database, model_env, scripted_provider
from tests.kit.stage import run as run_now

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("providers")]

WORDS = DEFAULT_TEXT.split(" ")
TIMES = sized(1, full=20)
"""Each fault."""
AT_ONCE = sized(1, full=3)
"""Fewer than open the breaker, should all of them fail at the same moment."""
BREAKER_OPENS_AFTER = 5
BREAKER_OPEN_S = 15.0
TRIAL_LATE_S = 3.0
"""Somebody asks about every half second whether it is still open."""
HALF_OPEN_TIMES = sized(0, full=3)
REPLICAS_WITHOUT_PROVIDER, RUNS_WITHOUT_PROVIDER = sized(1, full=5), sized(1, full=4)
"""For each way not to reach it; so few runs that the breaker of none opens."""
DEAF = sized(0, full=1)
"""Whether one of the ways is a connect that hangs, which takes a quarter of a minute."""


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


SLOW_FAULTS = {
    "no first byte": Fault({"accept_stall": True}, "provider_timeout"),
    "a stall in mid-stream": Fault({"stall_after": 5}, "provider_timeout", first_words(5)),
}


@pytest.fixture(scope="module")
def stage(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two replicas, one for what takes half a minute; their breakers disturb no other test."""
    directory = tmp_path_factory.mktemp("providers")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(directory / "calls") as provider_url,
    ):
        run_now(install_audit(dsn))
        env = model_env(provider_url, TERTULIA_RUN_DEADLINE_S="45")
        one = Replica(dsn, directory / "one.log", env=env)
        slow = Replica(dsn, directory / "slow.log", env=env)
        with start_all(one, slow):
            yield Pair(dsn, provider_url, one, slow)


@dataclass(frozen=True)
class Ended:
    """A run that ended as stated, and the pauses between its calls of the provider."""

    run: dict[str, Any]
    pauses_s: list[float]


async def answer(client: Client, stage: Pair, fault: Fault) -> Ended:
    """Have the provider act so, and see that the run ends as stated."""
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
    calls = stage.calls(content)
    assert len(calls) == fault.calls
    pauses_s = [seconds_between(*pair) for pair in itertools.pairwise(c["time"] for c in calls)]
    assert all(pause >= fault.fields.get("retry_after", 0) for pause in pauses_s)
    return Ended(run, pauses_s)


async def until_the_breaker_lets_through(client: Client) -> dict[str, Any]:
    """Another test may have opened it just before."""
    for _ in range(60):
        conversation_id = await client.new_conversation(title="Is it open?")
        operation = await client.send(conversation_id, script(f"fault-{new_id()}"))
        run = (await client.read(operation.run_id)).run
        if run is not None and run["status"] == "completed":
            return run
        await asyncio.sleep(0.5)
    raise AssertionError("the breaker stays open")


async def test_every_fault_has_its_stated_end(stage: Pair) -> None:
    names = list(FAULTS) * TIMES
    if TIMES > 1:
        seeded().shuffle(names)
    pauses_s: list[float] = []
    async with Client([stage.one.url]) as client, Client([stage.two.url]) as patient:
        await until_the_breaker_lets_through(client)

        async def one_fault(number: int) -> None:
            name = names[number]
            try:
                pauses_s.extend((await answer(client, stage, FAULTS[name])).pauses_s)
            except AssertionError as error:
                raise AssertionError(f"after {name}") from error
            # The breaker counts failures in a row: each one is followed by a success.
            await answer(client, stage, Fault({}, text=DEFAULT_TEXT))

        # All of them at once, before the breaker has heard of any: they take half a minute, and
        # the others happen meanwhile.
        slow = asyncio.gather(
            *(answer(patient, stage, each) for each in SLOW_FAULTS.values() for _ in range(TIMES))
        )
        await crowd(one_fault, count=len(names), at_once=AT_ONCE)
        await slow
        await client.history.judge(stage.dsn)
        await patient.history.judge(stage.dsn)
    assert len(set(pauses_s)) == len(pauses_s), "no jitter"
    kinds = len(FAULTS) + len(SLOW_FAULTS)
    say(
        f"G-28: {kinds} scripts x {TIMES}: {kinds * TIMES} of {kinds * TIMES} ended as stated; "
        f"{len(pauses_s)} pauses before another try, {spread(pauses_s)}"
    )


async def test_a_provider_that_keeps_failing_is_left_alone(stage: Pair) -> None:
    fault = Fault({"cut_after": 1}, "provider_disconnected", first_words(1))
    open_s: list[float] = []
    async with Client([stage.one.url]) as client:
        await until_the_breaker_lets_through(client)
        for number in range(1 + HALF_OPEN_TIMES):
            failed = [await answer(client, stage, fault) for _ in range(BREAKER_OPENS_AFTER)]
            await answer(client, stage, Fault({}, "provider_unavailable", calls=0))
            if number < HALF_OPEN_TIMES:
                trial = await until_the_breaker_lets_through(client)
                open_s.append(seconds_between(failed[-1].run["ended_at"], trial["started_at"]))
    say(f"G-28: {BREAKER_OPENS_AFTER} failures open the breaker; a trial after {open_s} s")
    # What opened it was stored as the run's end a moment later.
    assert all(-1 < each - BREAKER_OPEN_S < TRIAL_LATE_S for each in open_s)


def seconds_between(before: str, after: str) -> float:
    return (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds()


@contextmanager
def deaf_port() -> Generator[int]:
    """A port whose queue of connections is full: the next one is neither taken nor refused."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        for _ in range(16):
            caller = stack.enter_context(socket.socket())
            caller.settimeout(0.2)
            try:
                caller.connect(listener.getsockname())
            except TimeoutError:
                yield listener.getsockname()[1]
                return
        raise AssertionError("the queue has no end")


async def assert_not_reached(replica: Replica, code: str, words: str) -> None:
    async with Client([replica.url]) as client:

        async def one_run(_: int) -> None:
            conversation_id = await client.new_conversation(title="Not there")
            operation = await client.send(conversation_id, f"Hello? {new_id()}")
            run = (await client.read(operation.run_id)).run
            assert run is not None
            assert (run["status"], run["error"]["code"]) == ("failed", code)
            assert words in run["error"]["message"]

        await crowd(one_run, count=RUNS_WITHOUT_PROVIDER, at_once=RUNS_WITHOUT_PROVIDER)


async def test_a_provider_that_cannot_be_reached_ends_the_run(
    stage: Pair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    logs = tmp_path_factory.mktemp("not reached")
    with deaf_port() as deaf:
        ways = [
            (f"http://127.0.0.1:{free_port()}/v1", "provider_unreachable", "refused"),
            ("http://nowhere.invalid/v1", "provider_unreachable", "name was not found"),
            (stage.provider_url.replace("http:", "https:"), "provider_unreachable", "TLS"),
            *[(f"http://127.0.0.1:{deaf}/v1", "provider_timeout", "connect")] * DEAF,
        ]
        for _ in range(REPLICAS_WITHOUT_PROVIDER):
            replicas = [
                Replica(stage.dsn, logs / f"{number}.log", env=model_env(url))
                for number, (url, _, _) in enumerate(ways)
            ]
            with start_all(*replicas):
                await asyncio.gather(
                    *(
                        assert_not_reached(replica, code, words)
                        for replica, (_, code, words) in zip(replicas, ways, strict=True)
                    )
                )
    times = REPLICAS_WITHOUT_PROVIDER * RUNS_WITHOUT_PROVIDER
    say(f"G-28: not reached in {len(ways)} ways x {times}: all ended as stated")
