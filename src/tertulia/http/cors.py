"""Which web pages may call the API: cross-origin resource sharing (Fetch standard, section 3.3)."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tertulia.http.errors import OWN_CODES, error_response
from tertulia.http.guard import Guard
from tertulia.http.headers import header

EXPOSED_HEADERS = ("Idempotent-Replayed", "Link", "Location", "Retry-After", "X-Request-ID")
"""What a page may read of an answer, besides the safe ones of the standard."""
_REFUSED = "origin_not_allowed"


class CrossOrigin(CORSMiddleware):
    """Stands in front of the guard, so that a page can read the guard's own answers as well.

    Args:
        app: The guard.
        origins: Whose pages may call.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or answer a browser that asks beforehand."""
        if (
            scope["type"] == "http"
            and scope["method"] == "OPTIONS"
            and header(scope, b"origin") is not None
            and header(scope, b"access-control-request-method") is not None
        ):
            # Guarded like any other answer: with a request id, and a line in the log.
            await Guard(self.preflight_response(Headers(scope=scope)))(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a browser that asks what is allowed."""
        response = super().preflight_response(request_headers)
        known = OWN_CODES[_REFUSED]
        if response.status_code != known.status:
            return response
        headers = {"Vary": response.headers["Vary"]}
        return error_response(known.status, _REFUSED, known.meaning, headers=headers)
