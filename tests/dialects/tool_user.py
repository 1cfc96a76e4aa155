"""Somebody on a server in this process that can run tools, one of them only with consent."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from tertulia.app import create_app
from tertulia.config import Settings
from tests.kit.replica import SECRET_KEY
from tests.kit.scripted_provider import ScriptedProvider
from tests.kit.tool_hosting import config_file, over_stdio
from tests.runs.talking import Talker, join

_SEND_ASKS = {"default": "allow", "tools": {"send": "ask"}}


@asynccontextmanager
async def user_with_tools(dsn: str, notes: Path) -> AsyncGenerator[Talker]:
    """Serve, with the MCP server `kit`, which writes to `notes` what it does."""
    async with ScriptedProvider() as provider:
        settings = Settings.model_validate(
            {
                "database_url": dsn,
                "secret_key": SECRET_KEY,
                "local_model": False,
                "openai_base_url": provider.base_url,
                "default_model": "openai:scripted",
                "pool_size": 9,
                "drain_s": 0,
                "mcp_config": config_file(notes.parent, kit=over_stdio(notes, **_SEND_ASKS)),
            }
        )
        app = create_app(settings)
        async with app.fastapi.router.lifespan_context(app.fastapi):
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                yield await join(client, "ana")
