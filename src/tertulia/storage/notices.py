"""How processes wake each other: LISTEN and NOTIFY.

A notice is a hint and never the truth: everything it says is stored already, and whoever misses one
finds out by looking (followers each second, the keeper of leases each second or two). So notices
are sent after the commit, batched, outside of any transaction: a NOTIFY inside would make all
commits of the database wait for one lock.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from tertulia.domain.runs import Run
from tertulia.storage.database import Database
from tertulia.storage.repositories.leases import HeldRun
from tertulia.storage.statements import statement

CHANNEL = "tertulia"
_PAUSE_S = 0.01
# Before each statement, so that those who are busy send few.
_RUNS_IN_A_NOTICE = 150  # of 39 bytes each; PostgreSQL takes 8,000 bytes.
# What is temporary is told to nobody: who follows its run is told so by the run. What happened in
# a conversation that is gone by now is not told either, but for its end. (Where PostgreSQL sees how
# long the arrays are, it plans anew each time.)
_NOTIFY = statement(
    """
    SELECT pg_notify(:channel, notice.payload)
    FROM unnest((SELECT CAST(:payloads AS text[])), (SELECT CAST(:conversation_ids AS uuid[])),
        (SELECT CAST(:user_ids AS uuid[]))) AS notice (payload, conversation_id, user_id)
    WHERE notice.conversation_id IS NULL OR (
        SELECT c.retention <> 'temporary' FROM conversations c
        WHERE c.id = notice.conversation_id AND c.user_id = notice.user_id
    )
    """
)

log = structlog.get_logger(__name__)

Notice = Mapping[str, Any]
"""Plain data with a `kind`: `stored`, `watched`, `stopped`, `claimable` or `changed`."""

Change = Literal[
    "conversation.created",
    "conversation.updated",
    "conversation.deleted",
    "message.created",
    "message.updated",
    "message.deleted",
    "run.started",
    "run.ended",
]


class _Waiting(NamedTuple):
    """A notice to be sent; one that names a conversation only if that is there, and lasts."""

    payload: str
    conversation_id: UUID | None = None
    user_id: UUID | None = None


@dataclass(slots=True)
class Notifier:
    """Sends notices, all that gather while the last were sent in one statement."""

    database: Database
    _waiting: list[_Waiting] = field(default_factory=list[_Waiting])
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def stored(self, run_ids: Iterable[UUID]) -> None:
        """New events of these runs are stored."""
        self._name_runs("stored", run_ids)

    def watched(self, run_ids: Iterable[UUID]) -> None:
        """These runs are followed in this process, which does not execute them."""
        self._name_runs("watched", run_ids)

    def stopped(self, run_ids: Iterable[UUID]) -> None:
        """These runs were ended, or deleted, by somebody other than who executes them."""
        self._name_runs("stopped", run_ids)

    def claimable(self) -> None:
        """A run waits for a process to execute it."""
        self._send({"kind": "claimable"})

    def changed(
        self,
        what: Change,
        *,
        user_id: UUID,
        conversation_id: UUID,
        message_id: UUID | None = None,
        run_id: UUID | None = None,
    ) -> None:
        """Something happened in a user's conversation; of a temporary one nobody is told.

        But `conversation.deleted` is told as it is: what is gone cannot be asked.
        """
        notice = {
            "kind": "changed",
            "what": what,
            "user_id": str(user_id),
            "conversation_id": str(conversation_id),
        }
        if message_id is not None:
            notice["message_id"] = str(message_id)
        if run_id is not None:
            notice["run_id"] = str(run_id)
        if what == "conversation.deleted":
            self._send(notice)
        else:
            self._send(notice, conversation_id, user_id)

    def run_changed(self, what: Change, run: Run | HeldRun) -> None:
        """The same of a run."""
        self.changed(
            what,
            user_id=run.user_id,
            conversation_id=run.conversation_id,
            message_id=run.message_id,
            run_id=run.id,
        )

    def _name_runs(self, kind: str, run_ids: Iterable[UUID]) -> None:
        ids = [str(run_id) for run_id in run_ids]
        for begin in range(0, len(ids), _RUNS_IN_A_NOTICE):
            self._send({"kind": kind, "run_ids": ids[begin : begin + _RUNS_IN_A_NOTICE]})

    def _send(
        self, notice: Notice, conversation_id: UUID | None = None, user_id: UUID | None = None
    ) -> None:
        payload = json.dumps(notice, separators=(",", ":"))
        self._waiting.append(_Waiting(payload, conversation_id, user_id))
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            # Nobody waits for a notice, and what is noticed is usually in the middle of something.
            await asyncio.sleep(_PAUSE_S)
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send what waits. Never fails; what cannot be sent is lost."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            async with self.database.reading() as work:
                await work.connection.all(
                    _NOTIFY,
                    channel=CHANNEL,
                    payloads=[each.payload for each in waiting],
                    conversation_ids=[each.conversation_id for each in waiting],
                    user_ids=[each.user_id for each in waiting],
                )
        except Exception as error:  # noqa: BLE001  whatever it is, notices are only hints
            log.debug("notices lost", count=len(waiting), error=type(error).__name__)


@dataclass(slots=True)
class Listener:
    """Receives notices on a connection of its own, and connects again whenever it breaks."""

    dsn: str = field(repr=False)
    receive: Callable[[Notice], None]
    """Called in the event loop; must not block."""
    missed: Callable[[], None]
    """Called when notices may have been missed: look for yourself."""
    reconnect_s: float = 0.5
    check_s: float = 5.0

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  whatever it is, connect again
                log.debug("listening stopped", error=type(error).__name__)
            await asyncio.sleep(self.reconnect_s)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self.dsn,
            timeout=2.0,
            command_timeout=3.0,
            server_settings={"application_name": "tertulia-listen"},
        )
        try:
            await connection.add_listener(CHANNEL, self._heard)
            self.missed()
            while True:
                # A connection that was cut without a word looks idle: ask it now and then.
                await asyncio.sleep(self.check_s)
                await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self.receive(json.loads(str(payload)))
