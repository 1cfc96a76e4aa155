"""What can be done with conversations; each method is one use case and one transaction.

Locks are taken in the order conversation, run, message, as everywhere. Followers are told after
the commit: what they then look for is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from tertulia.conversations.changes import (
    UNSET,
    ConversationChange,
    Made,
)
from tertulia.conversations.messages import MessageService
from tertulia.conversations.tree import lock_idle, move_head
from tertulia.domain.conversations import Conversation, NewMessage
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.domain.ids import new_id
from tertulia.domain.users import Claim
from tertulia.http.paging import Page, decode_cursor, encode_cursor
from tertulia.storage.database import Database, retried
from tertulia.storage.ending import cancel_runs_in
from tertulia.storage.notices import Notifier


@dataclass(frozen=True, slots=True)
class ConversationService:
    """Makes, lists, changes and deletes conversations."""

    database: Database
    notifier: Notifier
    default_model: str
    """The model of a conversation that names none."""

    @property
    def messages(self) -> MessageService:
        """What can be done with their messages."""
        return MessageService(self.database, self.notifier)

    async def create(
        self,
        *,
        user_id: UUID,
        title: str | None = None,
        model_type: str | None = None,
        messages: Sequence[NewMessage] = (),
        metadata: Mapping[str, str] | None = None,
        idempotent: IdempotentRequest | None = None,
    ) -> Made[Conversation]:
        """Make a conversation, with its first messages if there are any.

        Args:
            user_id: Whose it will be.
            title: None leaves it untitled.
            model_type: None takes the default.
            messages: Stored in the same transaction; nothing answers them by itself.
            metadata: Its owner's notes.
            idempotent: The conversation that this request made before is returned as it is now.

        Raises:
            ConversationNotFound: It was made by this request before, and deleted since.
            IdempotencyKeyReused: The key belongs to another request.
        """
        made = await self._create(
            user_id=user_id,
            title=title,
            model_type=model_type or self.default_model,
            messages=messages,
            metadata=metadata,
            idempotent=idempotent,
        )
        conversation = made.thing
        if not made.is_replay:
            self.notifier.changed(
                "conversation.created",
                user_id=user_id,
                conversation_id=conversation.id,
                message_id=conversation.head_id,
            )
        return made

    @retried
    async def _create(
        self,
        *,
        user_id: UUID,
        title: str | None,
        model_type: str,
        messages: Sequence[NewMessage],
        metadata: Mapping[str, str] | None,
        idempotent: IdempotentRequest | None,
    ) -> Made[Conversation]:
        id_ = new_id()
        async with self.database.transaction() as work:
            made_before = await work.idempotency.claim(idempotent, user_id=user_id, resource_id=id_)
            if made_before is not None:
                found = await work.conversations.get(made_before, user_id=user_id)
                return Made(found, is_replay=True)
            conversation = await work.conversations.create(
                id_, user_id=user_id, title=title, model_type=model_type, metadata=metadata
            )
            if messages:
                locked = await work.conversations.lock(id_, user_id=user_id)
                _, locked = await work.messages.append_all(
                    locked, messages, parent=work.messages.head(locked)
                )
                conversation = replace(
                    conversation, message_count=locked.message_count, head_id=locked.head_id
                )
        return Made(conversation, is_replay=False)

    async def list(
        self,
        *,
        user_id: UUID,
        limit: int,
        skip: int = 0,
        cursor: str | None = None,
        archived: bool | None = None,
        model_type: str | None = None,
        claim: Claim | None = None,
    ) -> Page[Conversation]:
        """Return the user's conversations, newest first; see `ConversationRepository.list`.

        Raises:
            Invalid: The cursor is not one of this list's.
        """
        after = None if cursor is None else decode_cursor(cursor, (datetime, UUID))
        async with self.database.reading() as work:
            found = await work.conversations.list(
                user_id=user_id,
                limit=limit + 1,
                skip=skip,
                archived=archived,
                model_type=model_type,
                after=after,
                claim=claim,
            )
        items = found[:limit]
        is_last = len(found) == len(items)
        return Page(items, None if is_last else encode_cursor(items[-1].created_at, items[-1].id))

    async def get(
        self, conversation_id: UUID, *, user_id: UUID, claim: Claim | None = None
    ) -> Conversation:
        """Return the user's conversation, who may still have to be proven.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        async with self.database.reading() as work:
            return await work.conversations.get(conversation_id, user_id=user_id, claim=claim)

    async def update(
        self, conversation_id: UUID, *, user_id: UUID, change: ConversationChange
    ) -> Conversation:
        """Change a conversation and return it; what changes nothing is not told to anybody.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
            MessageNotFound: It has no message with the id of the new head.
            RunActive: The head cannot move while it is being written.
        """
        if change == ConversationChange():
            return await self.get(conversation_id, user_id=user_id)
        conversation = await self._update(conversation_id, user_id=user_id, change=change)
        self.notifier.changed(
            "conversation.updated", user_id=user_id, conversation_id=conversation_id
        )
        return conversation

    @retried
    async def _update(
        self, conversation_id: UUID, *, user_id: UUID, change: ConversationChange
    ) -> Conversation:
        async with self.database.transaction() as work:
            if change.head_id is not UNSET:
                locked = await lock_idle(work, conversation_id, user_id=user_id)
                await move_head(work, locked, change.head_id)
            return await work.conversations.update(
                conversation_id,
                user_id=user_id,
                title=change.title,
                model_type=change.model_type,
                is_archived=change.is_archived,
                metadata=change.metadata,
                keeps=change.keeps,
            )

    async def delete(self, conversation_id: UUID, *, user_id: UUID) -> None:
        """Delete a conversation and everything under it; runs that write in it are stopped.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        await self._stop_and_delete(conversation_id, user_id=user_id, also_temporary=False)
        self.notifier.changed(
            "conversation.deleted", user_id=user_id, conversation_id=conversation_id
        )

    async def forget(self, conversation_id: UUID, *, user_id: UUID) -> None:
        """Delete a temporary conversation, for who holds its run; nobody else has known of it.

        Raises:
            ConversationNotFound: It is gone already.
        """
        await self._stop_and_delete(conversation_id, user_id=user_id, also_temporary=True)

    async def _stop_and_delete(
        self, conversation_id: UUID, *, user_id: UUID, also_temporary: bool
    ) -> None:
        # First what writes there is stopped, and that is over soon: a deletion may take long, and
        # would hold the runs' rows meanwhile.
        for step in (self._stop, self._delete):
            self.notifier.stopped(
                await step(conversation_id, user_id=user_id, also_temporary=also_temporary)
            )

    @retried
    async def _stop(
        self, conversation_id: UUID, *, user_id: UUID, also_temporary: bool
    ) -> Sequence[UUID]:
        async with self.database.transaction() as work:
            await work.conversations.lock(
                conversation_id, user_id=user_id, also_temporary=also_temporary
            )
            # As it is stored: should the deletion fail, nothing is lost.
            return await cancel_runs_in(work, conversation_id)

    @retried
    async def _delete(
        self, conversation_id: UUID, *, user_id: UUID, also_temporary: bool
    ) -> Sequence[UUID]:
        async with self.database.deletion() as work:
            await work.conversations.lock(
                conversation_id, user_id=user_id, also_temporary=also_temporary
            )
            stopped = await work.runs.stop_in_conversation(conversation_id)
            await work.conversations.delete(conversation_id, user_id=user_id)
        return stopped
