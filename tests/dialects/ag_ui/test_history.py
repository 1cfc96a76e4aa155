"""Stored messages as AG-UI has them."""

from tertulia.dialects.ag_ui.history import shown
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


def test_an_answer_is_its_thoughts_its_words_and_its_results() -> None:
    answer = stored(
        Role.ASSISTANT,
        ReasoningPart("hm"),
        TextPart("Look:"),
        ToolCallPart("c", "look_up", "{}", server="files"),
        ToolResultPart("c", "3"),
        TextPart(" three"),
    )
    assert shown(answer) == [
        {"id": f"{answer.id}-reasoning-0", "role": "reasoning", "content": "hm"},
        {
            "id": str(answer.id),
            "role": "assistant",
            "content": "Look: three",
            "toolCalls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": "{}"},
                }
            ],
        },
        {"id": f"{answer.id}-result-0", "role": "tool", "toolCallId": "c", "content": "3"},
    ]


def test_the_result_of_an_earlier_call_comes_before_the_words() -> None:
    answer = stored(Role.ASSISTANT, ToolResultPart("c", "3"), TextPart("Three."))
    assert [each["role"] for each in shown(answer)] == ["tool", "assistant"]


def test_what_is_being_written_is_not_shown() -> None:
    assert shown(stored(Role.ASSISTANT)) == []


def test_each_result_is_a_message() -> None:
    results = stored(Role.TOOL, ToolResultPart("c", "3"), ToolResultPart("d", "4"))
    assert [each["toolCallId"] for each in shown(results)] == ["c", "d"]


def test_words_are_words_and_files_are_parts() -> None:
    assert shown(stored(Role.USER, TextPart("Hi")))[0]["content"] == "Hi"
    assert shown(stored(Role.DEVELOPER, TextPart("Be brief")))[0]["role"] == "developer"
    [user] = shown(
        stored(
            Role.USER,
            TextPart("Look"),
            FilePart("data:image/png;base64,AAAA"),
            FilePart("https://example.com/a.pdf", "application/pdf"),
            FilePart("https://example.com/b"),
        )
    )
    assert user["content"] == [
        {"type": "text", "text": "Look"},
        {
            "type": "image",
            "source": {"type": "data", "value": "AAAA", "mimeType": "image/png"},
        },
        {
            "type": "document",
            "source": {
                "type": "url",
                "value": "https://example.com/a.pdf",
                "mimeType": "application/pdf",
            },
        },
        {"type": "document", "source": {"type": "url", "value": "https://example.com/b"}},
    ]
