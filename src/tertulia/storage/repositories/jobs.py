"""Jobs: work that a transaction leaves behind, to be done by whichever process comes first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from tertulia.storage.repositories.base import Repository
from tertulia.storage.statements import statement

_ENQUEUE = statement("INSERT INTO jobs (id, kind, payload) VALUES (:id, :kind, :payload)")
# Claiming moves the job into the future: if its worker dies, it is due again then.
_CLAIM = statement(
    """
    WITH due AS MATERIALIZED (
        SELECT id FROM jobs
        WHERE due_at <= now() AND kind = ANY(CAST(:kinds AS text[])) ORDER BY due_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE jobs SET attempts = attempts + 1, due_at = now() + CAST(:lease AS interval)
    WHERE id IN (SELECT id FROM due) RETURNING id, kind, payload, attempts
    """
)
_DONE = statement("DELETE FROM jobs WHERE id = :id AND attempts = :attempts")
_RETRY = statement(
    """
    UPDATE jobs SET due_at = now() + CAST(:delay AS interval), last_error = :error
    WHERE id = :id AND attempts = :attempts
    """
)


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work, claimed by this process for a while."""

    id: UUID
    kind: str
    payload: dict[str, Any]
    attempts: int
    """1 for the first time."""


class JobRepository(Repository):
    """Questions about jobs."""

    async def enqueue(self, id_: UUID, kind: str, payload: dict[str, Any]) -> None:
        """Leave a job behind; it is there exactly if this transaction commits."""
        await self._connection.run(_ENQUEUE, id=id_, kind=kind, payload=payload)

    async def claim(self, kinds: Sequence[str], *, lease: timedelta, limit: int) -> Sequence[Job]:
        """Take what is due of these kinds, for as long as the lease; then it is due again."""
        rows = await self._connection.all(_CLAIM, kinds=list(kinds), lease=lease, limit=limit)
        return [Job(row.id, row.kind, row.payload, row.attempts) for row in rows]

    async def done(self, job: Job) -> None:
        """Forget a job that was done (or given up)."""
        await self._connection.run(_DONE, id=job.id, attempts=job.attempts)

    async def retry(self, job: Job, *, delay: timedelta, error: str) -> None:
        """Let the job be due again after `delay`."""
        await self._connection.run(
            _RETRY, id=job.id, attempts=job.attempts, delay=delay, error=error
        )
