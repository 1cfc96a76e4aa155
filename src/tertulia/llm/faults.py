"""What a provider did wrong, in our words: one function for each place where it shows.

The table of codes is `docs/provider-faults.md`; a test keeps it equal to `CODES`.
"""

import json
import re
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import aiohttp

from tertulia.domain.models import ProviderFailed

CODES = frozenset(
    {
        "content_filtered",
        "context_too_long",
        "empty_answer",
        "provider_disconnected",
        "provider_error",
        "provider_incomplete",
        "provider_invalid_response",
        "provider_overloaded",
        "provider_rate_limited",
        "provider_rejected",
        "provider_timeout",
        "provider_unauthorized",
        "provider_unavailable",
        "provider_unreachable",
    }
)
"""Every code that a `ProviderFailed` from this room can carry."""

OUTAGES = frozenset(
    {
        "provider_disconnected",
        "provider_error",
        "provider_overloaded",
        "provider_timeout",
        "provider_unreachable",
    }
)
"""The codes that a circuit breaker counts. All others show that the provider is alive."""

MAX_MESSAGE_CHARS = 300

_RETRIED_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_CONTEXT_WORDS = re.compile(
    r"context[_ ](length|size|window)|maximum context|prompt is too long|too many (input )?tokens",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|gsk|key|xai)[-_][\w\-*.]{6,}|\bAIza[\w\-]{20,}|\bBearer\s+\S+|(?<=://)[^/@\s]+@",
    re.IGNORECASE,
)
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff\s]+"
)
"""Also what is invisible or turns the direction of a line: such a message would mislead."""


class Fault(Exception):  # noqa: N818  it carries a failure, and is none until tries run out
    """One try that went wrong.

    Attributes:
        failure: What to raise if it was the last try.
        may_retry: Whether another try makes sense, provided that no token was shown.
        retry_after_s: The pause that the provider asked for, if it did.
    """

    def __init__(
        self,
        failure: ProviderFailed,
        *,
        may_retry: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.may_retry = may_retry
        self.retry_after_s = retry_after_s


def clean(text: str) -> str:
    """Return upstream text fit for people: one line, bounded, without anything like a secret."""
    line = _UNPRINTABLE.sub(" ", text[: 20 * MAX_MESSAGE_CHARS]).strip()
    line = _SECRETS.sub("[secret]", line)
    return line if len(line) <= MAX_MESSAGE_CHARS else line[: MAX_MESSAGE_CHARS - 1] + "…"


def upstream_message(body: bytes) -> str:
    """Return what an error's body says, cleaned; empty if it says nothing in a known JSON shape."""
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return clean(_words_of(value))


def of_status(status: int, body: bytes = b"", retry_after_s: float | None = None) -> Fault:
    """Return the fault that an HTTP status outside 200 to 299 is.

    Args:
        status: As the provider sent it.
        body: The beginning of what came with it.
        retry_after_s: Its `Retry-After`, if it sent one.
    """
    return Fault(
        _failure_of_status(status, body),
        may_retry=status in _RETRIED_STATUSES and not _is_used_up(status, body),
        retry_after_s=retry_after_s,
    )


def _failure_of_status(status: int, body: bytes) -> ProviderFailed:
    match status:
        case 429 if _is_used_up(status, body):
            code, message = "provider_rate_limited", "The account at the provider is used up"
        case 429:
            code, message = "provider_rate_limited", "The provider takes no more requests for now"
        case 503 | 529:
            return overloaded().failure
        case 408 | 504:
            return ProviderFailed(
                "provider_timeout", f"The provider gave up waiting (HTTP {status})", status=504
            )
        case 401 | 403:
            # What the provider says here often quotes the key.
            code = "provider_unauthorized"
            message = f"The provider refused this server's credentials (HTTP {status})"
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ProviderFailed("provider_error", f"The provider failed with HTTP {status}")
        case _ if status < HTTPStatus.BAD_REQUEST:
            return invalid_response(f"HTTP {status} instead of an answer").failure
        case _ if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _is_about_context(body):
            return _too_long(upstream_message(body))
        case _:
            said = upstream_message(body)
            code = "provider_rejected"
            message = f"The provider refused the request (HTTP {status})" + (said and f": {said}")
    return ProviderFailed(code, message, status=status)


def _is_used_up(status: int, body: bytes) -> bool:
    """Whether it is not the rate that is exceeded but the money, which no pause brings back."""
    return status == HTTPStatus.TOO_MANY_REQUESTS and b"insufficient_quota" in body


def _is_about_context(body: bytes) -> bool:
    return _CONTEXT_WORDS.search(body.decode(errors="replace")) is not None


def _too_long(said: str) -> ProviderFailed:
    message = "The conversation is longer than the model can read" + (said and f": {said}")
    return ProviderFailed("context_too_long", message, status=400)


def of_exception(error: Exception) -> Fault:
    """Return the fault that an error of the connection is."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return unreachable("its host name was not found")
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch() | ssl.SSLError():
            # A certificate does not become right by asking again.
            fault = unreachable("the TLS handshake failed")
            return Fault(fault.failure)
        case aiohttp.ConnectionTimeoutError():
            return Fault(timeout("connect").failure, may_retry=True)
        case aiohttp.ClientConnectorError():
            return unreachable(
                "the connection was refused"
                if isinstance(error.os_error, ConnectionRefusedError)
                else "no connection could be made"
            )
        case TimeoutError():
            return timeout("answer")
        case aiohttp.ClientResponseError():
            return invalid_response("something that is not HTTP")
        case _:
            return disconnected()


def unreachable(why: str) -> Fault:
    """No connection could be made."""
    return Fault(
        ProviderFailed("provider_unreachable", f"The provider cannot be reached: {why}"),
        may_retry=True,
    )


def timeout(what: str) -> Fault:
    """The provider kept us waiting: to `connect`, for the first byte, or in the middle."""
    return Fault(
        ProviderFailed(
            "provider_timeout", f"The provider did not {what} within the time allowed", status=504
        )
    )


def disconnected() -> Fault:
    """The connection ended before the answer did."""
    return Fault(
        ProviderFailed("provider_disconnected", "The provider's connection broke off"),
        may_retry=True,
    )


def invalid_response(what: str) -> Fault:
    """The provider sent something that is not an answer. The bytes themselves are never shown."""
    return Fault(ProviderFailed("provider_invalid_response", f"The provider sent {what}"))


def incomplete() -> Fault:
    """The stream ended in order, but without saying that the answer is whole."""
    return Fault(
        ProviderFailed("provider_incomplete", "The provider's answer stopped before its end"),
        may_retry=True,
    )


def empty_answer() -> Fault:
    """The answer ended in order and has nothing in it."""
    return Fault(ProviderFailed("empty_answer", "The model answered with nothing"))


def content_filtered() -> Fault:
    """The provider's filter let nothing of the answer through."""
    return Fault(
        ProviderFailed(
            "content_filtered", "The provider's content filter withheld the answer", status=400
        )
    )


def overloaded() -> Fault:
    """The provider has no room for this answer now."""
    return Fault(
        ProviderFailed("provider_overloaded", "The provider is overloaded", status=503),
        may_retry=True,
    )


def of_stream_error(error: object) -> Fault:
    """Return the fault that an `{"error": …}` object inside a stream is."""
    words = clean(_words_of(error))
    if _CONTEXT_WORDS.search(words):
        return Fault(_too_long(words))
    message = "The provider reported an error" + (words and f": {words}")
    return Fault(ProviderFailed("provider_error", message))


def _words_of(value: object) -> str:
    """Find the sentence in the shapes of error that are in use."""
    for _ in range(4):
        if isinstance(value, str):
            return value
        if not isinstance(value, Mapping):
            return ""
        fields = cast("Mapping[str, Any]", value)
        value = fields.get("error") or fields.get("message") or fields.get("detail") or ""
    return ""
