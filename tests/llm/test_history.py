import pytest
from hypothesis import given
from hypothesis import strategies as st

from tertulia.domain.models import PromptMessage
from tertulia.domain.parts import FilePart, TextPart, ToolCallPart, ToolResultPart
from tertulia.llm.history import estimate_tokens, fit, pair_tool_calls, without_files


def say(role: str, text: str) -> PromptMessage:
    return PromptMessage(role, (TextPart(text),))


def call(*call_ids: str) -> PromptMessage:
    return PromptMessage("assistant", tuple(ToolCallPart(c, "look", "{}") for c in call_ids))


def result(call_id: str) -> PromptMessage:
    return PromptMessage("tool", (ToolResultPart(call_id, "sunny"),))


TALK = [
    say("system", "Be brief."),
    say("user", "old question " * 20),
    say("assistant", "old answer " * 20),
    say("user", "new question"),
    say("assistant", "new answer"),
    say("user", "last question"),
]


def test_everything_stays_while_there_is_room() -> None:
    assert fit(TALK, budget_tokens=1000) == TALK


def test_the_oldest_are_left_out_first_and_instructions_stay() -> None:
    assert fit(TALK, budget_tokens=70) == [TALK[0], *TALK[3:]]


def test_the_last_user_message_stays_even_if_it_does_not_fit() -> None:
    assert fit(TALK, budget_tokens=1) == [TALK[0], TALK[-1]]


def test_a_tool_result_does_not_stay_without_its_call() -> None:
    talk = [
        say("user", "a" * 300),
        call("c1"),
        result("c1"),
        say("assistant", "It is sunny."),
        TALK[-1],
    ]
    room = sum(map(estimate_tokens, talk[2:]))

    assert fit(talk, budget_tokens=room) == talk[3:]


def test_chinese_is_estimated_as_one_token_a_character_at_least() -> None:
    assert estimate_tokens(say("user", "你好世界" * 100)) >= 400


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text())),
    st.integers(-10, 300),
)
def test_what_fits_keeps_its_order_and_its_end(talk: list[tuple[str, str]], budget: int) -> None:
    messages = [say(role, text) for role, text in talk]

    fitted = fit(messages, budget_tokens=budget)

    rest = iter(messages)
    assert all(any(kept is message for message in rest) for kept in fitted)
    assert not messages or fitted[-1:] == messages[-1:]


def test_a_call_that_nobody_answered_gets_a_result_that_says_so() -> None:
    paired = pair_tool_calls([say("user", "Weather?"), call("c1", "c2"), result("c2"), TALK[-1]])

    assert [message.role for message in paired] == ["user", "assistant", "tool", "user"]
    answered = [p.call_id for m in paired for p in m.parts if isinstance(p, ToolResultPart)]
    assert answered == ["c1", "c2"]


@pytest.mark.parametrize(
    "between", [say("user", "And?"), say("system", "x"), say("assistant", "…")]
)
def test_a_result_that_came_after_other_words_is_told_behind_its_call(
    between: PromptMessage,
) -> None:
    paired = pair_tool_calls([say("user", "Weather?"), call("c1"), between, result("c1")])

    assert paired == [say("user", "Weather?"), call("c1"), result("c1"), between]


def test_who_can_read_words_only_is_told_of_files() -> None:
    parts = (TextPart("See?"), FilePart("data:image/png;base64,AAAA"))
    (told,) = without_files([PromptMessage("user", parts)])
    assert [type(part) for part in told.parts] == [TextPart, TextPart]
    assert "AAAA" not in str(told)


def test_an_id_that_is_used_again_belongs_to_the_last_call() -> None:
    first, second = result("c1"), PromptMessage("tool", (ToolResultPart("c1", "other"),))
    talk = [call("c1"), first, say("user", "Again"), call("c1"), second]

    assert pair_tool_calls(talk) == talk
    unanswered = pair_tool_calls([call("c1"), say("user", "Again"), call("c1"), second])
    assert unanswered[-1] == second
    assert unanswered[1] != second


def test_a_result_that_nobody_called_for_is_left_out() -> None:
    assert pair_tool_calls([result("c9"), TALK[-1]]) == [TALK[-1]]


def test_pairs_that_are_whole_stay_as_they_are() -> None:
    talk = [say("user", "Weather?"), call("c1"), result("c1"), say("assistant", "Sunny.")]

    assert pair_tool_calls(talk) == talk
