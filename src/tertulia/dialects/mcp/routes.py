"""The MCP endpoint."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import HTTPConnection

from tertulia.auth.dependencies import CurrentUser
from tertulia.dialects.mcp.endpoint import McpEndpoint

_OPENAPI: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}}
}

router = APIRouter(tags=["mcp"])


async def _endpoint(connection: HTTPConnection) -> McpEndpoint:
    return connection.app.state.mcp


Endpoint = Annotated[McpEndpoint, Depends(_endpoint)]


async def _check_origin(request: Request, endpoint: Endpoint) -> None:
    endpoint.check_origin(request)


@router.post("/mcp", dependencies=[Depends(_check_origin)], openapi_extra=_OPENAPI)
async def speak_mcp(request: Request, user: CurrentUser, endpoint: Endpoint) -> Response:
    """Speak the Model Context Protocol (streamable HTTP, stateless): one message, one answer.

    Tools and resources read the caller's own conversations; see `docs/mcp.md`.
    """
    return await endpoint.answer(request, user)
