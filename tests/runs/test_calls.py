"""Ids of tool calls."""

import pytest

from tertulia.domain.models import PromptMessage
from tertulia.domain.parts import ToolCallPart
from tertulia.runs.calls import CallIds


def ids(*taken: str) -> CallIds:
    calls = tuple(ToolCallPart(call_id, "look", "{}") for call_id in taken)
    return CallIds([PromptMessage("assistant", calls)])


@pytest.mark.parametrize("given", ["c", "x" * 64, "run/1 of 2?#日", "call_0-2"])
def test_a_providers_own_id_is_kept(given: str) -> None:
    assert ids("other").take(given) == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, " c", "c\n", "\0", ".", "..", "a/../b", "/a", "a//b", "\u202e"]
)
def test_one_that_cannot_be_used_everywhere_is_replaced(given: str) -> None:
    fresh = [ids().take(given) for _ in range(2)]
    assert all(each.startswith("call_") and len(each) <= 64 for each in fresh)
    assert fresh[0] != fresh[1]


def test_no_two_calls_that_the_model_is_told_have_one_id() -> None:
    taken = ids("c", "c-2")
    assert [taken.take("c"), taken.take("c")] == ["c-3", "c-4"]
    long = "x" * 64
    assert len({taken.take(long), taken.take(long), taken.take(long)}) == 3
    assert len(taken.take(long)) <= 64
