"""An app with accounts and conversations, on a real database, behind the real guard."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from tertulia.auth.passwords import HashingCost, Passwords
from tertulia.auth.routes import router as auth_router
from tertulia.auth.service import AuthService
from tertulia.auth.tokens import AccessTokens
from tertulia.conversations.routes import router
from tertulia.conversations.service import ConversationService
from tertulia.http.errors import register_error_handlers
from tertulia.http.guard import Guard
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tests.conversations.running import AnsweredConversation
from tests.storage.rows import MODEL

SECRET_KEY = "a-secret-key-for-tests-that-is-long-enough"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is logged in."""

    client: httpx2.AsyncClient
    token: str

    async def send(
        self, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.client.request(method, path, json=body, headers=headers)

    async def get(self, path: str) -> Any:  # noqa: ANN401  whatever is there
        """Return what is at a path that must be there."""
        return (await self.send("GET", path)).raise_for_status().json()

    async def converse(self, *contents: str) -> str:
        """Make a conversation with these messages; return its path."""
        made = (await self.send("POST", "/conversations", {})).raise_for_status().json()
        path = f"/conversations/{made['id']}"
        for content in contents:
            await self.say(path, content)
        return path

    async def say(self, path: str, content: str, **fields: object) -> dict[str, Any]:
        """Append a message; return it."""
        body = {"role": "user", "content": content, **fields}
        return (await self.send("POST", f"{path}/messages", body)).raise_for_status().json()

    async def read(self, path: str, query: str = "") -> list[str]:
        """Return the contents of every page of a conversation's messages."""
        found: list[str] = []
        target: str | None = f"{path}/messages?{query}"
        while target is not None:
            answer = (await self.send("GET", target)).raise_for_status()
            found += [message["content"] for message in answer.json()]
            target = next_of(answer)
        return found


def next_of(answer: httpx2.Response) -> str | None:
    """Return where the next page is."""
    link = answer.headers.get("Link")
    return None if link is None else link.removeprefix("<").removesuffix('>; rel="next"')


def refusal(answer: httpx2.Response) -> tuple[int, str]:
    """Return the status and the code of an error."""
    return answer.status_code, answer.json()["code"]


@pytest.fixture
def notifier(database: Database) -> Notifier:
    return Notifier(database)


@pytest.fixture
def conversations(database: Database, notifier: Notifier) -> ConversationService:
    return ConversationService(database, notifier, default_model=MODEL)


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(HashingCost(memory_kib=8, passes=1))
    yield passwords
    passwords.close()


@pytest.fixture
async def client(
    database: Database,
    notifier: Notifier,
    passwords: Passwords,
    conversations: ConversationService,
) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    app.state.auth = AuthService(database, passwords, AccessTokens(SECRET_KEY), notifier)
    app.state.conversations = conversations
    register_error_handlers(app)
    app.include_router(auth_router)
    app.include_router(router)
    transport = httpx2.ASGITransport(app=Guard(app))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def join(client: httpx2.AsyncClient, name: str) -> Person:
    email, password = f"{name}@example.com", "password123"
    account = {"email": email, "username": name, "password": password}
    (await client.post("/auth/register", json=account)).raise_for_status()
    answer = await client.post("/auth/login", json={"email": email, "password": password})
    return Person(client, answer.raise_for_status().json()["access_token"])


@pytest.fixture
async def ana(client: httpx2.AsyncClient) -> Person:
    return await join(client, "ana")


@pytest.fixture
async def bob(client: httpx2.AsyncClient) -> Person:
    return await join(client, "bob")


@pytest.fixture
async def answered(database: Database) -> AnsweredConversation:
    """A conversation that is being answered, and another run that waits."""
    return await AnsweredConversation.begin(database)
