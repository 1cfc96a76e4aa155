"""The branch of a conversation as messages of AI SDK UI, in pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tertulia.conversations.messages import MessageService
from tertulia.dialects.ai_sdk.steps import begins_alone, grouped, is_shown, shown
from tertulia.domain.conversations import Message
from tertulia.domain.runs import Run
from tertulia.http.paging import LIMIT_MAX, Page, decode_cursor, encode_cursor

_PAGES_MAX = 5
"""Read for one page that is shown: an answer of more steps than these hold is shown in pieces."""
_STEPS_MAX = 200
"""Of an answer that is being written: older ones are not told to who joins."""


@dataclass(frozen=True, slots=True)
class UIHistory:
    """Reads what was said, for clients that show it."""

    messages: MessageService

    async def page(
        self, conversation_id: UUID, *, user_id: UUID, limit: int, cursor: str | None
    ) -> Page[Mapping[str, Any]]:
        """Return the newest messages on the way to the head, or those before a cursor.

        The page is in the order in which they were said; the next page is the one before it.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            Invalid: The cursor is not one of this list's.
        """
        found, rest = await self._read(conversation_id, user_id=user_id, limit=limit, cursor=cursor)
        groups = grouped(found[::-1])
        if rest is not None and len(groups) > 1 and not begins_alone(groups[0][0]):
            # What it begins with may stand on the page before.
            groups = groups[1:]
        kept = groups[-limit:]
        is_last = rest is None and len(kept) == len(groups)
        told = [shown(group) for group in kept if any(map(is_shown, group))]
        if is_last or not kept:
            return Page(told, None)
        tip_id = found[0].id if cursor is None else decode_cursor(cursor, (int, UUID))[1]
        return Page(told, encode_cursor(kept[0][0].seq, tip_id))

    async def steps_before(self, run: Run) -> Sequence[Message]:
        """Return the answers, and results of tools, that a run's answer goes on after."""
        return (await self._group(run.conversation_id, run.message_id, run.user_id))[:-1]

    async def group_of(self, answer: Message, user_id: UUID) -> Sequence[Message]:
        """Return an answer, and what is shown before it as the same message."""
        return await self._group(answer.conversation_id, answer.id, user_id)

    async def _group(self, conversation_id: UUID, tip_id: UUID, user_id: UUID) -> Sequence[Message]:
        # Most answers follow a user's message, and the two are all that is read.
        for limit in (2, _STEPS_MAX):
            newest = await self.messages.read_branch(
                conversation_id,
                tip_id=tip_id,
                user_id=user_id,
                limit=limit,
                newest_first=True,
            )
            group = grouped(newest[::-1])[-1]
            if len(group) < len(newest) or newest.is_last:
                break
        return group

    async def _read(
        self, conversation_id: UUID, *, user_id: UUID, limit: int, cursor: str | None
    ) -> tuple[Sequence[Message], str | None]:
        """Return messages, newest first, among them all of one that is shown; and what follows."""
        found: list[Message] = []
        rest = cursor
        for number in range(_PAGES_MAX):
            page = await self.messages.list(
                conversation_id,
                user_id=user_id,
                tip="head",
                # Nearly always the first is enough.
                limit=LIMIT_MAX if number else min(limit + 1, LIMIT_MAX),
                cursor=rest,
                newest_first=True,
            )
            found += page.items
            rest = page.next_cursor
            groups = grouped(found[::-1])
            if rest is None or len(groups) > 1 or begins_alone(groups[0][0]):
                break
        return found, rest
