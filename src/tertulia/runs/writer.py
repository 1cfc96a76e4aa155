"""The event writer: durable before visible, at the price of one commit for all runs.

Each process has one. While it commits a batch, everything its runs say gathers for the next; when
the commit is done, followers are told. So an event that somebody saw survives `kill -9`, under
load batches grow by themselves, and PostgreSQL sees tens of commits a second, not one a token.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog

from tertulia.domain.errors import Unavailable
from tertulia.domain.ids import new_id
from tertulia.domain.runs import RunEvent
from tertulia.runs.feeds import Feeds
from tertulia.runs.live import LiveRun, RunEnded
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.run_events import RunEvents
from tertulia.storage.repositories.runs import Finished, Outcome
from tertulia.storage.unit_of_work import UnitOfWork
from tertulia.telemetry.crash_points import crash_point

_INTERVAL_S = 0.02
"""Between the beginnings of two commits: at most fifty a second, however many streams."""
_RETRY_S = 0.25
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
    _dirty: set[LiveRun] = field(default_factory=set[LiveRun])
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _stored: asyncio.Event = field(default_factory=asyncio.Event)
    _is_writing: bool = False

    def heard(self, live: LiveRun) -> None:
        """The run has said something, or ended: store it soon."""
        self._dirty.add(live)
        self._wake.set()

    async def room(self, live: LiveRun) -> None:
        """Wait until the run may say more."""
        while live.waiting_chars > _ROOM_CHARS and not live.is_lost:
            await self._stored.wait()

    async def flush(self) -> None:
        """Wait until everything said before this call is stored or lost."""
        while self._dirty or self._is_writing:
            await self._stored.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            began = time.monotonic()
            await self._write_batch()
            await asyncio.sleep(max(0.0, began + _INTERVAL_S - time.monotonic()))

    async def _write_batch(self) -> None:
        self._wake.clear()
        dirty, self._dirty = self._dirty, set()
        batch = [
            _Share(live, live.take_events(), live.outcome) for live in dirty if not live.is_lost
        ]
        self._is_writing = True
        try:
            await self._store_and_show(batch)
        finally:
            self._is_writing = False
            stored, self._stored = self._stored, asyncio.Event()
            stored.set()

    async def _store_and_show(self, batch: Sequence[_Share]) -> None:
        """Store the batch however long the database is away: nobody has seen any of it."""
        while batch:
            try:
                held = await self._store(batch)
            except Unavailable as error:
                log.warning("events wait for the database", runs=len(batch), code=error.code)
                await asyncio.sleep(_RETRY_S)
            except Exception:
                # One run says what cannot be stored. Alone it fails alone.
                if len(batch) == 1:
                    log.exception("a run cannot be stored", run_id=str(batch[0].live.held.id))
                    self._show(batch[0], is_held=False)
                    return
                for share in batch:
                    await self._store_and_show([share])
                return
            else:
                crash_point("write.committed")
                for share in batch:
                    self._show(share, is_held=share.live.held.id in held)
                self.notifier.stored(share.live.held.id for share in batch)
                crash_point("write.shown")
                return

    async def _store(self, batch: Sequence[_Share]) -> set[UUID]:
        speaking = [
            RunEvents(share.live.held.id, share.live.held.attempt, share.events)
            for share in batch
            if share.outcome is None
        ]
        ending = [share for share in batch if share.outcome is not None]
        crash_point("write.before_commit")
        if not ending:
            async with self.database.reading() as work:
                return await work.run_events.write(speaking, owner=self.process_id)
        async with self.database.transaction() as work:
            held = await work.run_events.write(speaking, owner=self.process_id)
            for share in ending:
                if await self._finish(work, share):
                    held.add(share.live.held.id)
            await work.run_events.delete([share.live.held.id for share in ending])
            return held

    async def _finish(self, work: UnitOfWork, share: _Share) -> bool:
        held, answer, outcome = share.live.held, share.live.answer, share.outcome
        assert outcome is not None, "only what has ended is finished"
        share.finished = await work.runs.finish(
            held.id,
            attempt=held.attempt,
            outcome=replace(
                outcome,
                parts=answer.parts,
                restart_seq=answer.restart_seq,
                restart_attempt=answer.restart_attempt,
                marks=answer.marks,
            ),
            title_job_id=new_id(),
        )
        return share.finished is not None

    def _show(self, share: _Share, *, is_held: bool) -> None:
        live = share.live
        if not is_held:
            live.lose()
            self.feeds.look(live.held.id)
            return
        finished = share.finished
        end = RunEnded(live.answer.seq + 1, finished.run) if finished else None
        self.feeds.publish(live.held.id, share.events, end)
        if finished is not None:
            live.ended.set()
            if finished.another_waits:
                self.notifier.claimable()
            self.notifier.changed(
                "run.ended",
                user_id=live.held.user_id,
                conversation_id=live.held.conversation_id,
                message_id=live.held.message_id,
                run_id=live.held.id,
            )
