"""Headers that every answer carries, and those no answer may."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import Scope

from tertulia.domain.ids import new_id

RawHeaders = list[tuple[bytes, bytes]]

_REQUEST_ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_WEIGHT_PATTERN = re.compile(r"[01](?:\.[0-9]{0,3})?")
_API_POLICY = b"default-src 'none'; frame-ancestors 'none'"
# What the pages FastAPI makes for its own documentation load.
_DOCS_POLICY = (
    b"default-src 'none'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    b"style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    b"font-src https://fonts.gstatic.com; img-src 'self' data: https:; connect-src 'self'; "
    b"worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    # Only `no-cors` loads (an <img>, a <script>) are checked against it, never a CORS fetch
    # (Fetch standard, "cross-origin resource policy check"): allowed origins keep working.
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
# One year; subdomains are not ours to speak for.
_HTTPS_ONLY: RawHeaders = [(b"strict-transport-security", b"max-age=31536000")]


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first value of a request header; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


def accepts(scope: Scope, media_type: str) -> bool:
    """Return whether the caller asks for this media type by name, and for no other more.

    Wildcards ask for nothing by name, but may be wanted more. (RFC 9110, section 12.5.1)

    Args:
        scope: Of the request.
        media_type: In lower case, without parameters.
    """
    wanted = dict[str, float]()
    for name, value in scope["headers"]:
        if name == b"accept":
            wanted |= map(_preference, value.decode("latin-1").lower().split(","))
    weight = wanted.get(media_type, 0.0)
    return weight > 0 and weight >= max(wanted.values())


def _preference(item: str) -> tuple[str, float]:
    media_type, *parameters = (part.strip() for part in item.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            match = _WEIGHT_PATTERN.fullmatch(value.strip())
            return media_type, float(match[0]) if match else 0.0
    return media_type, 1.0


def request_id_of(scope: Scope) -> str:
    """Return the caller's `X-Request-ID` if it is 1 to 64 of `A-Z a-z 0-9 . _ -`, else a new id."""
    given = header(scope, b"x-request-id")
    if given is not None and _REQUEST_ID_PATTERN.fullmatch(given):
        return given.decode("ascii")
    return str(new_id())


class AnswerHeaders:
    """Completes the headers of one answer. What a route has set itself stays."""

    __slots__ = ("_defaults", "_host", "_request_id")

    def __init__(self, scope: Scope, request_id: str, *, docs_paths: Iterable[str]) -> None:
        self._request_id = (b"x-request-id", request_id.encode("ascii"))
        self._host = (header(scope, b"host") or b"").decode("latin-1")
        policy = _DOCS_POLICY if scope["path"] in docs_paths else _API_POLICY
        self._defaults = [*_ALWAYS, (b"content-security-policy", policy)]
        if scope["scheme"] in ("https", "wss"):
            self._defaults += _HTTPS_ONLY

    @property
    def request_id(self) -> tuple[bytes, bytes]:
        """The `X-Request-ID` header."""
        return self._request_id

    def complete(self, headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
        """Return the headers with the missing ones added, and without the name of a server."""
        kept = [
            (name, self._local(value) if name == b"location" else value)
            for name, value in ((name.lower(), value) for name, value in headers)
            if name not in (b"x-request-id", b"server")
        ]
        present = {name for name, _ in kept}
        kept += [pair for pair in self._defaults if pair[0] not in present]
        kept.append(self._request_id)
        return kept

    def _local(self, location: bytes) -> bytes:
        """Make a redirect to the request's own host relative: the `Host` header is the caller's.

        Starlette builds its slash redirects from that header, so a forged one would send a
        shared cache's readers elsewhere.
        """
        url = urlsplit(location.decode("latin-1"))
        if not url.netloc or url.netloc.lower() != self._host.lower():
            return location
        path = "/" + url.path.lstrip("/")
        return url._replace(scheme="", netloc="", path=path).geturl().encode("latin-1")
