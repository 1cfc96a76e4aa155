"""What can be done with the messages of a conversation; see `service` for the rules kept here."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from tertulia.conversations.changes import Made
from tertulia.conversations.tool_calls import Tip, check_results
from tertulia.conversations.tree import WRITTEN, move_head, refuse_if_in_use
from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.errors import Invalid, RunActive
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.ids import ids_from, new_id
from tertulia.domain.parts import Part, TextPart
from tertulia.domain.users import Claim
from tertulia.http.paging import Page, decode_cursor, encode_cursor
from tertulia.storage.database import Database, retried
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.messages import Listed


@dataclass(frozen=True, slots=True)
class MessageService:
    """Appends, lists, corrects and deletes messages."""

    database: Database
    notifier: Notifier

    async def append(
        self,
        conversation_id: UUID,
        *,
        user_id: UUID,
        role: Role,
        content: str,
        parent_id: UUID | None = None,
        idempotent: IdempotentRequest | None = None,
        claim: Claim | None = None,
    ) -> Made[Message]:
        """Store a message and make it the head. Nothing answers it by itself.

        Args:
            conversation_id: Where.
            user_id: Whose.
            role: As the client says. What a client calls `system` is kept under that name, and is
                never an instruction to a model.
            content: Its words.
            parent_id: Below which message; unless that is the last of its branch, a new branch
                starts. None: below the head.
            idempotent: The message that this request made before is returned as it is now.
            claim: What says that it is the user, where that is still to be proven.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            MessageNotFound: It has no message `parent_id`; or this request made its message
                before, and it has been deleted since.
            RunActive: It is being answered; that answer is the head.
            IdempotencyKeyReused: The key belongs to another request.
        """
        made = await self._append(
            conversation_id,
            user_id=user_id,
            role=role,
            content=content,
            parent_id=parent_id,
            idempotent=idempotent,
            claim=claim,
        )
        if not made.is_replay:
            self.notifier.changed(
                "message.created",
                user_id=user_id,
                conversation_id=conversation_id,
                message_id=made.thing.id,
            )
        return made

    @retried
    async def _append(
        self,
        conversation_id: UUID,
        *,
        user_id: UUID,
        role: Role,
        content: str,
        parent_id: UUID | None,
        idempotent: IdempotentRequest | None,
        claim: Claim | None,
    ) -> Made[Message]:
        id_ = new_id()
        if parent_id is None and idempotent is None:
            async with self.database.writing() as work:
                message = await work.messages.append_at_head(
                    id_,
                    conversation_id=conversation_id,
                    user_id=user_id,
                    role=role,
                    content=content,
                    claim=claim,
                )
            if message is not None:
                return Made(message, is_replay=False)
            claim = None
        async with self.database.transaction() as work:
            if claim is not None:
                await work.sessions.authenticate(claim)
            made_before = await work.idempotency.claim(idempotent, user_id=user_id, resource_id=id_)
            if made_before is not None:
                found = await work.messages.get(
                    made_before, conversation_id=conversation_id, user_id=user_id
                )
                return Made(found, is_replay=True)
            locked = await work.conversations.lock(conversation_id, user_id=user_id)
            parent = (
                work.messages.head(locked)
                if parent_id is None
                else await work.messages.place(locked, parent_id)
            )
            message, _ = await work.messages.append(
                locked, id_, parent=parent, role=role, parts=[TextPart(content)], alone=True
            )
            await work.conversations.keep(locked)
        return Made(message, is_replay=False)

    async def append_all(
        self,
        conversation_id: UUID,
        new: Sequence[NewMessage],
        *,
        user_id: UUID,
        idempotent: IdempotentRequest | None = None,
    ) -> Made[Sequence[Message]]:
        """Store messages below the head, each below the one before; nothing answers them.

        Args:
            conversation_id: Where.
            new: What; messages without ids.
            user_id: Whose.
            idempotent: Those that this request made before, and that are still there, are
                returned as they are now.

        Returns: Those that were stored. Results that are there already are not.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            RunActive: It is being answered; that answer is the head.
            IdempotencyKeyReused: The key belongs to another request.
            Invalid: There is a result that is not a client's to tell; see `check_results`.
        """
        made = await self._append_all(conversation_id, new, user_id=user_id, idempotent=idempotent)
        messages = made.thing
        if messages and not made.is_replay:
            # One notice, however many came: it says where to look from.
            self.notifier.changed(
                "message.created",
                user_id=user_id,
                conversation_id=conversation_id,
                message_id=messages[-1].id,
            )
        return made

    async def check_results(
        self, new: Sequence[NewMessage], tip: Tip | None
    ) -> Sequence[NewMessage]:
        """Return what would be stored below `tip`; see `tool_calls.check_results`."""
        async with self.database.reading() as work:
            return await check_results(work, new, tip)

    @retried
    async def _append_all(
        self,
        conversation_id: UUID,
        new: Sequence[NewMessage],
        *,
        user_id: UUID,
        idempotent: IdempotentRequest | None,
    ) -> Made[Sequence[Message]]:
        id_ = new_id()
        async with self.database.transaction() as work:
            made_before = await work.idempotency.claim(idempotent, user_id=user_id, resource_id=id_)
            if made_before is not None:
                ids = ids_from(made_before, len(new))
                found = await work.messages.find_many(ids, user_id=user_id)
                return Made([found[each] for each in ids if each in found], is_replay=True)
            new = [
                replace(each, id=each_id)
                for each, each_id in zip(new, ids_from(id_, len(new)), strict=True)
            ]
            locked = await work.conversations.lock(conversation_id, user_id=user_id)
            if await work.runs.count_active(conversation_id, limit=1):
                raise RunActive
            head = work.messages.head(locked)
            new = await check_results(work, new, Tip(conversation_id, head.id, user_id))
            messages, _ = await work.messages.append_all(locked, new, parent=head)
            await work.conversations.keep(locked)
        return Made(messages, is_replay=False)

    async def list(
        self,
        conversation_id: UUID,
        *,
        user_id: UUID,
        limit: int,
        tip: UUID | Literal["head"] | None = None,
        skip: int = 0,
        cursor: str | None = None,
        newest_first: bool = False,
        claim: Claim | None = None,
    ) -> Page[Message]:
        """Return messages in the order in which they were stored.

        Args:
            conversation_id: Of which conversation.
            user_id: Whose.
            limit: At most so many, and no more than are quickly shown: see `PAGE_CONTENT_BYTES`.
            tip: Only those on the way from the first message to this one. None: of all branches.
            skip: Leave out so many first; costs as much as reading them.
            cursor: Of the page before, asked for in the same way. The head may have moved since:
                what is read on is the branch to what it was.
            newest_first: Read backwards.
            claim: What says that it is the user, where that is still to be proven.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            MessageNotFound: It has no message `tip`.
            Invalid: The cursor is not one of this list's.
        """
        after_seq, tip_id = _begin(cursor, tip)
        async with self.database.reading() as work:
            if tip_id == "head":
                conversation = await work.conversations.get(
                    conversation_id, user_id=user_id, claim=claim
                )
                tip_id, claim = conversation.head_id, None
                if tip_id is None:
                    return Page([], None)
            read = (
                work.messages.list
                if tip_id is None
                else functools.partial(work.messages.list_branch, tip_id=tip_id)
            )
            found = await read(
                conversation_id,
                user_id=user_id,
                limit=limit,
                skip=skip,
                after_seq=after_seq,
                newest_first=newest_first,
                claim=claim,
            )
            if not found:
                # Only now: a list that has something in it is the owner's, and so is its tip.
                await work.conversations.get(conversation_id, user_id=user_id)
                if tip_id is not None:
                    await work.messages.get(
                        tip_id, conversation_id=conversation_id, user_id=user_id
                    )
        if found.is_last:
            return Page(found, None)
        place = (found[-1].seq,) if tip_id is None else (found[-1].seq, tip_id)
        return Page(found, encode_cursor(*place))

    async def get(self, conversation_id: UUID, message_id: UUID, *, user_id: UUID) -> Message:
        """Return one message.

        Raises:
            MessageNotFound: No such message there, or it is another user's.
        """
        async with self.database.reading() as work:
            return await work.messages.get(
                message_id, conversation_id=conversation_id, user_id=user_id
            )

    async def find_many(self, ids: Sequence[UUID], *, user_id: UUID) -> Mapping[UUID, Message]:
        """Return those of these messages that are the user's, in whatever conversation."""
        async with self.database.reading() as work:
            return await work.messages.find_many(ids, user_id=user_id)

    async def size_of(self, ids: Sequence[UUID], *, user_id: UUID) -> int:
        """Return how many bytes those would be, as stored; nothing of them is read."""
        async with self.database.reading() as work:
            return await work.messages.size_of(ids, user_id=user_id)

    async def read_branch(
        self,
        conversation_id: UUID,
        *,
        tip_id: UUID,
        user_id: UUID,
        limit: int,
        after_seq: int | None = None,
        newest_first: bool = False,
    ) -> Listed:
        """Return messages on the way to `tip_id`; see `MessageRepository.list_branch`.

        Raises:
            MessageNotFound: There is no such message, or it is another user's.
        """
        async with self.database.reading() as work:
            found = await work.messages.list_branch(
                conversation_id,
                tip_id=tip_id,
                user_id=user_id,
                limit=limit,
                after_seq=after_seq,
                newest_first=newest_first,
            )
            if not found:
                await work.messages.get(tip_id, conversation_id=conversation_id, user_id=user_id)
        return found

    async def correct(
        self,
        conversation_id: UUID,
        message_id: UUID,
        *,
        user_id: UUID,
        content: str | Sequence[Part],
    ) -> Message:
        """Change what a message says, in its place; what came after it stays.

        Args:
            conversation_id: Where.
            message_id: Which.
            user_id: Whose.
            content: Its new words, or all of its new parts.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            MessageNotFound: It has no such message.
            RunActive: A run is writing this very message.
        """
        parts = [TextPart(content)] if isinstance(content, str) else content
        message = await self._correct(conversation_id, message_id, user_id=user_id, parts=parts)
        self.notifier.changed(
            "message.updated",
            user_id=user_id,
            conversation_id=conversation_id,
            message_id=message_id,
        )
        return message

    @retried
    async def _correct(
        self, conversation_id: UUID, message_id: UUID, *, user_id: UUID, parts: Sequence[Part]
    ) -> Message:
        async with self.database.transaction() as work:
            locked = await work.conversations.lock(conversation_id, user_id=user_id)
            active = await work.runs.lock_active(conversation_id)
            if any(run.message_id == message_id for run in active):
                raise RunActive(WRITTEN)
            return await work.messages.replace(locked, message_id, parts)

    async def delete(self, conversation_id: UUID, message_id: UUID, *, user_id: UUID) -> None:
        """Delete one message; what followed it now follows its parent.

        If the conversation ended with it, it ends with its parent.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            MessageNotFound: It has no such message.
            RunActive: It is being written, or being answered.
        """
        await self._delete(conversation_id, message_id, user_id=user_id)
        self.notifier.changed(
            "message.deleted",
            user_id=user_id,
            conversation_id=conversation_id,
            message_id=message_id,
        )

    @retried
    async def _delete(self, conversation_id: UUID, message_id: UUID, *, user_id: UUID) -> None:
        async with self.database.transaction() as work:
            locked = await work.conversations.lock(conversation_id, user_id=user_id)
            active = await work.runs.lock_active(conversation_id)
            await refuse_if_in_use(work, active, message_id)
            place = await work.messages.place(locked, message_id)
            heir_id = await work.messages.delete(locked, place)
            if locked.head_id == message_id:
                await move_head(work, locked, heir_id)


def _begin(
    cursor: str | None, tip: UUID | Literal["head"] | None
) -> tuple[int | None, UUID | Literal["head"] | None]:
    """Return the `seq` after which a page begins, and the message its branch leads to."""
    if cursor is None:
        return None, tip
    if tip is None:
        return *decode_cursor(cursor, (int,)), None
    after_seq, tip_then = decode_cursor(cursor, (int, UUID))
    if tip not in ("head", tip_then):
        raise Invalid("The cursor is not one of this branch's", field="query.cursor")
    return after_seq, tip_then
