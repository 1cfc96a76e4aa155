"""Does the jobs that transactions left behind, each at least once, in whichever process is free.

A job is claimed for a while. If its worker dies, it is due again when that while is over; if it
fails, it is tried again later and later, and given up after `_MAX_ATTEMPTS`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import structlog

from tertulia.domain.errors import TertuliaError, Unavailable
from tertulia.storage.database import Database
from tertulia.storage.repositories.jobs import Job

_LEASE = timedelta(seconds=60)
_TIMEOUT_S = 50.0
"""Less than the lease: a job is never done by two workers at once."""
_AT_ONCE = 4
_POLL_S = 1.0
_MAX_ATTEMPTS = 5
_HOUSEKEEPING_S = 600.0
_SWEEP_LIMIT = 10_000

JobHandler: TypeAlias = Callable[[Job], Awaitable[None]]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class JobWorker:
    """One process's share of the background work."""

    database: Database
    handlers: Mapping[str, JobHandler]
    """By the job's kind."""
    _stops: bool = False

    def stop(self) -> None:
        """Take no more jobs on; those in hand go on until they are cancelled."""
        self._stops = True

    async def run(self) -> None:
        """Work until stopped or cancelled."""
        loop = asyncio.get_running_loop()
        clean_at = loop.time()
        while not self._stops:
            did = 0
            try:
                did = await self._work()
                if loop.time() >= clean_at:
                    await self._clean()
                    clean_at = loop.time() + _HOUSEKEEPING_S
            except TertuliaError as error:
                log.warning("jobs wait for the database", code=error.code)
            except Exception:
                log.exception("working failed")
            if did == 0:
                await asyncio.sleep(_POLL_S)

    async def _work(self) -> int:
        async with self.database.reading() as work:
            jobs = await work.jobs.claim(list(self.handlers), lease=_LEASE, limit=_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(self._do(job))
        return len(jobs)

    async def _do(self, job: Job) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self.handlers[job.kind](job)
            async with self.database.reading() as work:
                await work.jobs.done(job)
        except asyncio.CancelledError:
            # This process is stopping: let another begin at once.
            with suppress(TertuliaError):
                async with self.database.reading() as work:
                    await work.jobs.retry(job, delay=timedelta(0), error="stopped")
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the job is tried again
            await self._failed(job, error)

    async def _failed(self, job: Job, error: Exception) -> None:
        cause = type(error).__name__
        log.warning("job failed", kind=job.kind, attempts=job.attempts, error=cause)
        # If the database is away as well, the job is due again when its lease ends.
        with suppress(Unavailable):
            async with self.database.reading() as work:
                if job.attempts >= _MAX_ATTEMPTS:
                    await work.jobs.done(job)
                else:
                    delay = timedelta(seconds=2.0**job.attempts)
                    await work.jobs.retry(job, delay=delay, error=cause)

    async def _clean(self) -> None:
        async with self.database.reading() as work:
            while await work.idempotency.sweep(limit=_SWEEP_LIMIT) == _SWEEP_LIMIT:
                pass
            while await work.sessions.sweep(limit=_SWEEP_LIMIT) == _SWEEP_LIMIT:
                pass
            while await work.conversations.sweep(limit=_SWEEP_LIMIT) == _SWEEP_LIMIT:
                pass
