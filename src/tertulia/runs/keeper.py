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
from tertulia.domain.runs import EventKind, RunError, RunEvent
from tertulia.runs.answer import Answer
from tertulia.runs.executor import Executor
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.leases import HeldRun
from tertulia.storage.unit_of_work import UnitOfWork
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
        """Give every run of this process to the others."""
        self._is_claiming = False
        held = list(self.executor.live)
        await self.executor.hand_over(patience_s=patience_s)
        if held:
            async with self.database.reading() as work:
                await work.leases.release(held, owner=self.process_id)
            self.notifier.claimable()
            await self.notifier.flush()

    async def _rest(self) -> None:
        try:
            # Not all replicas at the same moment.
            pause_s = _TICK_S * random.uniform(0.8, 1.2)  # noqa: S311  jitter, no secret
            await asyncio.wait_for(self._wake.wait(), pause_s)
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
        async with self.database.transaction() as work:
            expired, started = await work.leases.claim(
                owner=self.process_id, lease=LEASE, limit=limit
            )
            answers = [await self._answer_so_far(work, held) for held in expired]
        if expired:
            crash_point("takeover.claimed")
        for held, answer in zip(expired, answers, strict=True):
            log.info("run taken over", run_id=str(held.id), attempt=held.attempt)
            self._take_over(held, answer)
        for held in started:
            self.executor.begin(held)
        self._tell(started)

    async def _answer_so_far(self, work: UnitOfWork, held: HeldRun) -> Answer:
        answer = Answer.of(await work.run_events.all(held.id))
        exhausted = held.attempt > held.max_attempts
        if exhausted or answer.is_empty or self._can_continue(held, answer):
            return answer
        seq = answer.seq + 1
        await work.run_events.restart(held.id, seq=seq, attempt=held.attempt)
        answer.add(RunEvent(seq, EventKind.RESTART, {"attempt": held.attempt}))
        return answer

    def _can_continue(self, held: HeldRun, answer: Answer) -> bool:
        return answer.is_plain_text and self.executor.models.continues_prefix(held.model_type)

    def _take_over(self, held: HeldRun, answer: Answer) -> None:
        self.notifier.stored([held.id])
        if held.attempt <= held.max_attempts:
            self.executor.begin(held, answer)
            return
        message = f"The server failed {held.max_attempts} times while answering; it gives up"
        self.executor.give_up(held, answer, RunError("attempts_exhausted", message))

    def _tell(self, started: Sequence[HeldRun]) -> None:
        for held in started:
            self.notifier.changed(
                "run.started",
                user_id=held.user_id,
                conversation_id=held.conversation_id,
                message_id=held.message_id,
                run_id=held.id,
            )
