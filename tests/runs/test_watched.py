import time

import pytest

from tertulia.domain.ids import new_id
from tertulia.runs.watched import Watched


def test_what_nobody_follows_elsewhere_is_told_to_nobody() -> None:
    assert Watched().among([new_id()]) == []


def test_what_was_noted_is_told_and_is_new_only_once() -> None:
    watched, one, other = Watched(), new_id(), new_id()
    assert watched.note([one]) == [one]
    assert watched.note([one, other]) == [other]
    assert watched.among({one, other, new_id()}) in ([one, other], [other, one])


def test_whoever_says_no_more_that_they_follow_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched, run_id = Watched(), new_id()
    watched.note([run_id])
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 10)
    assert watched.among([run_id]) == []
    assert watched.note([run_id]) == [run_id]
