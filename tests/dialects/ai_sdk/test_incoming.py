"""What a client's message says, and what is wrong with it."""

from typing import Any

import pytest

from tertulia.dialects.ai_sdk.incoming import FILES_MAX, approvals, tool_results, user_parts
from tertulia.dialects.ai_sdk.schemas import UIMessage
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import FilePart, TextPart, ToolResultPart
from tertulia.runs.send import Verdict
from tests.kit.provider_script import Json

FIELD = "body.messages[3]"


def message(*parts: Json, role: str = "user") -> UIMessage:
    return UIMessage.model_validate({"id": "m", "role": role, "parts": list(parts)})


def file(**more: Any) -> Json:  # noqa: ANN401  JSON
    return {"type": "file", "mediaType": "image/png", "url": "https://example.com/a.png", **more}


def tool(state: str, **more: Any) -> Json:  # noqa: ANN401  JSON
    return {"type": "tool-look_up", "toolCallId": "c", "state": state, **more}


def test_a_user_says_text_and_shows_files() -> None:
    said = message(
        {"type": "text", "text": "Look", "providerMetadata": {"x": {}}},
        file(filename="a.png"),
        {"type": "data-place", "data": {"lat": 1}},
        {"type": "text", "text": ""},
    )
    assert user_parts(said, FIELD) == (
        TextPart("Look"),
        FilePart("https://example.com/a.png", "image/png", "a.png"),
    )


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        (list[Json](), "parts"),
        ([{"type": "text", "text": ""}], "parts"),
        ([{"type": "text"}], "parts[0].text"),
        ([{"type": "text", "text": "x" * 100_001}], "parts"),
        ([{"type": "text", "text": "x"}, {"type": "source-url"}], "parts[1].type"),
        ([Json()], "parts[0].type"),
        ([file(url="file:///etc/passwd")], "parts[0].url"),
        ([file(url=3)], "parts[0].url"),
        ([file(mediaType=None)], "parts[0].mediaType"),
        ([file(mediaType="x" * 256)], "parts[0].mediaType"),
        ([file(filename="x" * 256)], "parts[0].filename"),
        ([file()] * (FILES_MAX + 1), "parts"),
    ],
)
def test_what_is_wrong_is_named(parts: list[Json], field: str) -> None:
    with pytest.raises(Invalid) as raised:
        user_parts(message(*parts), FIELD)
    assert raised.value.field == f"{FIELD}.{field}"


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (tool("output-available", output="sunny"), "sunny"),
        (tool("output-available", output={"sun": "Sevillá"}), '{"sun": "Sevillá"}'),
        (tool("output-available", output=None), "null"),
        (tool("output-error", errorText="No such city"), "No such city"),
        (tool("output-denied"), "The user did not allow this call."),
        ({**tool("output-available", output=1), "type": "dynamic-tool"}, "1"),
    ],
)
def test_a_tools_output_is_a_result(part: Json, content: str) -> None:
    answer = message(part, role="assistant")
    assert tool_results(answer, FIELD, calls=["c"]) == (ToolResultPart("c", content),)


@pytest.mark.parametrize(
    "part",
    [
        tool("input-available", input={}),
        {**tool("output-available", output=1), "toolCallId": "other"},
        {**tool("output-available", output=1), "type": "text"},
        {**tool("output-available", output=1), "toolCallId": 1},
    ],
)
def test_what_is_no_output_of_these_calls_is_passed_over(part: Json) -> None:
    assert tool_results(message(part, role="assistant"), FIELD, calls=["c"]) == ()


def test_a_long_output_is_refused() -> None:
    answer = message(tool("output-available", output="x" * 100_001), role="assistant")
    with pytest.raises(Invalid) as raised:
        tool_results(answer, FIELD, calls=["c"])
    assert raised.value.field == f"{FIELD}.parts[0].output"


def test_only_a_clear_word_is_an_approval() -> None:
    said = message(
        tool("approval-responded", approval={"id": "c", "approved": True}),
        {**tool("approval-responded", approval={"approved": False}), "toolCallId": "d"},
        {**tool("approval-requested", approval={"id": "e"}), "toolCallId": "e"},
        {**tool("approval-responded", approval={"approved": "yes"}), "toolCallId": "f"},
        role="assistant",
    )
    assert approvals(said, FIELD) == {"c": Verdict(True), "d": Verdict(False)}


def test_a_reason_is_bounded() -> None:
    approval = {"approved": False, "reason": "x" * 1_001}
    with pytest.raises(Invalid) as wrong:
        approvals(message(tool("approval-responded", approval=approval)), FIELD)
    assert wrong.value.field == f"{FIELD}.parts[0].approval.reason"
