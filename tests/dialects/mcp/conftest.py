"""Two people who are known to the server that all dialects' tests share."""

from collections.abc import AsyncIterator
from uuid import uuid1

import httpx2
import pytest

from tests.dialects.conftest import Server
from tests.runs.talking import Talker, join


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.url) as client:
        yield client


@pytest.fixture
async def ana(client: httpx2.AsyncClient) -> Talker:
    return await join(client, f"ana-{uuid1().hex}")


@pytest.fixture
async def bob(client: httpx2.AsyncClient) -> Talker:
    return await join(client, f"bob-{uuid1().hex}")
