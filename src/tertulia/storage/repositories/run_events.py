"""Events of runs that have not ended. Whoever writes one must hold the run."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from tertulia.domain.runs import EventKind, RunEvent
from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.statements import statement

# The share lock is the fence: a takeover, a cancellation or an end changes the run's row and so
# waits for this statement, and this statement, when it comes second, sees the change and matches
# nothing. A row that somebody has locked at this moment is passed over, for one run must not make
# all others wait. A batch that is repeated because nobody knows whether it was stored changes
# nothing.
_WRITE = statement(
    """
    WITH held AS MATERIALIZED (
        SELECT r.id FROM runs r
        JOIN unnest(CAST(:run_ids AS uuid[]), CAST(:run_attempts AS integer[]))
            AS mine (id, attempt) ON r.id = mine.id AND r.attempt = mine.attempt
        WHERE r.status = 'running' AND r.owner = :owner
        ORDER BY r.id FOR SHARE OF r SKIP LOCKED
    ), stored AS (
        INSERT INTO run_events (run_id, seq, attempt, kind, data)
        SELECT e.run_id, e.seq, e.attempt, e.kind, e.data
        FROM unnest(CAST(:event_runs AS uuid[]), CAST(:seqs AS integer[]),
            CAST(:attempts AS integer[]), CAST(:kinds AS text[]), CAST(:data AS text[]))
            AS e (run_id, seq, attempt, kind, data)
        JOIN held ON held.id = e.run_id
        ON CONFLICT (run_id, seq) DO NOTHING
    )
    SELECT id FROM held
    """
)
_LIST = statement(
    """
    SELECT seq, kind, data FROM run_events
    WHERE run_id = :run_id AND seq > :after
        AND EXISTS (SELECT FROM runs WHERE id = :run_id AND user_id = :user_id)
    ORDER BY seq LIMIT :limit
    """
)
_ALL = statement("SELECT seq, kind, data FROM run_events WHERE run_id = :run_id ORDER BY seq")
_LATEST = statement("SELECT COALESCE(max(seq), 0) AS seq FROM run_events WHERE run_id = :run_id")
_END = statement(
    """
    SELECT restart_seq + cardinality(marks) + 1 AS seq FROM runs WHERE id = :run_id
        AND user_id = :user_id AND status IN ('completed', 'cancelled', 'failed')
    """
)
_LIST_MANY = statement(
    """
    SELECT e.run_id, e.seq, e.kind, e.data
    FROM unnest(CAST(:run_ids AS uuid[]), CAST(:afters AS integer[])) AS wanted (run_id, after)
    CROSS JOIN LATERAL (
        SELECT * FROM run_events
        WHERE run_id = wanted.run_id AND seq > wanted.after ORDER BY seq LIMIT :limit
    ) e ORDER BY e.run_id, e.seq
    """
)

_TEXT_KINDS = frozenset({EventKind.TEXT, EventKind.REASONING})


@dataclass(frozen=True, slots=True)
class RunEvents:
    """New events of one run, by one attempt."""

    run_id: UUID
    attempt: int
    events: Sequence[RunEvent]


class RunEventRepository(Repository):
    """Questions about events."""

    async def write(self, batch: Sequence[RunEvents], *, owner: UUID) -> set[UUID]:
        """Store events of many runs, and return the runs for which that was done.

        Those are locked until the transaction ends. Of the others nothing is stored: they were
        taken over, cancelled or deleted, or somebody is about to (`LeaseRepository.still_held`).
        """
        rows = await self._connection.all(
            _WRITE,
            owner=owner,
            run_ids=[each.run_id for each in batch],
            run_attempts=[each.attempt for each in batch],
            event_runs=[each.run_id for each in batch for _ in each.events],
            attempts=[each.attempt for each in batch for _ in each.events],
            seqs=[event.seq for each in batch for event in each.events],
            kinds=[event.kind.value for each in batch for event in each.events],
            data=[_stored(event) for each in batch for event in each.events],
        )
        return {row.id for row in rows}

    async def list(
        self, run_id: UUID, *, user_id: UUID, after: int, limit: int
    ) -> Sequence[RunEvent]:
        """Return at most `limit` events of the user's run after number `after`, in order."""
        rows = await self._connection.all(
            _LIST, run_id=run_id, user_id=user_id, after=after, limit=limit
        )
        return [_event(row) for row in rows]

    async def all(self, run_id: UUID) -> Sequence[RunEvent]:
        """Return every event of a run that this process has claimed or locked."""
        return [_event(row) for row in await self._connection.all(_ALL, run_id=run_id)]

    async def latest(self, run_id: UUID) -> int:
        """Return the number of the newest event, 0 if there is none."""
        return (await self._connection.one(_LATEST, run_id=run_id)).seq

    async def end(self, run_id: UUID, *, user_id: UUID) -> int | None:
        """Return the number of the last event of the user's run; None while it goes on.

        As `runs.replay.last_seq`, without reading the answer.
        """
        row = await self._connection.first(_END, run_id=run_id, user_id=user_id)
        return None if row is None else row.seq

    async def list_many(
        self, after: Mapping[UUID, int], *, limit: int
    ) -> Mapping[UUID, Sequence[RunEvent]]:
        """Return for each run at most `limit` events after the number given for it."""
        rows = await self._connection.all(
            _LIST_MANY, run_ids=list(after), afters=list(after.values()), limit=limit
        )
        by_run = itertools.groupby(rows, key=lambda row: row.run_id)
        return {run_id: [_event(row) for row in events] for run_id, events in by_run}


def _stored(event: RunEvent) -> str:
    if event.kind in _TEXT_KINDS:
        return event.data["delta"]
    return msgspec.json.encode(event.data).decode()


def _event(row: Row) -> RunEvent:
    kind = EventKind(row.kind)
    data: dict[str, Any] = (
        {"delta": row.data} if kind in _TEXT_KINDS else msgspec.json.decode(row.data)
    )
    return RunEvent(seq=row.seq, kind=kind, data=data)
