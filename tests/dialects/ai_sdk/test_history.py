"""Long answers and pages: what is shown as one message is shown whole."""

from uuid import UUID

import pytest

from tertulia.conversations.messages import MessageService
from tertulia.dialects.ai_sdk.history import UIHistory
from tertulia.domain.conversations import NewMessage, Role
from tertulia.domain.parts import TextPart, ToolCallPart, ToolResultPart
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tests.storage.rows import new_conversation, new_user


def steps(count: int) -> list[NewMessage]:
    """Return an answer of so many steps after its first, each a call and its result."""
    messages: list[NewMessage] = []
    for number in range(count):
        call = ToolCallPart(f"c{number}", "look_up", "{}")
        messages.append(NewMessage(Role.ASSISTANT, (call,)))
        messages.append(NewMessage(Role.TOOL, (ToolResultPart(f"c{number}", "3"),)))
    return [*messages, NewMessage(Role.ASSISTANT, (TextPart("Done"),))]


class Stored:
    """A conversation of these messages."""

    def __init__(self, database: Database, user_id: UUID, conversation_id: UUID) -> None:
        self.user_id = user_id
        self.conversation_id = conversation_id
        self.history = UIHistory(MessageService(database, Notifier(database)))
        self.database = database

    async def store(self, *messages: NewMessage) -> None:
        async with self.database.transaction() as work:
            locked = await work.conversations.lock(self.conversation_id, user_id=self.user_id)
            await work.messages.append_all(locked, messages, parent=work.messages.head(locked))

    async def pages(self, limit: int) -> list[list[int]]:
        """Return how many parts each message of each page has, the oldest page first."""
        found: list[list[int]] = []
        cursor: str | None = None
        while True:
            page = await self.history.page(
                self.conversation_id, user_id=self.user_id, limit=limit, cursor=cursor
            )
            found.insert(0, [len(message["parts"]) for message in page.items])
            cursor = page.next_cursor
            if cursor is None:
                return found


@pytest.fixture
async def stored(database: Database) -> Stored:
    user_id = await new_user(database)
    conversation = await new_conversation(database, user_id)
    return Stored(database, user_id, conversation.id)


def user(words: str = "Hi") -> NewMessage:
    return NewMessage(Role.USER, (TextPart(words),))


async def test_an_answer_is_not_cut_by_a_page(stored: Stored) -> None:
    await stored.store(user(), *steps(3), user(), *steps(1))
    whole = [1, 8, 1, 4]
    for limit in (1, 2, 3, 4, 50):
        pages = await stored.pages(limit)
        assert [size for page in pages for size in page] == whole
        assert all(len(page) <= limit for page in pages)


async def test_an_answer_longer_than_a_page_is_whole(stored: Stored) -> None:
    await stored.store(user(), *steps(150))
    assert await stored.pages(1) == [[1], [302]]


async def test_what_is_being_written_is_not_shown(stored: Stored) -> None:
    await stored.store(user(), NewMessage(Role.ASSISTANT, ()))
    assert await stored.pages(10) == [[1]]
