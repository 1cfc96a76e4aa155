"""Leases: which process may execute a run, and until when, by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.statements import statement

# The clock, not now(): a transaction may have waited for locks for most of a lease.
_HELD = """
    RETURNING id, user_id, conversation_id, message_id, attempt, max_attempts, model_type,
        settings,
        CAST(EXTRACT(epoch FROM clock_timestamp() - started_at) AS double precision) AS age_s,
        (SELECT parent_id FROM messages WHERE messages.id = runs.message_id) AS prompt_id
"""
_CLAIM_EXPIRED = statement(
    """
    WITH expired AS MATERIALIZED (
        SELECT id FROM runs WHERE status = 'running' AND lease_until < now()
        ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE runs SET attempt = attempt + 1, owner = :owner,
        lease_until = clock_timestamp() + CAST(:lease AS interval)
    WHERE id IN (SELECT id FROM expired)
    """
    + _HELD
)
_CLAIM_QUEUED = statement(
    """
    WITH next AS MATERIALIZED (
        SELECT r.id FROM runs r WHERE r.status = 'queued' AND NOT EXISTS (
            SELECT FROM runs before WHERE before.conversation_id = r.conversation_id
                AND before.status IN ('queued', 'running') AND before.seq < r.seq
        ) ORDER BY r.created_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE runs SET status = 'running', attempt = attempt + 1, owner = :owner,
        started_at = clock_timestamp(), lease_until = clock_timestamp() + CAST(:lease AS interval)
    WHERE id IN (SELECT id FROM next)
    """
    + _HELD
)
# A row that somebody has locked at this moment is passed over: one run must not cost all others
# their leases.
_EXTEND = statement(
    """
    WITH mine AS MATERIALIZED (
        SELECT id FROM runs
        WHERE id = ANY(CAST(:ids AS uuid[])) AND owner = :owner AND status = 'running'
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE runs SET lease_until = clock_timestamp() + CAST(:lease AS interval)
    WHERE id IN (SELECT id FROM mine)
    """
)
_STILL_HELD = statement(
    """
    SELECT id, attempt FROM runs
    WHERE id = ANY(CAST(:ids AS uuid[])) AND owner = :owner AND status = 'running'
    """
)
_RELEASE = statement(
    """
    UPDATE runs SET owner = NULL, lease_until = now(), max_attempts = max_attempts + 1
    WHERE id = ANY(CAST(:ids AS uuid[])) AND owner = :owner AND status = 'running'
    """
)


@dataclass(frozen=True, slots=True)
class HeldRun:
    """A run that this process may execute, until its lease ends."""

    id: UUID
    user_id: UUID
    conversation_id: UUID
    message_id: UUID
    prompt_id: UUID | None
    """The message that is answered: the parent of the answer."""
    attempt: int
    max_attempts: int
    model_type: str
    settings: dict[str, Any]
    age_s: float
    """Since it was first started."""


class LeaseRepository(Repository):
    """Questions about who holds a run."""

    async def claim(
        self, *, owner: UUID, lease: timedelta, limit: int
    ) -> tuple[Sequence[HeldRun], Sequence[HeldRun]]:
        """Take over runs whose lease has ended, and start those whose turn it is.

        Args:
            owner: The process that takes them.
            lease: For how long.
            limit: The most runs of both kinds together.

        Returns:
            The runs taken over, and the runs started. Both are held by `owner` from now on.
        """
        expired = await self._connection.all(_CLAIM_EXPIRED, owner=owner, lease=lease, limit=limit)
        room = limit - len(expired)
        started = await self._connection.all(_CLAIM_QUEUED, owner=owner, lease=lease, limit=room)
        return [_held(row) for row in expired], [_held(row) for row in started]

    async def extend(
        self, ids: Sequence[UUID], *, owner: UUID, lease: timedelta
    ) -> dict[UUID, int]:
        """Hold the runs for longer, and return those that `owner` holds; see `still_held`."""
        await self._connection.run(_EXTEND, ids=list(ids), owner=owner, lease=lease)
        return await self.still_held(ids, owner=owner)

    async def still_held(self, ids: Sequence[UUID], *, owner: UUID) -> dict[UUID, int]:
        """Return those of the runs that `owner` holds as far as is decided, with their attempts."""
        rows = await self._connection.all(_STILL_HELD, ids=list(ids), owner=owner)
        return {row.id: row.attempt for row in rows}

    async def release(self, ids: Sequence[UUID], *, owner: UUID) -> None:
        """Let another process take the runs over at once; it costs them none of their attempts."""
        await self._connection.run(_RELEASE, ids=list(ids), owner=owner)


def _held(row: Row) -> HeldRun:
    return HeldRun(
        id=row.id,
        user_id=row.user_id,
        conversation_id=row.conversation_id,
        message_id=row.message_id,
        prompt_id=row.prompt_id,
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        model_type=row.model_type,
        settings=row.settings,
        age_s=row.age_s,
    )
