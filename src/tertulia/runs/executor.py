"""Executing runs: ask the model, pass on what it says, say how it went."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from tertulia.domain.conversations import NewMessage
from tertulia.domain.errors import TertuliaError, Unavailable
from tertulia.domain.models import ProviderFailed
from tertulia.domain.runs import RunError, RunStatus
from tertulia.domain.tools import ToolServerFailed
from tertulia.runs.live import LiveRun
from tertulia.runs.tool_loop import ToolLoop
from tertulia.runs.writer import EventWriter
from tertulia.storage.answer import Answer
from tertulia.storage.database import Database
from tertulia.storage.repositories.leases import HeldRun
from tertulia.telemetry.crash_points import crash_point
from tertulia.telemetry.tasks import TaskSet

_DATABASE_RETRY_S = 0.5
_PAGE_EVENTS = 500

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Executor:
    """Executes the runs that this process holds."""

    database: Database
    loop: ToolLoop
    writer: EventWriter
    tasks: TaskSet
    deadline_s: float
    """From the first start of a run, through all its attempts."""
    max_runs: int
    """At once in this process."""
    _live: dict[UUID, LiveRun] = field(default_factory=dict[UUID, LiveRun])

    @property
    def live(self) -> dict[UUID, LiveRun]:
        """The runs that this process executes now."""
        return self._live

    def tokens(self, run_id: UUID) -> int:
        """About how many tokens were received for a run; 0 if it is not executed here."""
        live = self._live.get(run_id)
        return 0 if live is None else live.tokens

    @property
    def room(self) -> int:
        """How many more runs this process takes on."""
        return max(0, self.max_runs - len(self._live))

    def executes(self, run_id: UUID) -> bool:
        """Whether the run is executed here, so that its events are published here."""
        live = self._live.get(run_id)
        return live is not None and not live.is_lost

    def shown(self, run_id: UUID, user_id: UUID) -> int | None:
        """Return the number of the last stored event of the user's run that goes on here.

        None where only the database can tell.
        """
        live = self._live.get(run_id)
        if live is None or live.held.user_id != user_id or live.ended.is_set():
            return None
        return live.shown

    def begin(self, held: HeldRun, branch: Sequence[NewMessage] | None = None) -> None:
        """Execute a run that this process holds, from the start; see `LiveRun.branch`."""
        self._spawn(LiveRun(held, Answer(), shown=0, branch=branch), self._converse)

    def take_over(self, held: HeldRun) -> None:
        """Execute a run that this process holds, from what another has stored of its answer."""
        # Its followers here know only what its former process said of it.
        self.writer.feeds.forget(held.id)
        self._spawn(LiveRun(held, Answer()), self._resume)

    def lose(self, run_id: UUID) -> None:
        """Somebody else ended the run or took it over: stop its model at once."""
        live = self._live.get(run_id)
        if live is not None and live.outcome is None:
            live.lose()

    def can_be_continued(self, live: LiveRun) -> bool:
        """Whether another process can go on where this one stops."""
        return self.loop.can_be_continued(live)

    async def let_go(self, runs: Collection[LiveRun], *, patience_s: float) -> None:
        """Stop executing the runs, which get `patience_s` to end first; store what they said."""
        tasks = [live.task for live in runs if live.task is not None]
        if tasks and patience_s:
            await asyncio.wait(tasks, timeout=patience_s)
        for live in runs:
            if live.outcome is None and live.task is not None:
                live.task.cancel()
        await self.writer.flush(runs)

    def _spawn(self, live: LiveRun, act: Callable[[LiveRun], Awaitable[None]]) -> None:
        run_id = live.held.id
        earlier = self._live.get(run_id)
        if earlier is not None:
            # This process slept through its own lease and has now taken over from itself.
            earlier.lose()
        self._live[run_id] = live
        live.task = self.tasks.spawn(self._execute(live, act), name=f"run {run_id}")

    async def _execute(self, live: LiveRun, act: Callable[[LiveRun], Awaitable[None]]) -> None:
        held = live.held
        try:
            await act(live)
            # The end is the writer's to store; until then the run is still ours.
            self.writer.heard(live)
            await live.ended.wait()
        finally:
            if self._live.get(held.id) is live:
                del self._live[held.id]
            if live.is_lost and live.received:
                self.tasks.spawn(self._settle(live), name=f"settle {held.id}")

    async def _resume(self, live: LiveRun) -> None:
        held = live.held
        live.resume(await self._stored(held))
        if held.attempt > held.max_attempts:
            message = f"The server failed {held.max_attempts} times while answering; it gives up"
            error = RunError("attempts_exhausted", message)
            live.end(RunStatus.FAILED, error=error, status_code=500)
            return
        if held.age_s >= self.deadline_s:
            # It may not begin again, which would give up what is stored.
            self._end_late(live)
            return
        self.loop.take_up(live)
        await self._converse(live)

    async def _stored(self, held: HeldRun) -> Answer:
        """Return what earlier attempts have stored. Nobody can add to it: the attempt is ours."""
        answer = Answer()
        while True:
            try:
                async with self.database.reading() as work:
                    events = await work.run_events.list(
                        held.id, user_id=held.user_id, after=answer.seq, limit=_PAGE_EVENTS
                    )
            except Unavailable:
                await asyncio.sleep(_DATABASE_RETRY_S)
                continue
            for event in events:
                answer.add(event)
            if len(events) < _PAGE_EVENTS:
                return answer

    async def _converse(self, live: LiveRun) -> None:
        if live.held.settings.get("prepares"):
            live.end(RunStatus.COMPLETED)
            return
        deadline = asyncio.timeout(max(0.0, self.deadline_s - live.held.age_s))
        try:
            async with deadline:
                await self.loop.answer(live)
            crash_point("run.model_done")
            live.end(RunStatus.COMPLETED)
        except ProviderFailed as failure:
            live.end(
                RunStatus.FAILED,
                error=RunError(failure.code, failure.message),
                status_code=failure.status,
            )
        except ToolServerFailed as failure:
            error = RunError("mcp_server_unreachable", str(failure))
            live.end(RunStatus.FAILED, error=error, status_code=502)
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                self._end_late(live)
                return
            log.exception("run failed", run_id=str(live.held.id))
            code = error.code if isinstance(error, TertuliaError) else "internal_error"
            message = error.detail if isinstance(error, TertuliaError) else "An internal error"
            live.end(RunStatus.FAILED, error=RunError(code, message), status_code=500)

    def _end_late(self, live: LiveRun) -> None:
        message = f"The answer was not finished within {self.deadline_s:.0f} seconds"
        late = RunError("deadline_exceeded", message)
        live.end(RunStatus.FAILED, error=late, status_code=504)

    async def _settle(self, live: LiveRun) -> None:
        """Note how much was received of an answer that somebody else ended."""
        try:
            async with self.database.reading() as work:
                await work.runs.settle(
                    live.held.id,
                    attempt=live.held.attempt,
                    response_tokens=live.tokens,
                    first_token_ms=live.first_token_ms,
                )
        except TertuliaError as error:
            log.warning("received tokens not noted", run_id=str(live.held.id), code=error.code)
