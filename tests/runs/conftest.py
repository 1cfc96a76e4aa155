"""The whole application in this process, its model a script."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from tertulia.app import Application, create_app
from tertulia.config import Settings
from tests.kit.replica import SECRET_KEY
from tests.kit.scripted_provider import ScriptedProvider
from tests.runs.talking import Talker, join


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
async def app(dsn: str, provider: ScriptedProvider) -> AsyncIterator[Application]:
    settings = Settings.model_validate(
        {
            "database_url": dsn,
            "secret_key": SECRET_KEY,
            "local_model": False,
            "openai_base_url": provider.base_url,
            "default_model": "openai:scripted",
            "pool_size": 9,
            "drain_s": 0,
        }
    )
    application = create_app(settings)
    async with application.fastapi.router.lifespan_context(application.fastapi):
        yield application


@pytest.fixture
async def client(app: Application) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def ana(client: httpx2.AsyncClient) -> Talker:
    return await join(client, "ana")


@pytest.fixture
async def bob(client: httpx2.AsyncClient) -> Talker:
    return await join(client, "bob")
