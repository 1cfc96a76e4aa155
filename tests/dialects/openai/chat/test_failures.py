"""What is told of answers that did not end well."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tertulia.dialects.openai.failures import failure_of
from tertulia.domain.ids import new_id
from tertulia.domain.runs import Run, RunError, RunStatus
from tertulia.llm.faults import CODES

RUN = Run(
    id=new_id(),
    user_id=new_id(),
    conversation_id=new_id(),
    message_id=new_id(),
    seq=2,
    status=RunStatus.FAILED,
    attempt=1,
    model_type="openai:scripted",
    settings={},
    error=None,
    usage=None,
    finish_reason=None,
    created_at=datetime.now(UTC),
    started_at=None,
    ended_at=None,
)


def failed(code: str) -> Run:
    return replace(RUN, error=RunError(code, "It broke"))


@pytest.mark.parametrize("code", sorted(CODES | {"attempts_exhausted", "deadline_exceeded"}))
def test_every_fault_has_a_status_and_is_never_the_clients_credentials(code: str) -> None:
    failure = failure_of(failed(code))

    assert failure is not None
    assert failure.message == "It broke"
    assert failure.status in (400, 429, 500, 502, 503, 504)
    # Whatever a client cannot mend is told as a fault of this side.
    mendable = {"content_filtered", "context_too_long", "provider_rejected"}
    assert (failure.status == 400) == (code in mendable)


def test_what_may_pass_can_be_asked_again() -> None:
    for code, asks_again in [("provider_overloaded", None), ("provider_unauthorized", "false")]:
        failure = failure_of(failed(code))
        assert failure is not None
        assert failure.response().headers.get("X-Should-Retry") == asks_again


def test_a_frame_says_the_same_as_an_answer() -> None:
    failure = failure_of(failed("provider_rate_limited"))

    assert failure is not None
    assert failure.frame()["error"] == {
        "message": "It broke",
        "type": "rate_limit_error",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    answer = failure.response()
    assert (answer.status_code, json.loads(bytes(answer.body))["code"]) == (
        429,
        "rate_limit_exceeded",
    )


def test_a_cancelled_answer_is_not_asked_for_again_and_a_whole_one_is_no_failure() -> None:
    cancelled = failure_of(replace(RUN, status=RunStatus.CANCELLED))

    assert cancelled is not None
    assert (cancelled.status, cancelled.code) == (400, "answer_cancelled")
    assert failure_of(replace(RUN, status=RunStatus.COMPLETED)) is None
