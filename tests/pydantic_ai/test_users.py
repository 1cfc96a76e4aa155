"""Whose conversations they are, and how a web app hands them out."""

import asyncio
import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.models.test import TestModel
from pydantic_ai.ui.vercel_ai import VercelAIAdapter
from starlette.requests import Request

from tertulia.domain import parts as ours
from tertulia.domain.conversations import Role
from tertulia.domain.errors import DatabaseUnavailable, NotFound, UserNotFound
from tertulia.domain.ids import new_id
from tertulia.pydantic_ai import PostgresConversationStore
from tertulia.storage.database import Database
from tests.pydantic_ai.native import Native, loaded, says
from tests.pydantic_ai.saying import asks, entry, record, talk, text_of
from tests.storage.rows import new_user


class TestUsers:
    async def test_two_never_meet(
        self, postgres_store: PostgresConversationStore, database: Database
    ) -> None:
        other = postgres_store.for_user(await new_user(database))
        id_ = str(new_id())
        for name in (id_, "c"):
            mine = Conversation(conversation_id=name, messages=talk(2))
            stored = await postgres_store.save(mine)
            assert await other.load(name) is None
            assert await other.read_record(name) is None
            with pytest.raises(LookupError):
                await other.read_entry(stored[0].id)
            with pytest.raises(LookupError):
                await other.read_history(stored[-1].id)
            with pytest.raises(ConversationConflict):
                await other.save(mine)
            with pytest.raises(ConversationConflict):
                await other.delete_record(name, expected_revision=mine.revision or "")
            with pytest.raises(ConversationConflict):
                await other.write_record(
                    record("stolen", head_id=stored[-1].id), expected_revision=None
                )
            with pytest.raises(ConversationConflict):
                await other.write_record(
                    record("stolen", head_id="x"),
                    new_entries=[entry("x", stored[-1].id)],
                    expected_revision=None,
                )
            assert await other.list_conversations() == []
            # The name is free for the other, too.
            theirs = Conversation(conversation_id=name, messages=[asks("mine")])
            await other.save(theirs)
            assert await other.load(name) == theirs
            assert (await loaded(postgres_store, name)).messages == talk(2)
            await other.delete(name)
            assert (await loaded(postgres_store, name)).messages == talk(2)

    async def test_by_address_or_id(self, dsn: str, user_id: UUID) -> None:
        for user in (user_id, str(user_id), f"{user_id}@EXAMPLE.com"):
            async with PostgresConversationStore.open(dsn, user=user) as store:
                assert store.user_id == user_id

    @pytest.mark.parametrize(
        "user", ["nobody@example.com", "3d9ab2a4-2a7e-4460-99b3-ae1e2f501c96", "alice", ""]
    )
    async def test_one_that_is_not_there(self, dsn: str, user: str) -> None:
        with pytest.raises(UserNotFound):
            async with PostgresConversationStore.open(dsn, user=user):
                pass

    async def test_one_that_went(self, postgres_store: PostgresConversationStore, dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("DELETE FROM users")
        await connection.close()
        with pytest.raises(NotFound):
            await postgres_store.save(Conversation(messages=talk(1)))

    async def test_a_database_without_tables(self, dsn: str, user_id: UUID) -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute("DROP TABLE agent_messages")
        await connection.close()
        with pytest.raises(DatabaseUnavailable, match="db upgrade"):
            async with PostgresConversationStore.open(dsn, user=user_id):
                pass


class TestAdapters:
    """pydantic-ai's own web adapter, with a store for each user."""

    async def ask(
        self, store: PostgresConversationStore, chat: str, text: str, scope: str | None = None
    ) -> tuple[int, str]:
        body = json.dumps(
            {
                "id": chat,
                "trigger": "submit-message",
                "messages": [
                    {"id": f"m-{text}", "role": "user", "parts": [{"type": "text", "text": text}]}
                ],
            }
        )

        arriving = [{"type": "http.request", "body": body.encode(), "more_body": False}]

        async def receive() -> dict[str, Any]:
            if arriving:
                return arriving.pop()
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        scope_: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [(b"content-type", b"application/json")],
            "query_string": b"",
        }
        response = await VercelAIAdapter[None, str].dispatch_request(
            Request(scope_, receive),
            agent=Agent(TestModel(custom_output_text="Ah.")),
            conversation_store=store,
            conversation_scope=scope,
            sdk_version=6,
        )
        sent: list[bytes] = []

        async def send(message: Any) -> None:  # noqa: ANN401  ASGI's
            sent.append(message.get("body", b""))

        await response(scope_, receive, send)
        return response.status_code, b"".join(sent).decode()

    async def test_a_chat_goes_on(
        self, postgres_store: PostgresConversationStore, native: Native, database: Database
    ) -> None:
        for text in ("Hello", "Again"):
            status, stream = await self.ask(postgres_store, "chat-1", text)
            assert (status, '"errorText"' in stream) == (200, False), stream
        assert await native.texts() == ["Hello", "Ah.", "Again", "Ah."]
        other = postgres_store.for_user(await new_user(database))
        await self.ask(other, "chat-1", "Mine")
        assert [text_of(each) for each in (await loaded(other, "chat-1")).messages] == [
            "Mine",
            "Ah.",
        ]

    async def test_it_goes_on_with_what_another_door_began(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        id_ = await native.begin(
            says(Role.USER, ours.TextPart("Hello")), says(Role.ASSISTANT, ours.TextPart("Hi!"))
        )
        await self.ask(postgres_store, str(id_), "Soup?")
        assert await native.texts(id_) == ["Hello", "Hi!", "Soup?", "Ah."]

    async def test_a_scope_keeps_out_as_it_should(
        self, postgres_store: PostgresConversationStore
    ) -> None:
        await self.ask(postgres_store, "chat-1", "Hello", scope="alice")
        assert (await self.ask(postgres_store, "chat-1", "Hello", scope="bob"))[0] == 404
        assert (await self.ask(postgres_store, "chat-1", "Hello"))[0] == 404
