from tertulia.domain.parts import ReasoningPart, TextPart, ToolCallPart
from tertulia.domain.runs import EventKind, RunEvent
from tertulia.storage.answer import Answer

_CALL = {"call_id": "1", "name": "f", "arguments": "{}"}


def test_neighbours_of_one_kind_become_one_part() -> None:
    answer = Answer.of(
        [
            RunEvent(1, EventKind.REASONING, {"delta": "hm"}),
            RunEvent(2, EventKind.TEXT, {"delta": "one"}),
            RunEvent(3, EventKind.TEXT, {"delta": " two"}),
            RunEvent(4, EventKind.TOOL_CALL, _CALL),
            RunEvent(5, EventKind.TEXT, {"delta": "three"}),
        ]
    )
    assert answer.parts == (
        ReasoningPart("hm"),
        TextPart("one two"),
        ToolCallPart("1", "f", "{}"),
        TextPart("three"),
    )
    assert answer.marks == (2, 5, 9, 10, 15)
    assert not answer.is_plain_text


def test_a_restart_forgets_what_was_said_but_not_how_much() -> None:
    answer = Answer.of(
        [
            RunEvent(1, EventKind.TEXT, {"delta": "one"}),
            RunEvent(2, EventKind.RESTART, {"attempt": 2}),
        ]
    )
    assert answer.is_empty
    assert (answer.seq, answer.restart_seq, answer.restart_attempt) == (2, 2, 2)


def test_an_empty_answer_can_be_continued() -> None:
    assert Answer().is_empty
    assert Answer().is_plain_text
