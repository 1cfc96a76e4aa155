import asyncio
from decimal import Decimal

import pytest

from tertulia.domain.ids import new_id
from tertulia.domain.models import Delta, Finish, ReasoningDelta, TextDelta, ToolCall, Usage
from tertulia.domain.parts import TextPart
from tertulia.domain.runs import EventKind, RunEvent, RunStatus
from tertulia.runs.live import LiveRun
from tertulia.storage.answer import Answer
from tertulia.storage.repositories.leases import HeldRun
from tertulia.telemetry.tasks import TaskSet

_CALL = ToolCall("1", "f", "{}")


@pytest.fixture
def live() -> LiveRun:
    ids = [new_id() for _ in range(5)]
    held = HeldRun(
        *ids, attempt=1, max_attempts=3, model_type="scripted:parrot", settings={}, age_s=0.0
    )
    return LiveRun(held, Answer())


def hear(live: LiveRun, *deltas: Delta) -> list[RunEvent]:
    for delta in deltas:
        live.hear(delta)
    return live.take_events()


def test_what_was_said_since_the_last_batch_becomes_few_events(live: LiveRun) -> None:
    events = hear(
        live,
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        TextDelta("one"),
        TextDelta(" two"),
        _CALL,
        _CALL,
        TextDelta("three"),
    )
    call = {"call_id": "1", "name": "f", "arguments": "{}"}
    assert events == [
        RunEvent(1, EventKind.REASONING, {"delta": "hm"}),
        RunEvent(2, EventKind.TEXT, {"delta": "one two"}),
        RunEvent(3, EventKind.TOOL_CALL, call),
        RunEvent(4, EventKind.TOOL_CALL, call),
        RunEvent(5, EventKind.TEXT, {"delta": "three"}),
    ]
    assert hear(live, TextDelta("!")) == [RunEvent(6, EventKind.TEXT, {"delta": "!"})]
    assert live.take_events() == []


def test_an_empty_delta_is_no_event(live: LiveRun) -> None:
    assert hear(live, TextDelta(""), ReasoningDelta("")) == []
    assert [event.data for event in hear(live, TextDelta("a"), TextDelta(""))] == [{"delta": "a"}]
    assert live.received == 1


def test_what_waits_is_counted_until_it_is_taken(live: LiveRun) -> None:
    live.hear(TextDelta("12345"))
    assert live.waiting_chars == 5
    live.take_events()
    assert live.waiting_chars == 0


def test_the_end_tells_what_the_provider_said_of_it(live: LiveRun) -> None:
    hear(live, TextDelta("a"), Finish("length", Usage(3, 4), "req-1"))
    live.end(RunStatus.COMPLETED)
    assert live.outcome is not None
    assert live.outcome.usage == Usage(3, 4)
    assert (live.outcome.finish_reason, live.outcome.provider_request_id) == ("length", "req-1")
    assert live.outcome.first_token_ms is not None


def test_without_a_bill_what_was_received_is_counted(live: LiveRun) -> None:
    hear(live, TextDelta("a"), TextDelta("bc", pieces=2))
    live.end(RunStatus.FAILED)
    assert live.outcome is not None
    assert live.outcome.usage == Usage(response_tokens=3)
    assert live.answer.parts == (TextPart("abc"),)


def test_a_continued_answer_is_billed_as_one(live: LiveRun) -> None:
    said = [RunEvent(seq, EventKind.TEXT, {"delta": "a "}) for seq in (1, 2, 3)]
    live.resume(Answer.of(said))
    # The provider was given the three tokens back, as part of the prompt.
    usage = Usage(prompt_tokens=13, response_tokens=2)
    hear(live, TextDelta("b"), TextDelta("c"), Finish("stop", usage, None))
    assert live.tokens == 5
    live.end(RunStatus.COMPLETED)
    assert live.outcome is not None
    assert live.outcome.usage == Usage(prompt_tokens=10, response_tokens=5)


def test_an_answer_that_begins_again_says_so_first(live: LiveRun) -> None:
    said = [RunEvent(1, EventKind.TEXT, {"delta": "a "})]
    live.resume(Answer.of(said))
    live.restart([])
    events = hear(live, TextDelta("b"))
    assert events == [
        RunEvent(2, EventKind.RESTART, {"attempt": 1}),
        RunEvent(3, EventKind.TEXT, {"delta": "b"}),
    ]
    assert live.answer.parts == (TextPart("b"),)
    assert live.tokens == 1


def test_what_tools_have_done_is_said_again_after_a_restart(live: LiveRun) -> None:
    data = {"call_id": "1", "name": "s__f", "arguments": "{}", "server": "s"}
    said = [
        RunEvent(1, EventKind.TEXT, {"delta": "Look: "}),
        RunEvent(2, EventKind.TOOL_CALL, data),
        RunEvent(3, EventKind.TOOL_RESULT, {"call_id": "1", "content": "3"}),
        RunEvent(4, EventKind.TEXT, {"delta": "It is"}),
    ]
    live.resume(Answer.of(said))
    live.restart(live.answer.parts[:3])
    assert hear(live, TextDelta("Three")) == [
        RunEvent(5, EventKind.RESTART, {"attempt": 1}),
        RunEvent(6, EventKind.TEXT, {"delta": "Look: "}),
        RunEvent(7, EventKind.TOOL_CALL, data),
        RunEvent(8, EventKind.TOOL_RESULT, {"call_id": "1", "content": "3"}),
        RunEvent(9, EventKind.TEXT, {"delta": "Three"}),
    ]


def test_several_answers_are_billed_together(live: LiveRun) -> None:
    for usage in (Usage(10, 2, 4, cost_usd=Decimal("0.5")), Usage(20, 3, cost_usd=Decimal("0.25"))):
        live.begin_answer()
        hear(live, TextDelta("a"), Finish("stop", usage, None))
    live.end(RunStatus.COMPLETED)
    assert live.outcome is not None
    assert live.outcome.usage == Usage(30, 5, 4, cost_usd=Decimal("0.75"))


def test_of_an_answer_that_nobody_counted_what_was_received_counts(live: LiveRun) -> None:
    for usage in (Usage(10, None), Usage(20, 1)):
        live.begin_answer()
        hear(live, TextDelta("abc", pieces=3), Finish("stop", usage, None))
    live.end(RunStatus.COMPLETED)
    assert live.outcome is not None
    assert live.outcome.usage == Usage(30, 6)


async def test_a_lost_run_stops_listening(live: LiveRun) -> None:
    tasks = TaskSet()
    live.task = tasks.spawn(asyncio.sleep(60), name="listening")
    live.lose()
    await asyncio.wait([live.task], timeout=1)
    assert live.task.cancelled()
    assert live.ended.is_set()


async def test_a_run_whose_end_is_being_stored_is_not_interrupted(live: LiveRun) -> None:
    tasks = TaskSet()
    live.task = tasks.spawn(asyncio.sleep(0.01), name="storing")
    live.end(RunStatus.COMPLETED)
    live.lose()
    await live.task
    assert not live.task.cancelled()
