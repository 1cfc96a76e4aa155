"""Answers of the server itself, to what no application has seen."""

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from starlette.types import Scope
from structlog.typing import FilteringBoundLogger

from tertulia.domain.ids import new_id
from tertulia.http.errors import Refused, refusal_response
from tertulia.http.headers import AnswerHeaders


def written_refusal(
    refusal: Refused, *, scheme: str, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a whole answer that ends its connection, and log it with its request id.

    It is like any other error's: the one shape, a request id, the protecting headers.

    Args:
        refusal: What to answer.
        scheme: `http` or `https`, as the connection's peer sees it.
        headers: What this refusal needs besides.
    """
    response = refusal_response(refusal)
    response.headers.update({"Connection": "close", **(headers or {})})
    request_id = str(new_id())
    scope: Scope = {"path": "", "scheme": scheme, "headers": []}
    fields = AnswerHeaders(scope, request_id, docs_paths=()).complete(response.raw_headers)
    status = HTTPStatus(response.status_code)
    log: FilteringBoundLogger = structlog.get_logger("tertulia.http")
    log.info("refused", status=status.value, code=refusal.code, request_id=request_id)
    line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    return line + head + b"\r\n" + bytes(response.body)
