"""The ASGI application: the guard in front, the routes of all rooms behind it."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tertulia import __version__
from tertulia.auth.routes import router as auth_router
from tertulia.bootstrap import Services, running
from tertulia.config import Settings
from tertulia.conversations.routes import router as conversations_router
from tertulia.dialects.ag_ui.routes import router as ag_ui_router
from tertulia.dialects.ai_sdk.routes import router as ai_sdk_router
from tertulia.dialects.mcp.endpoint import McpEndpoint
from tertulia.dialects.mcp.library import Library
from tertulia.dialects.mcp.routes import router as mcp_router
from tertulia.dialects.openai.errors import OpenAIErrors
from tertulia.dialects.openai.responses.service import Responses
from tertulia.dialects.openai.routes import router as openai_router
from tertulia.http.cors import CrossOrigin
from tertulia.http.errors import ERROR_RESPONSES, register_error_handlers
from tertulia.http.guard import Guard, GuardLimits
from tertulia.http.health import router as health_router
from tertulia.http.sockets import Sockets
from tertulia.runs.routes import router as runs_router
from tertulia.runs.socket import router as socket_router

_GENERATION = "/text/generate/stream"
_HISTORIES = ("/v1/", "/ai-sdk/", "/ag-ui/")
_STREAMS = re.compile(rf"{_GENERATION}|/runs/[^/]+/events|/ai-sdk/chat/[^/]+/stream")


class Application:
    """Tertulia as an ASGI application; everything is built in its lifespan."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._services: Services | None = None
        self.fastapi = self._routes()
        self._guarded: ASGIApp = Guard(
            self.fastapi,
            limits=GuardLimits(
                body_bytes=settings.max_body_bytes,
                history_bytes=max(settings.max_body_bytes, settings.max_history_bytes),
            ),
            histories=_HISTORIES,
            writing_reads=(_GENERATION,),
            streams=_STREAMS,
            until_ready=self._until_ready,
        )
        self._guarded = OpenAIErrors(self._guarded)
        if settings.cors_origins:
            self._guarded = CrossOrigin(self._guarded, origins=settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan."""
        await self._guarded(scope, receive, send)

    def begin_drain(self) -> None:
        """The process has been told to stop. Call it in the event loop."""
        if self._services is not None:
            self._services.begin_drain()

    async def _until_ready(self) -> None:
        if self._services is not None:
            await self._services.database.until_ready()

    def _routes(self) -> FastAPI:
        app = FastAPI(
            title="Tertulia",
            version=__version__,
            summary="The conversation backend for AI apps",
            lifespan=self._lifespan,
            # A redirect would have to name this host, which only the client claims to know.
            redirect_slashes=False,
            responses=ERROR_RESPONSES,
        )
        register_error_handlers(app)
        # They are searched in this order, so what is asked for most comes first.
        for router in (
            conversations_router,
            runs_router,
            health_router,
            auth_router,
            socket_router,
            openai_router,
            ai_sdk_router,
            ag_ui_router,
            mcp_router,
        ):
            app.include_router(router)
        app.add_route("/", _lead_to_the_docs, include_in_schema=False)
        return app

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncGenerator[None]:
        async with running(self._settings) as services:
            self._services = services
            app.state.auth = services.auth
            app.state.conversations = services.conversations
            app.state.runs = services.runs
            app.state.models = services.runs.models
            app.state.responses = Responses(
                services.runs,
                services.conversations,
                heeds_instructions=self._settings.client_instructions,
            )
            app.state.mcp = McpEndpoint(
                Library(services.conversations, services.search),
                self._settings.cors_origins,
                self._settings.max_body_bytes,
                services.tasks,
            )
            app.state.changes = services.changes
            app.state.sockets = Sockets(self._settings.max_sockets)
            app.state.check_readiness = services.check_readiness
            yield


async def _lead_to_the_docs(_request: Request) -> Response:
    return RedirectResponse("/docs")


def create_app(settings: Settings) -> Application:
    """Return the application; it needs a database and a secret key in its settings."""
    return Application(settings)
