"""A run as a UI message stream, also when the model had to begin again."""

import json

from tertulia.dialects.ai_sdk.chunks import UIChunks
from tertulia.domain.conversations import Message, Role
from tertulia.domain.parts import Part, TextPart, ToolCallPart, ToolResultPart
from tertulia.domain.runs import Run, RunError, RunEvent, RunStatus
from tests.dialects.ai_sdk.client import checked, read, text_of
from tests.dialects.runs import NOW, RESTART, a_run, call, reasoning, result, text
from tests.kit.provider_script import Json


def stream(run: Run, *events: RunEvent, before: list[Message] | None = None) -> list[Json]:
    """Return the whole stream of a run that says this and then ended as it did."""
    chunks = UIChunks(run, message_id="m")
    told = [*chunks.begin(before or [])]
    for event in events:
        told += chunks.hear(event)
    return [checked(json.loads(each)) for each in (*told, *chunks.end(run))]


def kinds(chunks: list[Json]) -> list[str]:
    return [chunk["type"] for chunk in chunks]


def stored(run: Run, role: Role, *parts: Part) -> Message:
    return Message(
        id=run.id,
        conversation_id=run.conversation_id,
        parent_id=None,
        seq=1,
        role=role,
        content="",
        parts=parts,
        created_at=NOW,
        updated_at=NOW,
        generation=None,
    )


def test_words_and_thoughts_are_parts_of_one_step() -> None:
    chunks = stream(a_run(), reasoning("hm "), reasoning("so"), text("One "), text("two"))
    assert kinds(chunks) == [
        "start",
        "start-step",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-delta",
        "reasoning-end",
        "text-start",
        "text-delta",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    message = read(chunks)
    assert message["id"] == "m"
    assert message["parts"][1:] == [
        {"type": "reasoning", "text": "hm so", "state": "done"},
        {"type": "text", "text": "One two", "state": "done"},
    ]
    assert message["metadata"]["usage"] == {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}
    assert chunks[-1]["finishReason"] == "stop"


def test_a_restart_takes_back_what_the_step_has_said() -> None:
    run = a_run(finish_reason="tool_calls")
    chunks = stream(run, text("wrong"), call("{}"), RESTART, text("right"), call('{"a": 1}'))
    assert kinds(chunks).count("reset-step") == 1
    message = read(chunks)
    assert text_of(message) == "right"
    assert [part["input"] for part in message["parts"] if "input" in part] == [{"a": 1}]
    assert chunks[-1]["finishReason"] == "tool-calls"


def test_a_call_is_told_as_the_model_wrote_it() -> None:
    chunks = stream(a_run(), call('{"n": 12345678901234567890123}'))
    assert chunks[3]["input"] == {"n": 12345678901234567890123}
    deep = "[" * 100_000 + "]" * 100_000
    for wrong in ('{"city": "Sevil', "NaN", deep):
        told = stream(a_run(), call(wrong))[3]
        assert told["type"] == "tool-input-error"
        assert told["input"] == wrong
    assert stream(a_run(), call(""))[3]["input"] == {}


def test_the_servers_own_calls_are_not_the_clients_to_answer() -> None:
    done = stream(a_run(), call(server="files"), result('{"size": 3}'), text("Three."))
    assert all(each["providerExecuted"] for each in done[2:5])
    assert done[4]["output"] == {"size": 3}
    assert "tool-approval-request" not in kinds(done)
    waiting = stream(a_run(finish_reason="tool_calls"), call(server="files"))
    assert waiting[-3] == {"type": "tool-approval-request", "approvalId": "c", "toolCallId": "c"}


def test_a_result_of_nothing_that_is_shown_is_left_out() -> None:
    assert "tool-output-available" not in kinds(stream(a_run(), result("3", "elsewhere")))


def test_who_joins_is_told_the_steps_before() -> None:
    run = a_run()
    asked = stored(run, Role.ASSISTANT, TextPart("Look:"), ToolCallPart("c", "look_up", "{}"))
    before = [asked, stored(run, Role.TOOL, ToolResultPart("c", "sunny"))]
    message = read(stream(run, text("Sun."), before=before))
    assert [part["type"] for part in message["parts"]] == [
        "step-start",
        "text",
        "tool-look_up",
        "step-start",
        "text",
    ]
    assert message["parts"][2]["output"] == "sunny"


def test_a_failure_is_told_after_what_is_known_of_it() -> None:
    run = a_run(RunStatus.FAILED, error=RunError("provider_error", "It burned down"))
    chunks = stream(run, text("One"))
    assert kinds(chunks)[-5:] == ["text-end", "message-metadata", "error", "finish-step", "finish"]
    assert chunks[-3]["errorText"] == "It burned down"
    error = {"code": "provider_error", "message": "It burned down"}
    assert read(chunks)["metadata"]["error"] == error
    assert chunks[-1]["finishReason"] == "error"


def test_a_stopped_answer_says_so() -> None:
    chunks = stream(a_run(RunStatus.CANCELLED), text("One"))
    assert kinds(chunks)[-4:] == ["text-end", "abort", "finish-step", "finish"]
    assert chunks[-1]["finishReason"] == "other"


def test_a_replay_is_the_same_stream() -> None:
    run = a_run()
    events = (reasoning("hm"), text("One"), call(), text("two"))
    assert stream(run, *events) == stream(run, *events)
