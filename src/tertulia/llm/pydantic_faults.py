"""What an exception of pydantic-ai means in our words. Importing it imports pydantic-ai."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http import HTTPStatus

from pydantic_ai import exceptions

from tertulia.domain.models import ProviderFailed

from . import faults
from .faults import Fault
from .patience import parse_retry_after

_TRANSPORTS = frozenset({"aiohttp", "botocore", "httpcore", "httpcore2", "httpx", "httpx2"})
"""Libraries that an SDK sits on; what they raise in mid-stream is not always translated."""

_UNMADE = frozenset({"ConnectError", "EndpointConnectionError"})
"""What the same libraries call a connection that was never made."""
_REDIRECTS_FROM = HTTPStatus.MULTIPLE_CHOICES
_CAUSES_MAX = 10

_WITHOUT_STATUS: tuple[tuple[type[Exception], Callable[[], Fault]], ...] = (
    (exceptions.ModelTimeoutError, lambda: faults.timeout("answer")),
    (exceptions.ModelRequestTimeout, lambda: faults.timeout("answer")),
    (TimeoutError, lambda: faults.timeout("answer")),
    (exceptions.ModelRateLimitError, lambda: faults.of_status(429)),
    (exceptions.ModelUnavailableError, faults.overloaded),
    (exceptions.ModelServerError, lambda: faults.of_status(500)),
    (exceptions.ModelAuthenticationError, lambda: faults.of_status(401)),
    (exceptions.ContentFilterError, faults.content_filtered),
)
"""What pydantic-ai tells apart by class alone; the first that fits."""


def fault_of(error: Exception, *, began: bool) -> Fault:
    """Return the fault that an exception of pydantic-ai, or of an SDK beneath it, is.

    Args:
        error: Whatever was raised.
        began: Whether a token had come; then there is no other try.
    """
    fault = _of_known(error) or _of_rest(error, began=began)
    return Fault(fault.failure) if began else fault


def _of_known(error: Exception) -> Fault | None:
    if isinstance(error, exceptions.ModelHTTPError) and error.status_code >= HTTPStatus.BAD_REQUEST:
        return faults.of_status(
            error.status_code,
            json.dumps(error.body, default=str).encode(),
            parse_retry_after((error.headers or {}).get("retry-after"), now=datetime.now(UTC)),
        )
    for cause in _causes(error):
        status = getattr(cause, "status_code", None)
        if isinstance(status, int) and _REDIRECTS_FROM <= status < HTTPStatus.BAD_REQUEST:
            return faults.of_status(status)
        if isinstance(cause, json.JSONDecodeError):
            return faults.invalid_response("a chunk that is not JSON")
    for kind, fault in _WITHOUT_STATUS:
        if isinstance(error, kind):
            return fault()
    return None


def _of_rest(error: Exception, *, began: bool) -> Fault:
    match error:
        case exceptions.ModelConnectionError():
            if began or all(type(each).__name__ not in _UNMADE for each in _causes(error)):
                return faults.disconnected()
            return faults.unreachable("no connection was made")
        case exceptions.ModelAPIError():
            return faults.of_stream_error(error.message)
        case exceptions.UserError():
            return faults.of_status(400, json.dumps({"error": error.message}).encode())
        case exceptions.UnexpectedModelBehavior() | ValueError():
            return faults.invalid_response("something that could not be read")
        case AttributeError() | LookupError() | TypeError():
            # The SDKs check no types: what is wrong shows wherever it is first used.
            what = f"something that could not be read ({type(error).__name__})"
            return faults.invalid_response(what)
        case _ if isinstance(error, OSError) or _library_of(error) in _TRANSPORTS:
            return faults.disconnected()
        case _:
            failure = ProviderFailed(
                "provider_error", f"The provider's library failed ({type(error).__name__})"
            )
            return Fault(failure)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what is behind it."""
    cause: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _library_of(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]
