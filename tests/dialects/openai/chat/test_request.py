"""What a chat request means, and what it cannot mean."""

from typing import Any

import pytest

from tertulia.dialects.openai.chat.request import ChatCreate
from tertulia.domain.conversations import Retention
from tertulia.domain.errors import Invalid
from tertulia.domain.models import ModelSettings
from tertulia.runs.send import NewConversation, Send

HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
FUNCTION: dict[str, Any] = {"name": "f", "parameters": {"properties": {"a": {"default": None}}}}
TOOL = {"type": "function", "function": FUNCTION}
NAMED = {"type": "function", "function": {"name": "f"}}


def request(**fields: Any) -> ChatCreate:  # noqa: ANN401  whatever a client may send
    return ChatCreate.model_validate({**HELLO, **fields})


def send(**fields: Any) -> Send:  # noqa: ANN401  whatever a client may send
    return request(**fields).to_send(heeds_system=True)


def settings(**fields: Any) -> ModelSettings:  # noqa: ANN401  whatever a client may send
    return send(**fields).settings


def test_every_setting_is_told_to_the_model() -> None:
    told = settings(
        temperature=0,
        top_p=1,
        max_tokens=5,
        seed=-7,
        stop=["a", "b"],
        presence_penalty=-2,
        frequency_penalty=2,
        reasoning_effort="xhigh",
        verbosity="low",
        parallel_tool_calls=False,
        tools=[TOOL],
        tool_choice="auto",
    )

    assert told == ModelSettings(
        temperature=0,
        top_p=1,
        max_tokens=5,
        seed=-7,
        stop=("a", "b"),
        presence_penalty=-2,
        frequency_penalty=2,
        reasoning_effort="xhigh",
        verbosity="low",
        parallel_tool_calls=False,
        tools=(TOOL,),
        tool_choice="auto",
    )


def test_null_is_the_same_as_nothing() -> None:
    fields = set(ChatCreate.model_fields) - set(HELLO)

    assert settings(**dict.fromkeys(fields)) == settings() == ModelSettings()


def test_what_asks_for_nothing_is_accepted() -> None:
    told = settings(
        n=1,
        logit_bias={},
        logprobs=False,
        top_logprobs=0,
        modalities=["text"],
        response_format={"type": "text"},
        service_tier="auto",
        user="u",
        safety_identifier="s",
        prompt_cache_key="p",
        prompt_cache_retention="24h",
        tool_choice="none",
        tools=[],
    )

    assert told == ModelSettings()


def test_one_stop_string_is_a_list_of_one() -> None:
    assert settings(stop="END").stop == ("END",)


def test_either_limit_is_the_answers() -> None:
    assert settings(max_tokens=5).max_tokens == settings(max_completion_tokens=5).max_tokens == 5


@pytest.mark.parametrize(
    "format_",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "n"}},
        {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"default": None}, "strict": True},
        },
    ],
)
def test_json_is_asked_for_as_it_came(format_: dict[str, Any]) -> None:
    assert settings(response_format=format_).response_format == format_


def test_functions_become_tools_of_which_one_is_called_at_a_time() -> None:
    told = settings(functions=[FUNCTION], function_call={"name": "f"})

    assert (told.tools, told.tool_choice, told.parallel_tool_calls) == ((TOOL,), NAMED, False)
    assert settings(functions=[FUNCTION], function_call="none").tool_choice == "none"


def test_a_tool_can_be_chosen_by_name() -> None:
    assert settings(tools=[TOOL], tool_choice=NAMED).tool_choice == NAMED


def test_some_of_the_tools_can_be_allowed() -> None:
    other = {"type": "function", "function": {**FUNCTION, "name": "g"}}
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    told = settings(tools=[TOOL, other], tool_choice=choice)
    assert (told.tools, told.tool_choice) == ((other,), "required")


def test_what_is_not_to_be_stored_is_temporary() -> None:
    assert request().conversation() == NewConversation(retention=Retention.TEMPORARY)
    assert request(store=False, metadata={"a": "b"}).conversation().metadata == {}


def test_what_is_to_be_stored_goes_with_its_answer_and_has_its_metadata() -> None:
    made = request(store=True, metadata={"a": "b"}).conversation()

    assert (made.retention, made.metadata) == (Retention.WITH_RUNS, {"a": "b"})


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("Hello\n\n  you", "Hello you"),
        ("word " * 100, ("word " * 16)[:79].rstrip() + "…"),
        ("  ", "…"),
    ],
)
def test_the_title_is_the_beginning_of_what_the_user_said_last(said: str, title: str) -> None:
    messages = [
        {"role": "user", "content": "Before"},
        {"role": "user", "content": said},
        {"role": "assistant", "content": "After"},
    ]

    assert send(messages=messages).title == title


def test_system_messages_are_heeded_where_the_operator_lets_them() -> None:
    assert request().to_send(heeds_system=True).instructions.heeds_system
    assert not request().to_send(heeds_system=False).instructions.heeds_system


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"stream_options": {}}, "stream_options"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"functions": [FUNCTION], "tools": [TOOL]}, "functions"),
        ({"functions": [FUNCTION], "tool_choice": "auto"}, "functions"),
        ({"function_call": "auto", "tools": [TOOL]}, "functions"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice"),
        ({"tool_choice": "perhaps", "tools": [TOOL]}, "tool_choice"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"function_call": 7}, "function_call"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ],
)
def test_a_contradiction_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as error:
        settings(**fields)

    assert error.value.field == f"body.{field}"
