"""Conversations: listing, changing, locking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tertulia.domain.conversations import Conversation, Retention
from tertulia.domain.errors import ConversationNotFound
from tertulia.domain.users import Claim
from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.conversation_lists import LASTING, SHOWN, list_statement
from tertulia.storage.statements import statement

DELETION_S = 30.0
"""A million messages take about three seconds."""

_OWNED = "id = :id AND user_id = :user_id"

_GET = statement(f"SELECT {SHOWN} FROM conversations WHERE {_OWNED} AND {LASTING}")
_LOCK = statement(
    f"""
    SELECT * FROM conversations WHERE {_OWNED} AND ({LASTING} OR :also_temporary)
    FOR NO KEY UPDATE
    """
)
_DELETE = statement(f"DELETE FROM conversations WHERE {_OWNED}")
_CREATE = statement(
    f"""
    INSERT INTO conversations (id, user_id, title, model_type, metadata, retention)
    VALUES (:id, :user_id, :title, :model_type, :metadata, :retention)
    RETURNING {SHOWN}
    """
)
_CREATE_IF_MISSING = statement(
    """
    INSERT INTO conversations (id, user_id, model_type, metadata, retention)
    VALUES (:id, :user_id, :model_type, :metadata, :retention)
    ON CONFLICT (id) DO NOTHING
    """
)
_UPDATE = statement(
    f"""
    UPDATE conversations SET
        title = NULLIF(COALESCE(:title, title), ''),
        model_type = COALESCE(:model_type, model_type),
        is_archived = COALESCE(:is_archived, is_archived),
        metadata = COALESCE(CAST(:metadata AS jsonb), metadata),
        retention = CASE WHEN :keeps AND retention = 'with_runs' THEN 'kept' ELSE retention END,
        updated_at = now()
    WHERE {_OWNED} AND {LASTING}
    RETURNING {SHOWN}
    """
)
_TITLE_IF_UNTITLED = statement(
    """
    UPDATE conversations SET title = :title
    WHERE id = :id AND user_id = :user_id AND title IS NULL
    """
)
_SET_HEAD = statement(
    """
    UPDATE conversations SET head_id = :head_id, head_seq = :seq, head_branch = :branch,
        head_is_tip = :is_tip, updated_at = now()
    WHERE id = :id AND user_id = :user_id
    """
)


_KEEP = statement(
    """
    UPDATE conversations SET retention = 'kept'
    WHERE id = :id AND user_id = :user_id AND retention = 'with_runs'
    """
)
_DELETE_UNUSED = statement(
    """
    DELETE FROM conversations c WHERE id = :id AND user_id = :user_id AND retention = :retention
        AND NOT EXISTS (SELECT FROM runs WHERE conversation_id = c.id)
    """
)
# A run may live for a day (`TERTULIA_RUN_DEADLINE_S`); who started it usually deletes this at once.
_SWEEP = statement(
    """
    DELETE FROM conversations WHERE id IN (
        SELECT id FROM conversations c
        WHERE retention = 'temporary' AND created_at < now() - INTERVAL '1 hour'
            AND NOT EXISTS (SELECT FROM runs
                WHERE conversation_id = c.id AND status IN ('queued', 'running'))
        ORDER BY created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    """
)


@dataclass(frozen=True, slots=True)
class LockedConversation:
    """A conversation that nobody else changes until this transaction ends."""

    id: UUID
    user_id: UUID
    title: str | None
    model_type: str
    retention: Retention
    message_count: int
    last_seq: int
    last_branch: int
    head_id: UUID | None
    head_seq: int
    head_branch: int
    head_is_tip: bool


class ConversationRepository(Repository):
    """Questions about conversations."""

    async def create(
        self,
        id_: UUID,
        *,
        user_id: UUID,
        title: str | None,
        model_type: str,
        metadata: Mapping[str, str] | None = None,
        retention: Retention = Retention.KEPT,
    ) -> Conversation:
        """Store a new, empty conversation."""
        row = await self._connection.one(
            _CREATE,
            id=id_,
            user_id=user_id,
            title=title,
            model_type=model_type,
            metadata=dict(metadata or {}),
            retention=retention.value,
        )
        return _shown(row)

    async def create_if_missing(
        self,
        id_: UUID,
        *,
        user_id: UUID,
        model_type: str,
        metadata: Mapping[str, str],
        retention: Retention,
    ) -> None:
        """Store a new, empty conversation unless there is one with this id, whoever's it is."""
        await self._connection.run(
            _CREATE_IF_MISSING,
            id=id_,
            user_id=user_id,
            model_type=model_type,
            metadata=dict(metadata),
            retention=retention.value,
        )

    async def get(self, id_: UUID, *, user_id: UUID, claim: Claim | None = None) -> Conversation:
        """Return the user's conversation; see `ProvingConnection` for the claim.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        row = await self._for(claim).first(_GET, id=id_, user_id=user_id)
        if row is None:
            raise ConversationNotFound
        return _shown(row)

    async def list(
        self,
        *,
        user_id: UUID,
        limit: int,
        skip: int = 0,
        archived: bool | None = None,
        model_type: str | None = None,
        after: tuple[datetime, UUID] | None = None,
        claim: Claim | None = None,
    ) -> Sequence[Conversation]:
        """Return the user's conversations, newest first.

        Args:
            user_id: Whose.
            limit: At most so many.
            skip: Leave out so many first; costs as much as reading them.
            archived: Only those that are, or are not, archived.
            model_type: Only those with this model.
            after: The creation time and id of the last one of the page before.
            claim: Proven by the way; see `ProvingConnection`.
        """
        query = list_statement(
            archived=archived is not None,
            model_type=model_type is not None,
            after=after is not None,
            skips=skip > 0,
            limit=limit,
        )
        after_at, after_id = after or (None, None)
        rows = await self._for(claim).all(
            query,
            user_id=user_id,
            skip=skip,
            archived=archived,
            model_type=model_type,
            after_at=after_at,
            after_id=after_id,
        )
        return [_shown(row) for row in rows[:limit]]

    async def lock(
        self, id_: UUID, *, user_id: UUID, also_temporary: bool = False
    ) -> LockedConversation:
        """Keep the conversation from being changed by others until the transaction ends.

        Args:
            id_: Which.
            user_id: Whose.
            also_temporary: For those who hold its run; to all others it is missing.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        row = await self._connection.first(
            _LOCK, id=id_, user_id=user_id, also_temporary=also_temporary
        )
        if row is None:
            raise ConversationNotFound
        return LockedConversation(
            id=row.id,
            user_id=row.user_id,
            title=row.title,
            model_type=row.model_type,
            retention=Retention(row.retention),
            message_count=row.message_count,
            last_seq=row.last_seq,
            last_branch=row.last_branch,
            head_id=row.head_id,
            head_seq=row.head_seq,
            head_branch=row.head_branch,
            head_is_tip=row.head_is_tip,
        )

    async def update(
        self,
        id_: UUID,
        *,
        user_id: UUID,
        title: str | None = None,
        model_type: str | None = None,
        is_archived: bool | None = None,
        metadata: Mapping[str, str] | None = None,
        keeps: bool = True,
    ) -> Conversation:
        """Change what is given, and return the conversation.

        Args:
            id_: Which.
            user_id: Whose.
            title: The new title, or None to keep it; an empty one removes it.
            model_type: The new model, or None to keep it.
            is_archived: The new state, or None to keep it.
            metadata: All of the new notes, or None to keep those there are.
            keeps: Whether one that is there for its runs is kept from now on.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        row = await self._connection.first(
            _UPDATE,
            id=id_,
            user_id=user_id,
            title=title,
            model_type=model_type,
            is_archived=is_archived,
            metadata=None if metadata is None else dict(metadata),
            keeps=keeps,
        )
        if row is None:
            raise ConversationNotFound
        return _shown(row)

    async def set_title_if_untitled(self, id_: UUID, title: str, *, user_id: UUID) -> bool:
        """Give the conversation a title unless somebody did so before; say whether it took it."""
        return (
            await self._connection.run(_TITLE_IF_UNTITLED, id=id_, user_id=user_id, title=title) > 0
        )

    async def set_head(
        self,
        conversation: LockedConversation,
        *,
        head_id: UUID | None,
        seq: int,
        branch: int,
        is_tip: bool,
    ) -> None:
        """Let the conversation end at another message (None: before its first)."""
        await self._connection.run(
            _SET_HEAD,
            id=conversation.id,
            user_id=conversation.user_id,
            head_id=head_id,
            seq=seq,
            branch=branch,
            is_tip=is_tip,
        )

    async def delete(self, id_: UUID, *, user_id: UUID) -> None:
        """Delete the conversation and everything under it, however much that is.

        Raises:
            ConversationNotFound: No such conversation, or it is another user's.
        """
        await self._connection.be_patient(DELETION_S)
        if not await self._connection.run(_DELETE, id=id_, user_id=user_id):
            raise ConversationNotFound

    async def keep(self, conversation: LockedConversation) -> None:
        """Keep a conversation that was there for its runs: its owner uses it for itself."""
        if conversation.retention is Retention.WITH_RUNS:
            await self._connection.run(_KEEP, id=conversation.id, user_id=conversation.user_id)

    async def delete_unused(self, id_: UUID, *, user_id: UUID, retention: Retention) -> bool:
        """Delete the conversation if it is kept so, and has no runs; say whether that was done."""
        found = await self._connection.run(
            _DELETE_UNUSED, id=id_, user_id=user_id, retention=retention.value
        )
        return found > 0

    async def sweep(self, *, limit: int) -> int:
        """Delete up to `limit` old temporary conversations of all users; return how many."""
        return await self._connection.run(_SWEEP, limit=limit)


def _shown(row: Row) -> Conversation:
    return Conversation(
        id=row["id"],
        user_id=row["user_id"],
        title=row["title"],
        model_type=row["model_type"],
        is_archived=row["is_archived"],
        metadata=row["metadata"],
        message_count=row["message_count"],
        head_id=row["head_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
