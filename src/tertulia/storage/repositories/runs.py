"""Runs: where they stand, and how they end.

Locks are always taken in the order conversation, run, message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from tertulia.domain.errors import RunNotFound
from tertulia.domain.models import Usage
from tertulia.domain.parts import Part, text_of
from tertulia.domain.runs import Run, RunError, RunStatus
from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.messages import parts_of, stored_parts
from tertulia.storage.statements import statement

# Not the marks: there may be thousands, and only a replay needs them.
_SHOWN = """
    r.id, r.user_id, r.conversation_id, r.message_id, r.seq, r.status, r.attempt, r.model_type,
    r.settings, r.error_code, r.error_message, r.created_at, r.started_at, r.ended_at
"""
_SELECT = f"""
    SELECT {_SHOWN}, m.prompt_tokens, m.response_tokens, m.cached_tokens, m.reasoning_tokens,
        m.cost_usd
    FROM runs r JOIN messages m ON m.id = r.message_id
"""
_GET = statement(f"{_SELECT} WHERE r.id = :id AND r.user_id = :user_id")
_LIST = statement(
    f"""{_SELECT} WHERE r.conversation_id = :conversation_id AND r.user_id = :user_id
        AND r.seq < :before_seq ORDER BY r.seq DESC LIMIT :limit"""
)
_NEWEST = statement(
    f"""
    SELECT newest.* FROM ({_SELECT} WHERE r.conversation_id = :conversation_id
        AND r.user_id = :user_id ORDER BY r.seq DESC LIMIT 1) newest
    JOIN messages answer ON answer.id = newest.message_id
    JOIN messages prompt ON prompt.id = answer.parent_id
    WHERE prompt.content = COALESCE(:content, prompt.content)
    """
)
_STATUSES = statement("SELECT id, status FROM runs WHERE id = ANY(CAST(:ids AS uuid[]))")
_REPLAY = statement(
    """
    SELECT r.restart_seq, r.restart_attempt, r.marks, m.content, m.parts
    FROM runs r JOIN messages m ON m.id = r.message_id
    WHERE r.id = :id AND r.user_id = :user_id
        AND r.status IN ('completed', 'cancelled', 'failed')
    """
)
# The clock, not now(): this transaction may have waited for locks for most of a lease.
_CREATE = statement(
    f"""
    INSERT INTO runs AS r (id, user_id, conversation_id, message_id, seq, status, model_type,
        settings, attempt, max_attempts, owner, lease_until, started_at)
    VALUES (:id, :user_id, :conversation_id, :message_id, :seq, :status, :model_type, :settings,
        :attempt, :max_attempts, :owner, clock_timestamp() + CAST(:lease AS interval),
        CASE WHEN :status = 'running' THEN clock_timestamp() END)
    RETURNING {_SHOWN}, CAST(NULL AS bigint) AS prompt_tokens,
        CAST(NULL AS bigint) AS response_tokens, CAST(NULL AS bigint) AS cached_tokens,
        CAST(NULL AS bigint) AS reasoning_tokens, CAST(NULL AS numeric) AS cost_usd
    """
)
_LOCK_ALL = """
    SELECT id, status, attempt, message_id FROM runs
    WHERE {whose} AND status IN ('queued', 'running') ORDER BY id FOR UPDATE
"""
_LOCK_ACTIVE = statement(_LOCK_ALL.format(whose="conversation_id = :conversation_id"))
_LOCK_ACTIVE_OF_USER = statement(_LOCK_ALL.format(whose="user_id = :user_id"))
_COUNT_ACTIVE = statement(
    """
    SELECT count(*) AS active FROM (
        SELECT FROM runs WHERE conversation_id = :conversation_id
            AND status IN ('queued', 'running') LIMIT :limit
    ) few
    """
)
_STOP = """
    WITH stopped AS (
        UPDATE runs SET status = 'cancelled', ended_at = clock_timestamp(), owner = NULL,
            lease_until = NULL
        WHERE id IN (SELECT id FROM runs WHERE {whose} AND status IN ('queued', 'running')
            ORDER BY id FOR UPDATE)
        RETURNING id
    ), forgotten AS (DELETE FROM run_events WHERE run_id IN (SELECT id FROM stopped))
    SELECT id FROM stopped
"""
_STOP_IN_CONVERSATION = statement(_STOP.format(whose="conversation_id = :conversation_id"))
_STOP_OF_USER = statement(_STOP.format(whose="user_id = :user_id"))
_LOCK = statement(
    """
    SELECT id, status, attempt, message_id FROM runs
    WHERE id = :id AND user_id = :user_id FOR UPDATE
    """
)
_FINISH = statement(
    f"""
    WITH ended AS (
        UPDATE runs r SET status = :status, ended_at = clock_timestamp(), owner = NULL,
            lease_until = NULL, error_code = :error_code, error_message = :error_message,
            restart_seq = :restart_seq, restart_attempt = :restart_attempt, marks = :marks
        WHERE id = :id AND attempt = :attempt AND status IN ('queued', 'running')
        RETURNING {_SHOWN}
    ), told AS (
        UPDATE messages SET content = :content, parts = :parts, is_success = :is_success,
            status_code = :status_code, prompt_tokens = :prompt_tokens,
            response_tokens = :response_tokens, total_tokens = :total_tokens,
            cached_tokens = :cached_tokens, reasoning_tokens = :reasoning_tokens,
            cost_usd = :cost_usd, finish_reason = :finish_reason,
            first_token_ms = :first_token_ms, provider_request_id = :provider_request_id,
            latency_ms = EXTRACT(epoch FROM ended.ended_at - ended.started_at) * 1000,
            updated_at = now()
        FROM ended WHERE messages.id = ended.message_id
    ), titled AS (
        INSERT INTO jobs (id, kind, payload)
        SELECT :job_id, 'title', jsonb_build_object(
            'conversation_id', ended.conversation_id, 'user_id', ended.user_id,
            'message_id', ended.message_id)
        FROM ended JOIN conversations c ON c.id = ended.conversation_id
        WHERE c.title IS NULL AND :status = 'completed'
    )
    SELECT *, CAST(:prompt_tokens AS bigint) AS prompt_tokens,
        CAST(:response_tokens AS bigint) AS response_tokens,
        CAST(:cached_tokens AS bigint) AS cached_tokens,
        CAST(:reasoning_tokens AS bigint) AS reasoning_tokens,
        CAST(:cost_usd AS numeric(18, 9)) AS cost_usd,
        EXISTS (SELECT FROM runs waiting WHERE waiting.conversation_id = ended.conversation_id
            AND waiting.status = 'queued' AND waiting.id <> ended.id) AS another_waits
    FROM ended
    """
)
_SETTLE = statement(
    """
    UPDATE messages m SET response_tokens = GREATEST(m.response_tokens, :response_tokens),
        first_token_ms = COALESCE(m.first_token_ms, :first_token_ms)
    FROM runs r WHERE m.id = r.message_id
        AND r.id = :run_id AND r.attempt = :attempt AND r.status = 'cancelled'
    """
)


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
            _CREATE,
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
        return _shown(row)

    async def get(self, id_: UUID, *, user_id: UUID) -> Run:
        """Return the user's run.

        Raises:
            RunNotFound: No such run, or it is another user's.
        """
        row = await self._connection.first(_GET, id=id_, user_id=user_id)
        if row is None:
            raise RunNotFound
        return _shown(row)

    async def list(
        self, conversation_id: UUID, *, user_id: UUID, limit: int, before_seq: int | None = None
    ) -> Sequence[Run]:
        """Return the runs of the user's conversation, newest first, after the one at a `seq`."""
        rows = await self._connection.all(
            _LIST,
            conversation_id=conversation_id,
            user_id=user_id,
            limit=limit,
            before_seq=2**63 - 1 if before_seq is None else before_seq,
        )
        return [_shown(row) for row in rows]

    async def find_newest(
        self, conversation_id: UUID, *, user_id: UUID, content: str | None
    ) -> Run | None:
        """Return the newest run of the user's conversation if it answers `content` (None: any)."""
        row = await self._connection.first(
            _NEWEST, conversation_id=conversation_id, user_id=user_id, content=content
        )
        return None if row is None else _shown(row)

    async def statuses(self, ids: Sequence[UUID]) -> dict[UUID, RunStatus]:
        """Return where runs stand; those that are gone are left out."""
        rows = await self._connection.all(_STATUSES, ids=list(ids))
        return {row.id: RunStatus(row.status) for row in rows}

    async def find_replay(self, id_: UUID, *, user_id: UUID) -> Replay | None:
        """Return what the events of the user's run are rebuilt from, once it has ended."""
        row = await self._connection.first(_REPLAY, id=id_, user_id=user_id)
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
        row = await self._connection.first(_LOCK, id=id_, user_id=user_id)
        if row is None:
            raise RunNotFound
        return _locked(row)

    async def count_active(self, conversation_id: UUID, *, limit: int) -> int:
        """Return how many runs are queued or running in a conversation; counts up to `limit`."""
        row = await self._connection.one(
            _COUNT_ACTIVE, conversation_id=conversation_id, limit=limit
        )
        return row.active

    async def lock_active(self, conversation_id: UUID) -> Sequence[LockedRun]:
        """Lock what is queued or running in a conversation."""
        rows = await self._connection.all(_LOCK_ACTIVE, conversation_id=conversation_id)
        return [_locked(row) for row in rows]

    async def lock_active_of_user(self, user_id: UUID) -> Sequence[LockedRun]:
        """The same for all conversations of a user."""
        rows = await self._connection.all(_LOCK_ACTIVE_OF_USER, user_id=user_id)
        return [_locked(row) for row in rows]

    async def stop_in_conversation(self, conversation_id: UUID) -> Sequence[UUID]:
        """End what is queued or running in a conversation that is about to be deleted.

        What the answers said so far is not kept. Return the runs, for their executors to stop.
        """
        rows = await self._connection.all(_STOP_IN_CONVERSATION, conversation_id=conversation_id)
        return [row.id for row in rows]

    async def stop_of_user(self, user_id: UUID) -> Sequence[UUID]:
        """The same for a user who is about to be deleted."""
        rows = await self._connection.all(_STOP_OF_USER, user_id=user_id)
        return [row.id for row in rows]

    async def finish(
        self, id_: UUID, *, attempt: int, outcome: Outcome, title_job_id: UUID
    ) -> Finished | None:
        """End a run and fold its answer into its message; None if `attempt` no longer holds it.

        The first answer of an untitled conversation leaves a job that writes a title. The events
        are still to be deleted, by a later statement of the same transaction.
        """
        usage, error = outcome.usage, outcome.error
        row = await self._connection.first(
            _FINISH,
            id=id_,
            attempt=attempt,
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
        return None if row is None else Finished(_shown(row), row.another_waits)

    async def settle(
        self, id_: UUID, *, attempt: int, response_tokens: int, first_token_ms: int | None
    ) -> None:
        """Note what this attempt had received when somebody else cancelled it, if it is more."""
        await self._connection.run(
            _SETTLE,
            run_id=id_,
            attempt=attempt,
            response_tokens=response_tokens,
            first_token_ms=first_token_ms,
        )


def _locked(row: Row) -> LockedRun:
    return LockedRun(
        id=row.id, status=RunStatus(row.status), attempt=row.attempt, message_id=row.message_id
    )


def _shown(row: Row) -> Run:
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
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
