"""The use cases of a conversation's items. An item is a message, or one part of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tertulia.conversations.changes import Made
from tertulia.conversations.service import ConversationService
from tertulia.dialects.openai.ids import parse_item_id
from tertulia.dialects.openai.items import Item, items_of, split
from tertulia.dialects.openai.listing import Order
from tertulia.dialects.openai.missing import looking_for
from tertulia.domain.conversations import Conversation, Message, NewMessage
from tertulia.domain.errors import Invalid, ItemNotFound, MessageNotFound
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.parts import Part, ReasoningPart

_PAGE_CHARS_MAX = 2 * 1024 * 1024
"""Of one page, but for its first item; a page of long items is shorter."""
_REMOVED = ReasoningPart("")
"""Stands where an item was, so that those behind it keep their names; no model is told it."""


@dataclass(frozen=True, slots=True)
class ConversationItems:
    """Lists, finds, adds and deletes items."""

    conversations: ConversationService

    async def page(
        self,
        conversation: Conversation,
        *,
        after: str | None,
        limit: int,
        order: Order,
    ) -> tuple[Sequence[Item], bool]:
        """Return items on the way to the conversation's head, and whether there are more.

        Args:
            conversation: Whose items.
            after: The name of the item after which to begin.
            limit: At most so many.
            order: `asc` is oldest first.

        Raises:
            Invalid: There is no item `after` on the way to the head.
        """
        backwards = order == "desc"
        edge = None if after is None else await self._edge(conversation, after, backwards=backwards)
        if conversation.head_id is None:
            if after is not None:
                raise _no_such_item()
            return [], False
        items: list[Item] = []
        is_found, left = after is None, _PAGE_CHARS_MAX
        while len(items) <= limit:
            page = await self.conversations.messages.read_branch(
                conversation.id,
                tip_id=conversation.head_id,
                user_id=conversation.user_id,
                limit=limit + 1,
                after_seq=edge,
                newest_first=backwards,
            )
            if not is_found and (not page or page[0].id != parse_item_id(after or "").message_id):
                # It is on another branch, which does not lead to the head.
                raise _no_such_item()
            for message in page:
                found = items_of(message)
                for each in reversed(found) if backwards else found:
                    if is_found and (left > 0 or not items):
                        items.append(each)
                        left -= len(str(each))
                    elif is_found:
                        return items, True
                    is_found = is_found or each["id"] == after
            if page.is_last:
                break
            edge = page[-1].seq
        return items[:limit], len(items) > limit

    async def get(self, conversation: Conversation, name: str) -> Item:
        """Return one item.

        Raises:
            ItemNotFound: There is no such item in the conversation.
        """
        message = await self._message(conversation, name)
        return next(each for each in items_of(message) if each["id"] == name)

    async def add(
        self,
        conversation: Conversation,
        new: Sequence[NewMessage],
        *,
        idempotent: IdempotentRequest | None = None,
    ) -> Made[list[Item]]:
        """Add messages at the end, and return their items.

        Args:
            conversation: Where.
            new: What.
            idempotent: The items that this request made before are returned as they are now.

        Raises:
            RunActive: The conversation is being answered.
            IdempotencyKeyReused: The key belongs to another request.
            Invalid: An output is of no call that waits for a client's.
        """
        try:
            made = await self.conversations.messages.append_all(
                conversation.id, new, user_id=conversation.user_id, idempotent=idempotent
            )
        except Invalid as error:
            if (error.field or "").startswith("body.tool_results"):
                raise Invalid(error.detail, field="body.items") from error
            raise
        items = [item for message in made.thing for item in items_of(message)]
        return Made(items, is_replay=made.is_replay)

    async def delete(self, conversation: Conversation, name: str) -> None:
        """Delete one item, and its message with the last of its items.

        Raises:
            ItemNotFound: There is no such item in the conversation.
            RunActive: It is being written, or being answered.
        """
        message = await self._message(conversation, name)
        number = parse_item_id(name).number
        if len(items_of(message)) == 1:
            await self.conversations.messages.delete(
                conversation.id, message.id, user_id=conversation.user_id
            )
            return
        kept: list[Part] = []
        for index, item in enumerate(split(message.parts)):
            kept += [_REMOVED] if index == number else item.parts
        await self.conversations.messages.correct(
            conversation.id, message.id, user_id=conversation.user_id, content=kept
        )

    async def _message(self, conversation: Conversation, name: str) -> Message:
        with looking_for("Item", name):
            place = parse_item_id(name)
            try:
                message = await self.conversations.messages.get(
                    conversation.id, place.message_id, user_id=conversation.user_id
                )
            except MessageNotFound:
                raise ItemNotFound from None
            if name not in {each["id"] for each in items_of(message)}:
                raise ItemNotFound
        return message

    async def _edge(self, conversation: Conversation, after: str, *, backwards: bool) -> int:
        """Return a place just before the message of the item `after`."""
        try:
            message = await self._message(conversation, after)
        except ItemNotFound:
            raise _no_such_item() from None
        return message.seq + 1 if backwards else message.seq - 1


def _no_such_item() -> Invalid:
    return Invalid("There is no such item in this list", field="query.after")
