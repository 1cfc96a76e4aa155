"""Keeping runs alive: leases extended, runs of dead processes taken over, turns given.

All by the database's clock. A process that dies stops extending; six seconds later any other takes
its runs over, raises their attempt, and from then on nothing that the old one might still write
matches a row.
"""

import asyncio
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog

from tertulia.domain.errors import TertuliaError
from tertulia.runs.executor import Executor
from tertulia.runs.live import LiveRun
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.leases import HeldRun
from tertulia.telemetry.crash_points import crash_point

LEASE = timedelta(seconds=6)
_TICK_S = 1.0
_EXTEND_EVERY_S = 1.5
"""Every second tick; of a lease's six seconds two attempts may fail."""
_LONG_AWAY_S = 3.0
"""Half a lease. If this process could not reach the database for so long, then perhaps no other
could, and their leases have ended as ours has while they live: they get to extend them first."""
_CLAIM_LIMIT = 50

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Keeper:
    """One process's part in seeing to it that every run ends."""

    database: Database
    executor: Executor
    notifier: Notifier
    process_id: UUID
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _extended_at: float = -math.inf
    _seen_at: float = field(default_factory=time.monotonic)
    """When the database last answered."""
    _claims_from: float = -math.inf
    _is_claiming: bool = True
    _claims: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it claims."""

    def wake(self) -> None:
        """There may be something to claim now."""
        self._wake.set()

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            try:
                await self.look_round()
            except TertuliaError as error:
                log.warning("leases wait for the database", code=error.code)
            except Exception:
                log.exception("keeping runs failed")
            await self._rest()

    async def look_round(self) -> None:
        """Extend what this process holds, and claim what nobody holds.

        Raises:
            TertuliaError: The database is away.
        """
        # First extend, then claim: a run whose lease ended because this process slept, or could
        # not reach the database, is still its own unless another has claimed it.
        if time.monotonic() >= self._extended_at + _EXTEND_EVERY_S:
            await self._extend()
        if self._is_claiming and time.monotonic() >= self._claims_from:
            await self._claim()

    async def hand_over(self, *, patience_s: float) -> None:
        """Give every run of this process to the others.

        Those that others can go on with at once; the rest get `patience_s` to end here first.
        """
        self.stop_claiming()
        async with self._claims:
            pass  # A claim that had begun before is done, and its runs are among the live ones.
        live = list(self.executor.live.values())
        for continued, wait_s in ((True, 0.0), (False, patience_s)):
            runs = [each for each in live if self.executor.can_be_continued(each) is continued]
            await self.executor.let_go(runs, patience_s=wait_s)
            await self._release(runs)

    def stop_claiming(self) -> None:
        """Take nothing more on: this process is about to stop."""
        self._is_claiming = False

    async def _release(self, runs: Sequence[LiveRun]) -> None:
        if runs:
            ids = [live.held.id for live in runs]
            async with self.database.reading() as work:
                await work.leases.release(ids, owner=self.process_id)
            self.notifier.claimable()
            await self.notifier.flush()

    async def _rest(self) -> None:
        try:
            # Not all replicas at the same moment.
            async with asyncio.timeout(_TICK_S * random.uniform(0.8, 1.2)):  # noqa: S311  jitter, no secret
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _extend(self) -> None:
        mine = dict(self.executor.live)
        if mine:
            async with self.executor.writer.turn, self.database.reading() as work:
                kept = await work.leases.extend(list(mine), owner=self.process_id, lease=LEASE)
            for run_id, live in mine.items():
                if kept.get(run_id) != live.held.attempt and live.outcome is None:
                    live.lose()
        else:
            await self.database.check()
        now = time.monotonic()
        if now - self._seen_at > _LONG_AWAY_S:
            self._claims_from = now + _LONG_AWAY_S
        self._extended_at = self._seen_at = now

    async def _claim(self) -> None:
        limit = min(_CLAIM_LIMIT, self.executor.room)
        if limit == 0:
            return
        async with self._claims, self.database.transaction() as work:
            if not self._is_claiming:
                return
            expired, started = await work.leases.claim(
                owner=self.process_id, lease=LEASE, limit=limit
            )
        if expired:
            crash_point("takeover.claimed")
        for held in expired:
            log.info("run taken over", run_id=str(held.id), attempt=held.attempt)
            self.executor.take_over(held)
        for held in started:
            self.executor.begin(held)
        self._tell(started)

    def _tell(self, started: Sequence[HeldRun]) -> None:
        for held in started:
            self.notifier.run_changed("run.started", held)
