"""What a chat client is told of a run that did not end well."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from starlette.responses import Response

from tertulia.dialects.openai.errors import envelope
from tertulia.domain.runs import Run, RunError, RunStatus
from tertulia.http.errors import error_response


class Failure(NamedTuple):
    """Why there is no answer, or not all of it."""

    status: int
    """Official clients ask again, twice, after 408, 409, 429 and 5xx."""
    code: str
    message: str
    may_pass: bool = True
    """Whether the same request may succeed later."""

    def response(self) -> Response:
        """Return it as an answer; it gets OpenAI's envelope at the edge."""
        # Official clients heed this before the status.
        headers = {} if self.may_pass else {"X-Should-Retry": "false"}
        return error_response(self.status, self.code, self.message, headers=headers)

    def frame(self) -> dict[str, Any]:
        """Return it as the last thing of a stream; official clients raise it."""
        return envelope(self.status, self.code, self.message)


_STATUSES: Mapping[str, int] = {
    "attempts_exhausted": HTTPStatus.INTERNAL_SERVER_ERROR,
    "content_filtered": HTTPStatus.BAD_REQUEST,
    "context_too_long": HTTPStatus.BAD_REQUEST,
    "deadline_exceeded": HTTPStatus.GATEWAY_TIMEOUT,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "provider_overloaded": HTTPStatus.SERVICE_UNAVAILABLE,
    "provider_rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "provider_rejected": HTTPStatus.BAD_REQUEST,
    "provider_timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "provider_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""All others are the provider's fault, 502. Whom a provider does not know is this server."""
_CODES: Mapping[str, str] = {
    "content_filtered": "content_filter",
    "context_too_long": "context_length_exceeded",
    "provider_rate_limited": "rate_limit_exceeded",
}
"""Our codes of which OpenAI's clients know another."""
_LASTING = frozenset(
    {
        "answer_not_storable",
        "attempts_exhausted",
        "deadline_exceeded",
        "provider_invalid_response",
        "provider_unauthorized",
    }
)

ANSWER_RESTARTED = Failure(
    HTTPStatus.BAD_GATEWAY,
    "answer_restarted",
    "The answer had to begin again, and this stream cannot take back what it has shown; ask again",
)
ANSWER_DELETED = Failure(
    HTTPStatus.NOT_FOUND, "run_not_found", "The answer was deleted while it was being written"
)
_CANCELLED = Failure(
    HTTPStatus.BAD_REQUEST,
    "answer_cancelled",
    "The answer was cancelled while it was being written",
)
_UNSAID = RunError("internal_error", "An internal error")


def failure_of(run: Run) -> Failure | None:
    """Return what is wrong with a run that has ended; None if it has ended well."""
    match run.status:
        case RunStatus.COMPLETED:
            return None
        case RunStatus.CANCELLED:
            return _CANCELLED
        case _:
            error = run.error or _UNSAID
            return Failure(
                _STATUSES.get(error.code, HTTPStatus.BAD_GATEWAY),
                _CODES.get(error.code, error.code),
                error.message,
                may_pass=error.code not in _LASTING,
            )
