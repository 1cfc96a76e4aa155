"""The one shape of every error: `{"detail": str, "code": str}`, for bad fields also `"errors"`.

The tree of `tertulia.domain.errors` says what happened; here it gets its status. Nothing internal
and nothing the caller sent as a value is in an answer: a 422 names the field, never its content,
which may be a password.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from tertulia.domain.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    IdempotencyKeyInFlight,
    Invalid,
    NotFound,
    RunActive,
    TertuliaError,
    TooManyAttempts,
    TooManyConnections,
    Unauthenticated,
    Unavailable,
)

INTERNAL_ERROR = "internal_error"
INTERNAL_ERROR_DETAIL = "Internal server error"
RETRY_AFTER_S = 1
"""What a 503, or a 409 that passes by itself, tells a client to wait unless it knows better."""
FIELD_ERRORS_MAX = 20
"""The most fields one 422 names: 10,000 bad items are not answered with 10,000 errors."""

_FIELD_CHARS_MAX = 256
_ECHO_CHARS_MIN = 4
# Shorter inputs ("a", "in") occur in ordinary sentences.

STATUS_BY_KIND: Mapping[type[TertuliaError], HTTPStatus] = {
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
    TooManyConnections: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of each kind of error; a named error has the status of its kind."""

_PASSING = (Unavailable, RunActive, IdempotencyKeyInFlight)


class DocumentedCode(NamedTuple):
    """What a `code` means to a client."""

    status: int
    meaning: str
    """One sentence."""


OWN_CODES: Mapping[str, DocumentedCode] = {
    "invalid_http": DocumentedCode(400, "What was sent is not HTTP/1.1, or is ambiguous."),
    "origin_not_allowed": DocumentedCode(
        400, "A web page of this origin may not call the API (`TERTULIA_CORS_ORIGINS`)."
    ),
    "route_not_found": DocumentedCode(404, "No route has this path."),
    "method_not_allowed": DocumentedCode(405, "The path exists, but not with this method."),
    "head_timeout": DocumentedCode(408, "The head of the request did not arrive in time."),
    "body_timeout": DocumentedCode(408, "The request body did not arrive in time."),
    "body_too_large": DocumentedCode(413, "The request body is larger than the server takes."),
    "target_too_long": DocumentedCode(414, "Path and query string together are too long."),
    "unsupported_media_type": DocumentedCode(415, "The request body is not JSON in UTF-8."),
    "invalid_json": DocumentedCode(
        422, "The request body is not strict JSON; `detail` names the place and the reason."
    ),
    "invalid_query": DocumentedCode(
        422, "The query string is not percent-encoded UTF-8, or names a parameter twice."
    ),
    "head_too_large": DocumentedCode(431, "Request line and headers are too long."),
    "too_many_large_bodies": DocumentedCode(
        503, "Requests with whole conversations take all the memory there is for them; try again."
    ),
    INTERNAL_ERROR: DocumentedCode(500, "A fault of the server; its log has the request id."),
}
"""The codes of HTTP itself, beside those of the domain's errors."""

_CODE_BY_STATUS: Mapping[int, str] = {
    400: BadRequest.code,
    401: Unauthenticated.code,
    403: Forbidden.code,
    404: "route_not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: Invalid.code,
    503: Unavailable.code,
}


class Refused(Exception):  # noqa: N818  named for what happened, like the errors of the domain
    """The guard does not let a request in.

    Attributes:
        code: One of `OWN_CODES`, which also gives the status.
        detail: One sentence for people.
        field: The input that is wrong, if there is one.
    """

    def __init__(self, code: str, detail: str, *, field: str | None = None) -> None:
        self.code = code
        self.detail = detail
        self.field = field
        super().__init__(f"{code}: {detail}")


class ErrorField(BaseModel):
    """An input that is wrong, as it is documented."""

    field: str = Field(examples=["body.title"])
    message: str


class ErrorBody(BaseModel):
    """Every error's shape, as it is documented."""

    detail: str
    code: str = Field(description="Stable; see docs/errors.md.")
    errors: list[ErrorField] | None = Field(None, description="Only where inputs are wrong.")


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorBody, "description": "An error."}
}
"""What the documentation of every route says of all that can go wrong."""


class FieldError(NamedTuple):
    """One input that is wrong."""

    field: str
    """As the caller wrote it: `body.messages[3].content`, `query.limit`."""
    message: str


def status_of(error: type[TertuliaError]) -> int:
    """Return the HTTP status of an error's class; 500 for one outside these kinds."""
    for kind in error.__mro__:
        if kind in STATUS_BY_KIND:
            return STATUS_BY_KIND[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def error_response(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error in the one shape; text that UTF-8 cannot carry is replaced by `?`."""
    content: dict[str, Any] = {"detail": detail, "code": code}
    if errors:
        content["errors"] = [error._asdict() for error in errors]
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(
        text.encode("utf-8", "replace"), status, dict(headers or {}), media_type="application/json"
    )


def response_for(error: TertuliaError) -> Response:
    """Return the answer that an error of the domain gets."""
    status = status_of(type(error))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal_error_response()
    headers: dict[str, str] = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    retry_after_s = error.retry_after_s
    if retry_after_s is None and isinstance(error, _PASSING):
        retry_after_s = RETRY_AFTER_S
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    errors = [FieldError(error.field, error.detail)] if error.field else []
    return error_response(status, error.code, error.detail, errors=errors, headers=headers)


def refusal_response(refusal: Refused) -> Response:
    """Return the answer that a request refused by the guard gets."""
    errors = [FieldError(refusal.field, refusal.detail)] if refusal.field else []
    status = OWN_CODES[refusal.code].status
    is_passing = status == HTTPStatus.SERVICE_UNAVAILABLE
    headers = {"Retry-After": str(RETRY_AFTER_S)} if is_passing else {}
    return error_response(status, refusal.code, refusal.detail, errors=errors, headers=headers)


def internal_error_response() -> Response:
    """Return the answer to a fault of ours: it says nothing but that."""
    return error_response(500, INTERNAL_ERROR, INTERNAL_ERROR_DETAIL)


def register_error_handlers(app: FastAPI) -> None:
    """Give every error that a FastAPI app can answer with the one shape."""
    app.add_exception_handler(TertuliaError, _answer_domain_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    # Starlette answers with this one and raises the exception again: the guard logs it.
    app.add_exception_handler(Exception, _answer_fault)


async def _answer_domain_error(_request: Request, error: Exception) -> Response:
    return response_for(cast("TertuliaError", error))


async def _answer_validation_error(_request: Request, error: Exception) -> Response:
    return _fields_response(cast("RequestValidationError", error).errors())


def validation_response(error: ValidationError) -> Response:
    """Return the answer to a body that was parsed without FastAPI."""
    found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
    return _fields_response(found)


def _fields_response(found: Sequence[Mapping[str, Any]]) -> Response:
    errors = [FieldError(_field(each["loc"]), _message(each)) for each in found[:FIELD_ERRORS_MAX]]
    if not errors:
        return error_response(422, Invalid.code, Invalid.default_detail)
    first = errors[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    detail = f"{first.field}: {first.message}{more}"
    return error_response(422, Invalid.code, detail, errors=errors)


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    refused = cast("HTTPException", error)
    status = refused.status_code
    if status < HTTPStatus.BAD_REQUEST:
        return Response(status_code=status, headers=refused.headers)
    code = _CODE_BY_STATUS.get(status)
    detail = str(refused.detail)
    headers = dict(refused.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _allowed(request) or headers.get("Allow", "")
    if code is None:
        is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        code = INTERNAL_ERROR if is_ours else BadRequest.code
        detail = INTERNAL_ERROR_DETAIL if is_ours else detail
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return error_response(status, code, detail, headers=headers)


def _allowed(request: Request) -> str | None:
    """Return the methods of all routes with this path; Starlette names those of one of them."""
    path = request.scope["path"]
    methods = [method for regex, method in _methods_of(request.app) if regex.fullmatch(path)]
    return ", ".join(sorted(methods)) or None


@functools.lru_cache(maxsize=8)
def _methods_of(app: FastAPI) -> Sequence[tuple[re.Pattern[str], str]]:
    paths: Mapping[str, Mapping[str, Any]] = app.openapi()["paths"]
    return [
        (compile_path(path)[0], method.upper())
        for path, operations in paths.items()
        for method in operations
    ]


async def _answer_fault(_request: Request, error: Exception) -> Response:
    if isinstance(error, TertuliaError):
        return response_for(error)
    return internal_error_response()


def _field(location: Sequence[str | int]) -> str:
    """Return `body.messages[3].content` for `("body", "messages", 3, "content")`.

    Places in parentheses are branches of a union, which no caller wrote: they are left out.
    """
    places = (place for place in location if not str(place).startswith("("))
    text = "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)
    return text.removeprefix(".")[:_FIELD_CHARS_MAX]


def _message(error: Mapping[str, Any]) -> str:
    """Return pydantic's message, unless it quotes what the caller sent."""
    if error["type"] == "union_tag_invalid":
        return f"Expected one of {error['ctx']['expected_tags']}"
    message = str(error["msg"])
    if error["type"] in {"missing", "extra_forbidden"}:
        return message
    if any(echo in message for echo in _texts(error.get("input"))):
        return "The value is not valid"
    return message


def _texts(value: object) -> Iterator[str]:
    """Yield the texts of an input that a message could quote: itself, or its direct members."""
    if isinstance(value, str):
        if len(value) >= _ECHO_CHARS_MIN:
            yield value
    elif isinstance(value, Mapping):
        for member in cast("Mapping[str, object]", value).values():
            if isinstance(member, str):
                yield from _texts(member)


def _documented(error: type[TertuliaError]) -> Iterator[tuple[str, DocumentedCode]]:
    for kind in error.__subclasses__():
        meaning = (kind.__doc__ or "").partition("\n")[0]
        yield kind.code, DocumentedCode(status_of(kind), meaning)
        yield from _documented(kind)


DOCUMENTED_CODES: Mapping[str, DocumentedCode] = {**dict(_documented(TertuliaError)), **OWN_CODES}
"""Every code an HTTP client can meet; the documentation is compared with it."""
