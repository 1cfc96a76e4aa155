"""What a run's events become, also when the model had to begin again."""

from datetime import UTC, datetime
from typing import Any

from tertulia.dialects.openai.responses.events import Event, ResponseEvents
from tertulia.domain.ids import new_id
from tertulia.domain.models import Usage
from tertulia.domain.runs import EventKind, Run, RunEvent, RunStatus
from tertulia.runs.live import RunEnded

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_run(status: RunStatus, settings: dict[str, Any] | None = None) -> Run:
    ended = status.is_terminal
    return Run(
        id=new_id(),
        user_id=new_id(),
        conversation_id=new_id(),
        message_id=new_id(),
        seq=2,
        status=status,
        attempt=1,
        model_type="openai:scripted",
        settings=settings or {},
        error=None,
        usage=Usage(1, 2) if ended else None,
        finish_reason="stop" if ended else None,
        created_at=NOW,
        started_at=NOW,
        ended_at=NOW if ended else None,
    )


def text(seq: int, delta: str) -> RunEvent:
    return RunEvent(seq, EventKind.TEXT, {"delta": delta})


def reasoning(seq: int, delta: str) -> RunEvent:
    return RunEvent(seq, EventKind.REASONING, {"delta": delta})


def restart(seq: int) -> RunEvent:
    return RunEvent(seq, EventKind.RESTART, {"attempt": 2})


def call(seq: int) -> RunEvent:
    data = {"call_id": "c", "name": "f", "arguments": "{}"}
    return RunEvent(seq, EventKind.TOOL_CALL, data)


def stream(run: Run, *events: RunEvent) -> list[Event]:
    """Return the whole stream of a run that says this and ends well."""
    made = ResponseEvents(run)
    told = made.begin()
    for event in events:
        told += made.hear(event)
    return [*told, *made.end(RunEnded(len(events) + 1, run))]


def kinds(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_words_are_one_item() -> None:
    events = stream(a_run(RunStatus.COMPLETED), text(1, "Hel"), text(2, "lo"))
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[6]["text"] == "Hello"
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


def test_reasoning_words_and_calls_are_items_of_their_own() -> None:
    run = a_run(RunStatus.COMPLETED)
    events = stream(run, reasoning(1, "Hm"), text(2, "Hello"), call(3), call(4))
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == [
        "reasoning",
        "message",
        "function_call",
        "function_call",
    ]
    ids = [item["id"] for item in output]
    name = run.message_id.hex
    assert ids == [f"rs_{name}", f"msg_{name}_1", f"fc_{name}_2", f"fc_{name}_3"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = [event for event in events if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in done] == [0, 1, 2, 3]


def test_calls_that_this_server_makes_are_items_with_their_results() -> None:
    called = [
        RunEvent(seq, EventKind.TOOL_CALL, {**call(seq).data, "call_id": name, "server": "files"})
        for seq, name in ((2, "c1"), (3, "c2"))
    ]
    results = [
        RunEvent(seq, EventKind.TOOL_RESULT, {"call_id": name, "content": name.upper()})
        for seq, name in ((4, "c1"), (5, "c2"))
    ]
    events = stream(
        a_run(RunStatus.COMPLETED), text(1, "I look"), *called, *results, text(6, "Found")
    )

    output = events[-1]["response"]["output"]
    kinds_of = [item["type"] for item in output]
    assert kinds_of == ["message", "mcp_call", "mcp_call", "message"]
    assert [item["output"] for item in output[1:3]] == ["C1", "C2"]
    assert output[1]["server_label"] == "files"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    done = [event["output_index"] for event in events if event["type"].endswith("item.done")]
    assert done == [0, 1, 2, 3]


def test_a_call_that_waits_for_consent_is_an_item_without_a_result() -> None:
    asked = RunEvent(1, EventKind.TOOL_CALL, {**call(1).data, "server": "files"})
    (item,) = stream(a_run(RunStatus.COMPLETED), asked)[-1]["response"]["output"]
    assert (item["type"], item["output"], item["status"]) == ("mcp_call", None, "incomplete")


def test_a_background_response_is_queued_first() -> None:
    events = stream(a_run(RunStatus.COMPLETED, {"echo": {"background": True}}))
    assert kinds(events) == ["created", "queued", "in_progress", "completed"]
    assert [event["response"]["status"] for event in events] == [
        "queued",
        "queued",
        "in_progress",
        "completed",
    ]


def test_a_cancelled_answer_ends_incomplete_with_what_it_said() -> None:
    events = stream(a_run(RunStatus.CANCELLED), text(1, "Hel"))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["status"] == "cancelled"
    assert events[-2]["item"]["status"] == "incomplete"


def test_who_comes_after_a_restart_sees_the_events_of_who_saw_it() -> None:
    run = a_run(RunStatus.COMPLETED)
    saw_it = stream(
        run, reasoning(1, "Hm"), text(2, "Wro"), call(3), restart(4), text(5, "Right"), call(6)
    )
    # When the run has ended, what came before the restart is forgotten.
    came_later = stream(run, restart(4), text(5, "Right"), call(6))

    numbers = [event["sequence_number"] for event in saw_it]
    assert numbers == sorted(set(numbers))
    assert came_later[2:] == saw_it[-len(came_later[2:]) :]
    assert [item["type"] for item in saw_it[-1]["response"]["output"]] == [
        "message",
        "function_call",
    ]


def test_a_restart_closes_what_was_being_said() -> None:
    events = stream(a_run(RunStatus.COMPLETED), text(1, "Wro"), restart(2), text(3, "Right"))
    items = [each["item"] for each in events if each["type"] == "response.output_item.done"]
    assert [item["status"] for item in items] == ["incomplete", "completed"]
