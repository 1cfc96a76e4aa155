"""Any sequence of events, folded into a message and rebuilt from any cursor, is what it was."""

from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from tertulia.domain.runs import EventKind, RunEvent
from tertulia.runs import replay
from tertulia.storage.answer import Answer
from tertulia.storage.repositories.runs import Replay

_TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_characters="\0"),
        st.sampled_from("\u2028\u0085\u200d\ufeff\r\n\U0001f9d1\U0001f680"),
    ),
    min_size=1,
    max_size=12,
)
_Said: TypeAlias = tuple[EventKind, dict[str, Any]]


def _said(kind: EventKind, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[_Said]:
    return st.tuples(st.just(kind), st.fixed_dictionaries(fields))


_SAID: st.SearchStrategy[_Said] = st.one_of(
    _said(EventKind.TEXT, delta=_TEXT),
    _said(EventKind.REASONING, delta=_TEXT),
    _said(EventKind.TOOL_CALL, call_id=_TEXT, name=_TEXT, arguments=st.text(max_size=5)),
    _said(EventKind.TOOL_RESULT, call_id=_TEXT, content=st.text(max_size=5)),
    _said(EventKind.RESTART, attempt=st.integers(2, 9)),
)
_EVENTS = st.lists(_SAID, max_size=30).map(
    lambda said: [RunEvent(seq, kind, data) for seq, (kind, data) in enumerate(said, 1)]
)


def folded(events: list[RunEvent]) -> Replay:
    answer = Answer.of(events)
    return Replay(answer.parts, answer.restart_seq, answer.restart_attempt, answer.marks)


def visible(events: list[RunEvent]) -> list[RunEvent]:
    """Return what a follower may still see: the last restart and what came after it."""
    restarts = [at for at, event in enumerate(events) if event.kind is EventKind.RESTART]
    return events[restarts[-1] :] if restarts else events


@given(_EVENTS)
def test_the_events_after_every_cursor_are_the_original_ones(events: list[RunEvent]) -> None:
    stored = folded(events)
    assert replay.last_seq(stored) == len(events) + 1
    for after in range(len(events) + 2):
        expected = [event for event in visible(events) if event.seq > after]
        assert list(replay.events_after(stored, after)) == expected


@given(_EVENTS)
def test_an_answer_that_goes_on_from_stored_events_is_the_same_answer(
    events: list[RunEvent],
) -> None:
    middle = len(events) // 2
    resumed = Answer.of(visible(events[:middle]))
    for event in events[middle:]:
        resumed.add(event)
    whole = Answer.of(events)
    assert (resumed.parts, resumed.marks, resumed.restart_seq) == (
        whole.parts,
        whole.marks,
        whole.restart_seq,
    )
