"""What a user's programs may read here."""

from dataclasses import dataclass
from uuid import UUID

from tertulia.conversations.search import ConversationSearch
from tertulia.conversations.service import ConversationService
from tertulia.dialects.mcp.shapes import (
    ConversationPage,
    ConversationShown,
    FoundPage,
    FoundShown,
    ListArguments,
    MessagePage,
    MessageShown,
    ReadArguments,
    SearchArguments,
)


@dataclass(frozen=True, slots=True)
class Library:
    """Reads conversations of whoever asks; every method raises what the services raise."""

    conversations: ConversationService
    search: ConversationSearch

    async def list(self, asked: ListArguments, *, user_id: UUID) -> ConversationPage:
        """Return the user's conversations, newest first."""
        page = await self.conversations.list(
            user_id=user_id, limit=asked.limit, cursor=asked.cursor
        )
        shown = [ConversationShown.of(each) for each in page.items]
        return ConversationPage(conversations=shown, next_cursor=page.next_cursor)

    async def read(self, asked: ReadArguments, *, user_id: UUID) -> MessagePage:
        """Return a page of the branch that a conversation ends with."""
        conversation = await self.conversations.get(asked.conversation_id, user_id=user_id)
        page = await self.conversations.messages.list(
            asked.conversation_id,
            user_id=user_id,
            limit=asked.limit,
            tip="head",
            cursor=asked.cursor,
        )
        return MessagePage(
            conversation=ConversationShown.of(conversation),
            messages=[MessageShown.of(each) for each in page.items],
            next_cursor=page.next_cursor,
        )

    async def find(self, asked: SearchArguments, *, user_id: UUID) -> FoundPage:
        """Return where the user's newest conversations hold these words."""
        found = await self.search.find(asked.query, user_id=user_id, limit=asked.limit)
        shown = [
            FoundShown(
                conversation_id=each.conversation_id,
                title=each.title,
                message_id=each.message_id,
                role=each.role,
                created_at=each.created_at,
                excerpt=each.excerpt,
            )
            for each in found
        ]
        return FoundPage(found=shown)
