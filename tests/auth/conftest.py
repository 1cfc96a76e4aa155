"""An app with nothing but `/auth`, on a real database, behind the real guard."""

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from fastapi import FastAPI

from tertulia.auth.administration import UserAdministration
from tertulia.auth.passwords import HashingCost, Passwords
from tertulia.auth.routes import router
from tertulia.auth.service import AuthService
from tertulia.auth.tokens import AccessTokens
from tertulia.http.errors import register_error_handlers
from tertulia.http.guard import Guard
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier

from .people import SECRET_KEY, Person

CHEAP = HashingCost(memory_kib=8, passes=1)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(CHEAP)
    yield passwords
    passwords.close()


@pytest.fixture
def auth(database: Database, passwords: Passwords) -> AuthService:
    return AuthService(database, passwords, AccessTokens(SECRET_KEY), Notifier(database))


@pytest.fixture
def administration(database: Database, passwords: Passwords) -> UserAdministration:
    return UserAdministration(database, passwords, Notifier(database))


@pytest.fixture
async def client(auth: AuthService) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    app.state.auth = auth
    register_error_handlers(app)
    app.include_router(router)
    transport = httpx2.ASGITransport(app=Guard(app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.fixture
async def ana(client: httpx2.AsyncClient) -> Person:
    return await Person.join(client, "ana")


@pytest.fixture
async def bob(client: httpx2.AsyncClient) -> Person:
    return await Person.join(client, "bob")
