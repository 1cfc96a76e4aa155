"""Runs: where they stand, and how they end.

Locks are always taken in the order conversation, run, message.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tertulia.domain.errors import RunNotFound
from tertulia.domain.models import Usage
from tertulia.domain.parts import Part, text_of
from tertulia.domain.runs import Run, RunError, RunStatus
from tertulia.storage.connection import Row
from tertulia.storage.repositories import run_lists as lists
from tertulia.storage.repositories import run_statements as sql
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.message_rows import parts_of, stored_parts
from tertulia.storage.repositories.messages import PAGE_CONTENT_BYTES

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LockedRun:
    """A run that nobody else changes until this transaction ends."""

    id: UUID
    status: RunStatus
    attempt: int
    message_id: UUID


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and all that is kept of it."""

    status: RunStatus
    parts: tuple[Part, ...] = ()
    restart_seq: int = 0
    """The number of the last `restart` event; 0 if there was none."""
    restart_attempt: int | None = None
    marks: tuple[int, ...] = ()
    """Where in the parts each later event ended; see `runs.replay`."""
    error: RunError | None = None
    status_code: int = 200
    usage: Usage = field(default_factory=Usage)
    finish_reason: str | None = None
    first_token_ms: int | None = None
    provider_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that was just ended."""

    run: Run
    another_waits: bool
    """Whether it is now the turn of a queued run of the same conversation."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What the events of an ended run are rebuilt from."""

    parts: tuple[Part, ...]
    restart_seq: int
    restart_attempt: int | None
    marks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LabelledRun:
    """A run that went well, what it said, and the metadata of its conversation."""

    run: Run
    parts: tuple[Part, ...]
    metadata: Mapping[str, str]


class Labelled(list[LabelledRun]):
    """Runs in the order that was asked for, and whether that was all."""

    def __init__(self, runs: Iterable[LabelledRun], *, is_last: bool) -> None:
        super().__init__(runs)
        self.is_last = is_last
        """Whether nothing follows them."""


class RunRepository(Repository):
    """Questions about runs."""

    async def create(
        self,
        id_: UUID,
        *,
        user_id: UUID,
        conversation_id: UUID,
        message_id: UUID,
        seq: int,
        model_type: str,
        settings: dict[str, Any],
        max_attempts: int,
        owner: UUID | None,
        lease: timedelta,
    ) -> Run:
        """Store a new run: running and held by `owner`, or queued if there is none."""
        running = owner is not None
        row = await self._connection.one(
            sql.CREATE,
            id=id_,
            user_id=user_id,
            conversation_id=conversation_id,
            message_id=message_id,
            seq=seq,
            status=(RunStatus.RUNNING if running else RunStatus.QUEUED).value,
            model_type=model_type,
            settings=settings,
            attempt=1 if running else 0,
            max_attempts=max_attempts,
            owner=owner,
            lease=lease,
        )
        return run_of(row)

    async def get(self, id_: UUID, *, user_id: UUID) -> Run:
        """Return the user's run.

        Raises:
            RunNotFound: No such run, or it is another user's.
        """
        row = await self._connection.first(sql.GET, id=id_, user_id=user_id)
        if row is None:
            raise RunNotFound
        return run_of(row)

    async def list(
        self, conversation_id: UUID, *, user_id: UUID, limit: int, before_seq: int | None = None
    ) -> Sequence[Run]:
        """Return the runs of the user's conversation, newest first, after the one at a `seq`."""
        rows = await self._connection.all(
            sql.LIST,
            conversation_id=conversation_id,
            user_id=user_id,
            limit=limit,
            before_seq=2**63 - 1 if before_seq is None else before_seq,
        )
        return [run_of(row) for row in rows]

    async def list_labelled(
        self,
        label: str,
        *,
        user_id: UUID,
        limit: int,
        newest_first: bool,
        after: Run | None = None,
        model_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Labelled:
        """Return the user's runs that went well and have a label, by when they were asked for.

        The first of them is returned whatever its size; what does not fit is not even read.

        Args:
            label: As in `Send.label`.
            user_id: Whose.
            limit: At most so many.
            newest_first: Read backwards.
            after: The last one of the page before.
            model_type: Only those of this model.
            metadata: Only those whose conversation has all of these.
        """
        first = (_LATEST, UUID(int=2**128 - 1)) if newest_first else (_EARLIEST, UUID(int=0))
        after_at, after_id = first if after is None else (after.created_at, after.id)
        rows = await self._connection.all(
            lists.LABELLED_BACKWARDS if newest_first else lists.LABELLED,
            label=label,
            user_id=user_id,
            limit=limit,
            candidates=limit + 1,
            bytes=PAGE_CONTENT_BYTES,
            after_at=after_at,
            after_id=after_id,
            model_type=model_type,
            metadata=dict(metadata or {}),
        )
        found = (LabelledRun(run_of(row), parts_of(row), row.metadata) for row in rows)
        return Labelled(found, is_last=not rows or rows[-1].is_last)

    async def find_newest(
        self, conversation_id: UUID, *, user_id: UUID, content: str | None
    ) -> Run | None:
        """Return the newest run of the user's conversation if it answers `content` (None: any)."""
        row = await self._connection.first(
            sql.NEWEST, conversation_id=conversation_id, user_id=user_id, content=content
        )
        return None if row is None else run_of(row)

    async def list_decisions(
        self, conversation_id: UUID, *, user_id: UUID, after_seq: int, limit: int
    ) -> Sequence[tuple[UUID, Sequence[Mapping[str, Any]]]]:
        """Return the ids of runs that were told decisions about calls, and those, oldest first.

        Args:
            conversation_id: Of which conversation.
            user_id: Whose.
            after_seq: The `seq` of the run after which to look.
            limit: At how many runs.
        """
        rows = await self._connection.all(
            sql.DECISIONS,
            conversation_id=conversation_id,
            user_id=user_id,
            after_seq=after_seq,
            limit=limit,
        )
        return [(row.id, row.decisions) for row in rows]

    async def statuses(self, ids: Sequence[UUID]) -> dict[UUID, RunStatus]:
        """Return where runs stand; those that are gone are left out."""
        rows = await self._connection.all(sql.STATUSES, ids=list(ids))
        return {row.id: RunStatus(row.status) for row in rows}

    async def find_replay(self, id_: UUID, *, user_id: UUID) -> Replay | None:
        """Return what the events of the user's run are rebuilt from, once it has ended."""
        row = await self._connection.first(sql.REPLAY, id=id_, user_id=user_id)
        if row is None:
            return None
        return Replay(
            parts=parts_of(row),
            restart_seq=row.restart_seq,
            restart_attempt=row.restart_attempt,
            marks=tuple(row.marks),
        )

    async def lock(self, id_: UUID, *, user_id: UUID) -> LockedRun:
        """Keep the run from being changed by others until the transaction ends.

        Raises:
            RunNotFound: No such run, or it is another user's.
        """
        row = await self._connection.first(sql.LOCK, id=id_, user_id=user_id)
        if row is None:
            raise RunNotFound
        return _locked(row)

    async def count_active(self, conversation_id: UUID, *, limit: int) -> int:
        """Return how many runs are queued or running in a conversation; counts up to `limit`."""
        row = await self._connection.one(
            sql.COUNT_ACTIVE, conversation_id=conversation_id, limit=limit
        )
        return row.active

    async def lock_active(self, conversation_id: UUID) -> Sequence[LockedRun]:
        """Lock what is queued or running in a conversation."""
        rows = await self._connection.all(sql.LOCK_ACTIVE, conversation_id=conversation_id)
        return [_locked(row) for row in rows]

    async def lock_active_of_user(self, user_id: UUID) -> Sequence[LockedRun]:
        """The same for all conversations of a user."""
        rows = await self._connection.all(sql.LOCK_ACTIVE_OF_USER, user_id=user_id)
        return [_locked(row) for row in rows]

    async def stop_in_conversation(self, conversation_id: UUID) -> Sequence[UUID]:
        """End what is queued or running in a conversation that is about to be deleted.

        What the answers said so far is not kept. Return the runs, for their executors to stop.
        """
        rows = await self._connection.all(sql.STOP_IN_CONVERSATION, conversation_id=conversation_id)
        return [row.id for row in rows]

    async def stop_of_user(self, user_id: UUID) -> Sequence[UUID]:
        """The same for a user who is about to be deleted."""
        rows = await self._connection.all(sql.STOP_OF_USER, user_id=user_id)
        return [row.id for row in rows]

    async def finish(
        self,
        id_: UUID,
        *,
        attempt: int,
        outcome: Outcome,
        title_job_id: UUID,
        owner: UUID | None = None,
    ) -> Finished | None:
        """End a run, fold its answer into its message, and forget its events.

        The first answer of an untitled conversation leaves a job that writes a title.

        Args:
            id_: Which run.
            attempt: By which attempt.
            outcome: How it ended.
            title_job_id: Of the job.
            owner: The process that executes it, which has not locked it; None: it is locked.

        Returns:
            None if `attempt`, or `owner`, no longer holds it, or somebody else has locked it.
        """
        usage, error = outcome.usage, outcome.error
        row = await self._connection.first(
            sql.FINISH if owner is None else sql.FINISH_HELD,
            id=id_,
            attempt=attempt,
            owner=owner,
            status=outcome.status.value,
            error_code=error.code if error else None,
            error_message=error.message if error else None,
            restart_seq=outcome.restart_seq,
            restart_attempt=outcome.restart_attempt,
            marks=list(outcome.marks),
            content=text_of(outcome.parts),
            parts=stored_parts(outcome.parts),
            is_success=outcome.status is RunStatus.COMPLETED,
            status_code=outcome.status_code,
            prompt_tokens=usage.prompt_tokens,
            response_tokens=usage.response_tokens,
            total_tokens=usage.total_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            cost_usd=usage.cost_usd,
            finish_reason=outcome.finish_reason,
            first_token_ms=outcome.first_token_ms,
            provider_request_id=outcome.provider_request_id,
            job_id=title_job_id,
        )
        return None if row is None else Finished(run_of(row), row.another_waits)

    async def delete(self, id_: UUID, *, user_id: UUID) -> None:
        """Forget a run; its answer stays a message of its conversation."""
        await self._connection.run(sql.DELETE, id=id_, user_id=user_id)

    async def settle(
        self, id_: UUID, *, attempt: int, response_tokens: int, first_token_ms: int | None
    ) -> None:
        """Note what this attempt had received when somebody else cancelled it, if it is more."""
        await self._connection.run(
            sql.SETTLE,
            run_id=id_,
            attempt=attempt,
            response_tokens=response_tokens,
            first_token_ms=first_token_ms,
        )


def _locked(row: Row) -> LockedRun:
    return LockedRun(
        id=row.id, status=RunStatus(row.status), attempt=row.attempt, message_id=row.message_id
    )


def run_of(row: Row) -> Run:
    """Return the run of a row that a statement about runs shows."""
    status = RunStatus(row.status)
    usage = Usage(
        prompt_tokens=row.prompt_tokens,
        response_tokens=row.response_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        cost_usd=row.cost_usd,
    )
    return Run(
        id=row.id,
        user_id=row.user_id,
        conversation_id=row.conversation_id,
        message_id=row.message_id,
        seq=row.seq,
        status=status,
        attempt=row.attempt,
        model_type=row.model_type,
        settings=row.settings,
        error=RunError(row.error_code, row.error_message) if row.error_code else None,
        usage=usage if status.is_terminal else None,
        finish_reason=row.finish_reason,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
