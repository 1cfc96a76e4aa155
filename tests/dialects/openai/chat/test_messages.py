"""Chat messages as messages of a conversation."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from tertulia.dialects.openai.chat.messages import ChatMessage, read_messages
from tertulia.domain.conversations import NewMessage, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import FilePart, TextPart, ToolCallPart, ToolResultPart

_MESSAGES = TypeAdapter(list[ChatMessage])
PNG = "data:image/png;base64,AA=="
PDF = "data:application/pdf;base64,AA=="
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def read(*messages: dict[str, Any]) -> list[NewMessage]:
    return read_messages(_MESSAGES.validate_python(list(messages)), field="body.messages")


def says(role: Role, *texts: str) -> NewMessage:
    return NewMessage(role, tuple(TextPart(text) for text in texts))


def part(**fields: Any) -> dict[str, Any]:  # noqa: ANN401  whatever a client may send
    return {"role": "user", "content": [fields]}


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_everybody_speaks_in_words_or_in_parts(role: str) -> None:
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "you"}]

    assert read({"role": role, "content": "Hello"}) == [says(Role(role), "Hello")]
    assert read({"role": role, "content": parts}) == [says(Role(role), "Hello ", "you")]


def test_a_user_shows_pictures_and_files() -> None:
    content = [
        {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": "data:,plain"}},
    ]

    assert read({"role": "user", "content": content})[0].parts == (
        FilePart(PNG, detail="high"),
        FilePart("https://example.com/a.png"),
        FilePart(PDF, "application/pdf", "a.pdf"),
        FilePart("data:,plain", "text/plain"),
    )


def test_an_assistant_says_refuses_and_calls() -> None:
    said = {**CALLING, "content": "Let me see", "refusal": "Not that"}

    assert read(said)[0].parts == (
        TextPart("Let me see"),
        TextPart("Not that"),
        ToolCallPart("c1", "f", "{}"),
    )
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}
    assert read(refused) == [says(Role.ASSISTANT, "No")]


def test_what_an_answer_said_can_be_sent_back_as_it_came() -> None:
    came: dict[str, Any] = {
        "role": "assistant",
        "content": "Yes",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": None,
        "reasoning_content": "Hm",
        "parsed": None,
    }

    assert read(came) == [says(Role.ASSISTANT, "Yes")]


def test_a_tool_answers_the_call_of_its_id() -> None:
    content = [{"type": "text", "text": "Sun"}, {"type": "text", "text": "ny"}]
    result = {"role": "tool", "tool_call_id": "c1", "content": content}

    assert read(CALLING, result)[1] == NewMessage(Role.TOOL, (ToolResultPart("c1", "Sunny"),))


def test_a_function_answers_its_last_call() -> None:
    calling = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    result = {"role": "function", "name": "f", "content": "Sunny"}

    called, answered, again, _ = read(calling, result, calling, {**result, "content": None})

    assert isinstance(called.parts[0], ToolCallPart)
    assert answered.parts == (ToolResultPart(called.parts[0].call_id, "Sunny"),)
    assert isinstance(again.parts[0], ToolCallPart)
    assert again.parts[0].call_id != called.parts[0].call_id


def test_empty_words_are_kept_as_nothing() -> None:
    empty = {"role": "system", "content": ""}

    assert read(empty, {"role": "user", "content": "Hello"})[0] == NewMessage(Role.SYSTEM, ())


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": None}, ".content"),
        ({"role": "user", "content": []}, ".content"),
        ({"role": "system"}, ".content"),
        ({"role": "assistant"}, ".content"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, ".audio"),
        ({"role": "tool", "content": "x"}, ".tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": "c2"}, ".tool_call_id"),
        ({"role": "tool", "tool_call_id": "c1"}, ".content"),
        ({"role": "function", "name": "g", "content": "x"}, ".name"),
        ({"role": "function", "content": "x"}, ".name"),
        ({**part(type="image_url", image_url={"url": PNG}), "role": "system"}, ".content[0].type"),
        (part(type="text"), ".content[0].text"),
        (part(type="refusal"), ".content[0].refusal"),
        (part(type="image_url"), ".content[0].image_url"),
        (part(type="image_url", image_url={"url": "file:///a"}), ".content[0].image_url.url"),
        (part(type="file"), ".content[0].file.file_data"),
        (part(type="file", file={"file_id": "f"}), ".content[0].file.file_id"),
        (part(type="file", file={"file_data": "AA=="}), ".content[0].file.file_data"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], place: str) -> None:
    with pytest.raises(Invalid) as error:
        read(CALLING, wrong)

    assert error.value.field == f"body.messages[1]{place}"


def test_somebody_must_say_something() -> None:
    with pytest.raises(Invalid) as error:
        read({"role": "user", "content": ""})

    assert error.value.field == "body.messages"
