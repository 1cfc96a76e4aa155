"""A run as events of AG-UI, also when the model had to begin again."""

import json
from typing import Any

from tertulia.dialects.ag_ui.events import AgEvents
from tertulia.dialects.ag_ui.schemas import RunInput
from tertulia.domain.runs import Run, RunError, RunEvent, RunStatus
from tests.dialects.ag_ui.order import read, says, verified
from tests.dialects.runs import RESTART, a_run, call, reasoning, result, text
from tests.kit.provider_script import Json

ASKED: Json = {"threadId": "t", "runId": "r", "messages": [says("Hi", name="u1")]}


def stream(run: Run, *events: RunEvent, **asked: Any) -> list[Json]:  # noqa: ANN401  JSON
    """Return the whole stream of a run that says this and then ended as it did."""
    made = AgEvents(run, RunInput.model_validate({**ASKED, **asked}))
    told = [*made.begin()]
    for event in events:
        told += made.hear(event)
    return verified([json.loads(each) for each in (*told, *made.end(run))])


def test_thoughts_and_words_are_messages_in_their_order() -> None:
    run = a_run()
    events = stream(run, reasoning("hm "), reasoning("so"), text("One "), text("two"))
    assert [event["type"] for event in events] == [
        "RUN_STARTED",
        "REASONING_START",
        "REASONING_MESSAGE_START",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_CONTENT",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    assert [message["content"] for message in read(events)] == ["hm so", "One two"]
    assert events[0] == {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
    end = events[-1]
    assert end["usage"] == [
        {
            "provider": "openai",
            "model": "openai:scripted",
            "inputTokens": 1,
            "outputTokens": 2,
            "totalTokens": 3,
        }
    ]
    assert end["result"]["messageId"] == str(run.message_id)


def test_the_version_is_told_to_who_told_theirs() -> None:
    [started, *_] = stream(a_run(), protocolVersion="1.0")
    assert started["protocolVersion"] == "1.0"


def test_calls_belong_to_the_answer_and_wait_for_the_client() -> None:
    run = a_run(finish_reason="tool_calls")
    events = stream(run, text("Look:"), call('{"a": 1}'))
    [answer] = read(events)
    assert answer["content"] == "Look:"
    assert answer["toolCalls"][0]["function"] == {"name": "look_up", "arguments": '{"a": 1}'}
    assert events[-1]["outcome"] == {"type": "success", "pendingToolCallIds": ["c"]}


def test_calls_that_need_consent_interrupt_the_run() -> None:
    run = a_run(finish_reason="tool_calls")
    end = stream(run, call(server="files"), call(call_id="d", server="files"), result("3"))[-1]
    assert end["outcome"]["type"] == "interrupt"
    [interrupt] = end["outcome"]["interrupts"]
    assert (interrupt["id"], interrupt["toolCallId"]) == ("d", "d")
    assert "result" not in end


def test_results_of_the_servers_calls_are_messages() -> None:
    events = stream(a_run(), call(server="files"), result("3"), text("Three."))
    assert [message["role"] for message in read(events)] == ["assistant", "tool"]
    assert "outcome" not in events[-1]


def test_after_a_restart_the_answer_is_empty_again() -> None:
    run = a_run()
    sent = [says("Hi", name="u1", extra={"kept": True}), says("x", "a", role="activity")]
    wrong = (reasoning("hm"), text("wrong"), call())
    events = stream(run, *wrong, RESTART, reasoning("aha"), text("right"), messages=sent)
    messages = read(events)
    assert [message["content"] for message in messages] == ["Hi", "aha", "right"]
    assert messages[0] == sent[0]
    assert "toolCalls" not in messages[-1]
    assert "outcome" not in events[-1]


def test_an_end_that_is_none_says_so() -> None:
    failed = a_run(RunStatus.FAILED, error=RunError("provider_error", "It burned down"))
    error = stream(failed, text("One"))[-1]
    assert (error["type"], error["code"]) == ("RUN_ERROR", "provider_error")
    assert error["message"] == "It burned down"
    cancelled = stream(a_run(RunStatus.CANCELLED), text("One"))[-1]
    assert cancelled["outcome"] == {"type": "cancelled"}
    made = AgEvents(a_run(), RunInput.model_validate(ASKED))
    told = [*made.begin(), *made.hear(text("One")), *made.break_off("It was deleted", "gone")]
    assert verified([json.loads(each) for each in told])[-1]["code"] == "gone"
