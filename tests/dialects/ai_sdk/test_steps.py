"""Stored messages as the messages that AI SDK UI shows."""

from typing import Any

import msgspec

from tertulia.dialects.ai_sdk.steps import grouped, output_of, shown
from tertulia.domain.conversations import Message, Role
from tertulia.domain.ids import new_id
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
)
from tests.dialects.runs import NOW


def stored(role: Role, *parts: Part) -> Message:
    return Message(
        id=new_id(),
        conversation_id=new_id(),
        parent_id=None,
        seq=1,
        role=role,
        content=text_of(parts),
        parts=parts,
        created_at=NOW,
        updated_at=NOW,
        generation=None,
    )


def told(*group: Message) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(shown(group)))


def test_an_answer_that_went_on_after_its_tools_is_one_message() -> None:
    user = stored(Role.USER, TextPart("Weather?"))
    asks = stored(Role.ASSISTANT, TextPart("Look:"), ToolCallPart("c", "look_up", '{"city": "X"}'))
    results = stored(Role.TOOL, ToolResultPart("c", '{"sun": true}'))
    says = stored(Role.ASSISTANT, ReasoningPart("aha"), TextPart("Sunny."))
    assert grouped([user, asks, results, says]) == [[user], [asks, results, says]]
    message = told(asks, results, says)
    assert (message["id"], message["role"]) == (str(asks.id), "assistant")
    assert message["metadata"]["messageId"] == str(says.id)
    assert message["parts"] == [
        {"type": "step-start"},
        {"type": "text", "text": "Look:", "state": "done"},
        {
            "type": "tool-look_up",
            "toolCallId": "c",
            "input": {"city": "X"},
            "state": "output-available",
            "output": {"sun": True},
        },
        {"type": "step-start"},
        {"type": "reasoning", "text": "aha", "state": "done"},
        {"type": "text", "text": "Sunny.", "state": "done"},
    ]


def test_a_call_without_a_result_waits_for_whoever_makes_it() -> None:
    mine = ToolCallPart("c", "look_up", "{}")
    yours = ToolCallPart("d", "files__read", "{}", server="files")
    wrong = ToolCallPart("e", "look_up", "{")
    parts = told(stored(Role.ASSISTANT, mine, yours, wrong))["parts"][1:]
    states = ["input-available", "approval-requested", "output-error"]
    assert [part["state"] for part in parts] == states
    assert parts[1]["approval"] == {"id": "d"}
    assert parts[1]["providerExecuted"] is True
    assert parts[2]["input"] == "{"


def test_a_malformed_call_keeps_its_error() -> None:
    asks = stored(Role.ASSISTANT, ToolCallPart("c", "look_up", "{"))
    results = stored(Role.TOOL, ToolResultPart("c", "That was not JSON"))
    part = told(asks, results)["parts"][1]
    assert (part["state"], part["errorText"]) == ("output-error", "That was not JSON")


def test_a_result_without_its_call_is_nothing_to_show() -> None:
    assert told(stored(Role.TOOL, ToolResultPart("c", "3")))["parts"] == []


def test_files_say_what_they_are() -> None:
    user = stored(
        Role.USER,
        TextPart("Look"),
        FilePart("data:image/png;base64,AAAA", None, "a.png"),
        FilePart("https://example.com/b"),
    )
    assert told(user)["parts"] == [
        {"type": "text", "text": "Look", "state": "done"},
        {
            "type": "file",
            "mediaType": "image/png",
            "url": "data:image/png;base64,AAAA",
            "filename": "a.png",
        },
        {"type": "file", "mediaType": "application/octet-stream", "url": "https://example.com/b"},
    ]


def test_instructions_are_system_messages() -> None:
    for role in (Role.SYSTEM, Role.DEVELOPER):
        assert told(stored(role, TextPart("Be brief")))["role"] == "system"


def test_an_output_is_json_where_it_is_json() -> None:
    for content, value in (("[1]", [1]), ("42", 42), ("null", None), ("sunny", "sunny")):
        assert msgspec.json.decode(msgspec.json.encode(output_of(content))) == value
    assert output_of('"quoted"') == '"quoted"'
