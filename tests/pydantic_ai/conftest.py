"""One store that forgets, one that does not: whatever holds for the first holds for the second."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from pydantic_ai.conversation_store import ConversationStore, InMemoryConversationStore

from tertulia.pydantic_ai import PostgresConversationStore
from tertulia.storage.database import Database
from tests.pydantic_ai.native import Native
from tests.storage.rows import new_user


@pytest.fixture
async def user_id(database: Database) -> UUID:
    return await new_user(database)


@pytest.fixture
async def postgres_store(dsn: str, user_id: UUID) -> AsyncIterator[PostgresConversationStore]:
    async with PostgresConversationStore.open(dsn, user=user_id) as store:
        yield store


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> ConversationStore:
    if request.param == "memory":
        return InMemoryConversationStore()
    opened: PostgresConversationStore = request.getfixturevalue("postgres_store")
    return opened


@pytest.fixture
def native(database: Database, user_id: UUID) -> Native:
    return Native(database, user_id)
