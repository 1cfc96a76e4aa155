"""The event writer: durable before visible, at the price of one commit for all runs.

Each process has one. While it commits a batch, everything its runs say gathers for the next; when
the commit is done, followers are told. So an event that somebody saw survives `kill -9`, under
load batches grow by themselves, and PostgreSQL sees tens of commits a second, not one a token.
"""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from tertulia.domain.errors import TertuliaError, Unavailable
from tertulia.domain.ids import new_id
from tertulia.domain.runs import RunError, RunEvent, RunStatus
from tertulia.runs.feeds import Feeds
from tertulia.runs.live import LiveRun, RunEnded
from tertulia.runs.pace import Pace
from tertulia.runs.watched import Watched
from tertulia.storage.database import Database
from tertulia.storage.ending import end_as_stored
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.run_events import RunEvents
from tertulia.storage.repositories.runs import Finished, Outcome
from tertulia.storage.unit_of_work import UnitOfWork
from tertulia.telemetry.crash_points import crash_point

_RETRY_S = 0.25
_NOT_STORABLE = Outcome(
    status=RunStatus.FAILED,
    status_code=502,
    error=RunError("answer_not_storable", "What the model said cannot be stored"),
)
_ROOM_CHARS = 262_144
"""So much of one answer may wait to be stored before its model is read no further."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Share:
    """One run's part of a batch."""

    live: LiveRun
    events: list[RunEvent]
    outcome: Outcome | None
    finished: Finished | None = None


@dataclass(slots=True)
class EventWriter:
    """Stores what the runs of this process say, then shows it."""

    database: Database
    feeds: Feeds
    notifier: Notifier
    process_id: UUID
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whatever statement of this process locks many of its runs: they would deadlock."""
    watched: Watched = field(default_factory=Watched)
    _postponed: dict[LiveRun, Sequence[RunEvent]] = field(
        default_factory=dict[LiveRun, Sequence[RunEvent]]
    )
    """Events that are numbered and wait for a run that somebody had locked."""
    _dirty: dict[LiveRun, None] = field(default_factory=dict[LiveRun, None])
    """Those who have said something, in that order: who is heard first is shown first."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _pace: Pace = field(default_factory=Pace)
    _stored: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: frozenset[LiveRun] = frozenset()
    """What the batch that is being stored is about."""

    def heard(self, live: LiveRun, *, is_first: bool = False) -> None:
        """The run has said something, or ended: store it soon; its first word at once."""
        self._dirty.setdefault(live)
        self._wake.set()
        if is_first:
            self._pace.hurry()

    async def room(self, live: LiveRun) -> None:
        """Wait until the run may say more."""
        while live.waiting_chars > _ROOM_CHARS and not live.is_lost:
            await self._stored.wait()

    def breathe(self) -> Awaitable[None] | None:
        """Return what to wait for before a model is listened to again; see `Pace`."""
        turn = self._pace.breathe()
        if turn is not None:
            self._wake.set()
        return turn

    async def flush(self, runs: Collection[LiveRun]) -> None:
        """Wait until everything that these runs have said is stored or lost."""
        while not (self._dirty.keys() | self._writing).isdisjoint(runs):
            await self._stored.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        self._pace.wake()  # Somebody may have been waiting when it was last cut short.
        while True:
            await self._wake.wait()
            self._pace.begin()
            await self._pace.rest(await self._write_batch())

    async def _write_batch(self) -> int:
        """Store and show what was said; return of how many runs."""
        self._wake.clear()
        dirty, self._dirty = self._dirty, {}
        postponed, self._postponed = self._postponed, {}
        batch = [
            _Share(live, [*postponed.get(live, ()), *live.take_events()], live.outcome)
            for live in dirty
            if not live.is_lost
        ]
        self._writing = frozenset(dirty)
        try:
            await self._store_and_show(batch)
        finally:
            self._writing = frozenset()
            stored, self._stored = self._stored, asyncio.Event()
            stored.set()
        return len(batch)

    async def _store_and_show(self, batch: Sequence[_Share]) -> None:
        """Store the batch however long the database is away: nobody has seen any of it."""
        while batch:
            try:
                async with self.turn:
                    stored, undecided = await self._store(batch)
            except Unavailable as error:
                log.warning("events wait for the database", runs=len(batch), code=error.code)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # One run says what cannot be stored. Alone it fails alone.
                if len(batch) == 1:
                    log.exception("a run cannot be stored", run_id=str(batch[0].live.held.id))
                    await self._fail(batch[0])
                    return
                for share in batch:
                    await self._store_and_show([share])
                return
            else:
                crash_point("write.committed")
                for share in batch:
                    self._show(share, stored, undecided)
                self.notifier.stored(self._to_be_told(batch, stored))
                crash_point("write.shown")
                return

    async def _store(self, batch: Sequence[_Share]) -> tuple[set[UUID], set[UUID]]:
        """Store a batch.

        Returns:
            The runs for which that was done, and those which somebody has locked just now.
        """
        (alone,) = batch if len(batch) == 1 else (None,)
        if alone is not None and alone.outcome is not None:
            crash_point("write.before_commit")
            async with self.database.reading() as work:
                await self._finish(work, alone, owner=self.process_id)
            stored = {alone.live.held.id} if alone.finished else set[UUID]()
        else:
            stored = await self._store_all(batch)
        if len(stored) == len(batch):
            return stored, set()
        missing = {share.live.held.id: share.live.held.attempt for share in batch}
        async with self.database.reading() as work:
            held = await work.leases.still_held(
                list(missing.keys() - stored), owner=self.process_id
            )
        return stored, {id_ for id_, attempt in held.items() if missing[id_] == attempt}

    async def _store_all(self, batch: Sequence[_Share]) -> set[UUID]:
        """Store a batch in one transaction; return the runs for which that was done."""
        told = [
            RunEvents(
                share.live.held.id,
                share.live.held.attempt,
                # The last events of a run go into its message, without having been rows.
                () if share.outcome else share.events,
            )
            for share in batch
        ]
        ending = [share for share in batch if share.outcome is not None]
        crash_point("write.before_commit")
        # A statement alone is a transaction of its own, two round trips shorter.
        opened = self.database.transaction() if ending else self.database.reading()
        async with opened as work:
            stored = await work.run_events.write(told, owner=self.process_id)
            for share in ending:
                if share.live.held.id in stored:
                    await self._finish(work, share)
        return stored

    async def _finish(self, work: UnitOfWork, share: _Share, *, owner: UUID | None = None) -> None:
        held, answer, outcome = share.live.held, share.live.answer, share.outcome
        assert outcome is not None, "only what has ended is finished"
        share.finished = await work.runs.finish(
            held.id,
            attempt=held.attempt,
            outcome=answer.folded_into(outcome),
            title_job_id=new_id(),
            owner=owner,
        )

    async def _fail(self, share: _Share) -> None:
        """End a run whose answer cannot be stored with what is stored of it."""
        held = share.live.held
        try:
            async with self.turn, self.database.transaction() as work:
                locked = await work.runs.lock(held.id, user_id=held.user_id)
                if locked.status is RunStatus.RUNNING and locked.attempt == held.attempt:
                    await end_as_stored(work, locked, _NOT_STORABLE)
        except TertuliaError as error:
            log.warning("run left to whoever takes it over", run_id=str(held.id), code=error.code)
        share.live.lose()
        self.feeds.forget(held.id)
        self.notifier.stored([held.id])

    def _to_be_told(self, batch: Sequence[_Share], stored: set[UUID]) -> list[UUID]:
        """Return of which runs other processes are told: those that they follow, and each end."""
        ended = [share.live.held.id for share in batch if share.finished is not None]
        return [*ended, *self.watched.among(stored.difference(ended))]

    def _show(self, share: _Share, stored: set[UUID], undecided: set[UUID]) -> None:
        live = share.live
        if live.held.id in undecided:
            self._postponed[live] = share.events
            self.heard(live)
            return
        if live.held.id not in stored:
            live.lose()
            self.feeds.look(live.held.id)
            return
        finished = share.finished
        end = RunEnded(live.answer.seq + 1, finished.run) if finished else None
        if share.events:
            live.shown = share.events[-1].seq
        self.feeds.publish(live.held.id, share.events, end)
        if finished is not None:
            live.ended.set()
            if finished.another_waits:
                self.notifier.claimable()
            self.notifier.run_changed("run.ended", live.held)
