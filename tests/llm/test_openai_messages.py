from typing import Any

import pytest

from tertulia.domain.models import ModelSettings, PromptMessage
from tertulia.domain.parts import ReasoningPart, TextPart, ToolCallPart, ToolResultPart
from tertulia.llm.openai_messages import Continuation, chat_body, wire_messages

USER = PromptMessage("user", (TextPart("Hello"),))


def body(
    settings: ModelSettings | None = None,
    prefix: str = "",
    continuation: Continuation = "none",
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return chat_body(
        model="m",
        messages=[USER],
        settings=settings or ModelSettings(),
        prefix=prefix,
        continuation=continuation,
        max_tokens_field="max_tokens",
        extra=extra or {},
    )


def test_what_nobody_chose_is_left_to_the_provider() -> None:
    assert body() == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_settings_are_sent_and_win_over_the_servers_own() -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    settings = ModelSettings(0.0, 0.5, 7, 3, ("END",), (tool,))

    sent = body(settings, extra={"temperature": 1, "top_k": 5})

    assert sent["temperature"] == 0.0
    assert sent["top_k"] == 5
    assert (sent["top_p"], sent["max_tokens"], sent["seed"]) == (0.5, 7, 3)
    assert (sent["stop"], sent["tools"]) == (["END"], [tool])


def test_vllm_is_told_to_continue_the_final_message() -> None:
    sent = body(prefix="Once", continuation="vllm")

    assert sent["messages"][-1] == {"role": "assistant", "content": "Once"}
    assert sent["continue_final_message"] is True
    assert sent["add_generation_prompt"] is False


def test_deepseek_marks_the_message_as_a_prefix() -> None:
    sent = body(prefix="Once", continuation="deepseek")

    assert sent["messages"][-1] == {"role": "assistant", "content": "Once", "prefix": True}


def test_llama_cpp_continues_a_trailing_answer_by_itself() -> None:
    sent = body(prefix="Once", continuation="llama.cpp")

    assert sent["messages"][-1] == {"role": "assistant", "content": "Once"}
    assert "continue_final_message" not in sent


def test_a_prefix_for_a_provider_that_cannot_continue_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="cannot continue"):
        body(prefix="Once")


def test_tool_calls_and_their_results_keep_openais_shape() -> None:
    said = PromptMessage(
        "assistant", (ReasoningPart("hm"), ToolCallPart("c1", "look", '{"at": 1}'))
    )
    results = PromptMessage("tool", (ToolResultPart("c1", "sun"), ToolResultPart("c2", "rain")))

    assert wire_messages(said) == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "look", "arguments": '{"at": 1}'},
                }
            ],
        }
    ]
    assert wire_messages(results) == [
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
    ]
