"""Errors under `/v1` in OpenAI's envelope: `{"error": {"message", "type", "param", "code"}}`.

All that is behind this, the guard included, errs in the one shape of this product. Here, at the
edge, that shape is translated; nobody behind it knows.
"""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tertulia.domain.errors import ModelNotFound, TertuliaError
from tertulia.domain.models import ProviderFailed
from tertulia.http.errors import status_of

_BY_MESSAGE: Mapping[str, str] = {
    "Field required": "missing_required_parameter",
    "Extra inputs are not permitted": "unknown_parameter",
}
"""What pydantic says, in OpenAI's codes."""
_BY_CODE: Mapping[str, str] = {
    "context_too_long": "context_length_exceeded",
    "invalid_request": "invalid_value",
    "unauthenticated": "invalid_api_key",
    "route_not_found": "unknown_url",
    "too_many_attempts": "rate_limit_exceeded",
    "internal_error": "server_error",
}
"""Our codes of which OpenAI's clients know another; all others are told as they are."""
_PARAMS: Mapping[str, str] = {"model_type": "model"}
"""Our inputs that have another name there."""
_STATUS_BY_CODE: Mapping[str, int] = {ModelNotFound.code: HTTPStatus.NOT_FOUND}
_STARTS = ("http.response.start", "websocket.http.response.start")
_BODIES = ("http.response.body", "websocket.http.response.body")
_ERRORS_FROM = HTTPStatus.BAD_REQUEST


class ErrorObject(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(BaseModel):
    """Every error's shape under `/v1`, as it is documented."""

    error: ErrorObject


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"model": ErrorEnvelope, "description": "An error, in OpenAI's envelope."}
}


class OpenAIErrors:
    """An ASGI application that answers errors under `/v1/` in OpenAI's envelope.

    Args:
        app: What stands behind it; outside `/v1/` nothing is touched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] in ("http", "websocket") and scope["path"].startswith("/v1/"):
            send = _Translated(send).send
        await self._app(scope, receive, send)


class _Translated:
    """Holds an error back until its body is whole, and sends the translation."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] in _STARTS and message["status"] >= _ERRORS_FROM:
            self._start = message
            return
        if self._start is None or message["type"] not in _BODIES:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        start, self._start = self._start, None
        status, body = translated(start["status"], self._body)
        headers = MutableHeaders(raw=list(start.get("headers", ())))
        headers["Content-Length"] = str(len(body))
        await self._send({**start, "status": status, "headers": headers.raw})
        await self._send({**message, "body": body})


def translated(status: int, body: bytes) -> tuple[int, bytes]:
    """Return an error's status and body in OpenAI's terms; what is not ours stays as it is."""
    try:
        native: dict[str, Any] = json.loads(body)
        detail, code = native["detail"], native["code"]
    except (ValueError, KeyError, TypeError):
        return status, body
    errors: list[dict[str, str]] = native.get("errors") or []
    field = errors[0]["field"] if errors else None
    told = envelope(status, code, detail, field=field, reasons=(each["message"] for each in errors))
    return openai_status(status, code), msgspec.json.encode(told)


def translated_error(answer: Response) -> dict[str, Any]:
    """Return what a native answer says, as an event of a WebSocket, with its status."""
    status, body = translated(answer.status_code, bytes(answer.body))
    return {"type": "error", "status": status, **json.loads(body)}


def openai_status(status: int, code: str) -> int:
    """Return the status that OpenAI's clients expect: a wrong value is 400, not 422."""
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        return _STATUS_BY_CODE.get(code, HTTPStatus.BAD_REQUEST)
    return status


def envelope(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    reasons: Iterable[str] = (),
) -> dict[str, Any]:
    """Return an error in OpenAI's envelope.

    Args:
        status: As answered natively.
        code: As answered natively.
        detail: One sentence for people.
        field: The input that is wrong, as in `body.input[0].role`.
        reasons: What is wrong with it.
    """
    # Of the first, as is the place.
    known = _BY_MESSAGE.get(next(iter(reasons), ""))
    place = None if field is None else field.partition(".")[2] or field
    place = _PARAMS.get(place or "", place)
    kind = _kind(status)
    return {
        "error": {
            "message": detail.removeprefix("body."),
            "type": kind,
            "param": place,
            "code": known or _BY_CODE.get(code, code),
        }
    }


def error_of(error: TertuliaError | ProviderFailed) -> dict[str, Any]:
    """Return what went wrong in OpenAI's envelope, its status under `status`."""
    if isinstance(error, ProviderFailed):
        return {"status": error.status, **envelope(error.status, error.code, error.message)}
    status = status_of(type(error))
    told = envelope(status, error.code, error.detail, field=error.field)
    return {"status": openai_status(status, error.code), **told}


def _kind(status: int) -> str:
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "rate_limit_error"
        case HTTPStatus.FORBIDDEN:
            return "permission_error"
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return "server_error"
        case _:
            return "invalid_request_error"
