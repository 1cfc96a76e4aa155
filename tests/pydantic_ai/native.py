"""The native door to conversations that agents know, too."""

from collections.abc import Sequence
from uuid import UUID

from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationRecord

from tertulia.conversations.service import ConversationService
from tertulia.domain import parts as ours
from tertulia.domain.conversations import Conversation as Shown
from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.pydantic_ai import PostgresConversationStore
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tests.storage.rows import MODEL


class Native:
    """The native door to the same user's conversations."""

    def __init__(self, database: Database, user_id: UUID) -> None:
        self.service = ConversationService(database, Notifier(database), default_model=MODEL)
        self.user_id = user_id

    async def begin(self, *messages: NewMessage) -> UUID:
        made = await self.service.create(user_id=self.user_id, messages=messages)
        return made.thing.id

    async def read(self, id_: UUID | None = None) -> Sequence[Message]:
        """Return the messages up to the head of the only conversation, or of the one named."""
        if id_ is None:
            id_ = (await self.only()).id
        page = await self.service.messages.list(id_, user_id=self.user_id, limit=200, tip="head")
        return page.items

    async def only(self) -> Shown:
        """Return the only conversation."""
        (conversation,) = (await self.service.list(user_id=self.user_id, limit=9)).items
        return conversation

    async def texts(self, id_: UUID | None = None) -> list[str]:
        return [each.content for each in await self.read(id_)]

    async def say(self, id_: UUID, text: str, parent_id: UUID | None = None) -> Message:
        made = await self.service.messages.append(
            id_, user_id=self.user_id, role=Role.USER, content=text, parent_id=parent_id
        )
        return made.thing

    async def correct(self, message: Message, text: str) -> None:
        await self.service.messages.correct(
            message.conversation_id, message.id, user_id=self.user_id, content=text
        )

    async def delete(self, message: Message) -> None:
        await self.service.messages.delete(
            message.conversation_id, message.id, user_id=self.user_id
        )


def says(role: Role, *parts: ours.Part) -> NewMessage:
    return NewMessage(role, parts)


async def loaded(store: PostgresConversationStore, id_: object) -> Conversation:
    found = await store.load(str(id_))
    assert found is not None
    return found


async def record_of(store: PostgresConversationStore, id_: object) -> ConversationRecord:
    found = await store.read_record(str(id_))
    assert found is not None
    return found
