"""What happens in a user's conversations, told to whoever listens here."""

import asyncio
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tertulia.storage.notices import Notice

_BACKLOG = 256


@dataclass(slots=True, eq=False)
class Listening:
    """One listener's backlog. When it is full, changes are dropped and that is said."""

    missed: bool = False
    _queue: asyncio.Queue[dict[str, Any]] = field(
        default_factory=lambda: asyncio.Queue[dict[str, Any]](_BACKLOG)
    )

    def put(self, change: dict[str, Any]) -> None:
        """Take a change in, or note that one was missed."""
        try:
            self._queue.put_nowait(change)
        except asyncio.QueueFull:
            self.missed = True

    def miss(self) -> None:
        """Note that a change may have been missed."""
        self.missed = False
        self.put({"type": "missed"})

    async def next(self) -> dict[str, Any]:
        """Wait for the next change; `{"type": "missed"}` after a gap."""
        if self.missed and self._queue.empty():
            self.missed = False
            return {"type": "missed"}
        return await self._queue.get()


@dataclass(frozen=True, slots=True)
class Changes:
    """All listeners of this process, by user."""

    _listening: dict[UUID, set[Listening]] = field(
        default_factory=lambda: defaultdict[UUID, set[Listening]](set)
    )

    @contextmanager
    def of(self, user_id: UUID) -> Generator[Listening]:
        """Listen to what happens in a user's conversations for as long as the block runs."""
        listening = Listening()
        self._listening[user_id].add(listening)
        try:
            yield listening
        finally:
            listeners = self._listening[user_id]
            listeners.discard(listening)
            if not listeners:
                del self._listening[user_id]

    def miss(self) -> None:
        """Notices may have been missed: everybody is to look for themselves."""
        for listeners in self._listening.values():
            for listening in listeners:
                listening.miss()

    def publish(self, notice: Notice) -> None:
        """Tell the listeners of the user whom a `changed` notice names."""
        listeners = self._listening.get(UUID(notice["user_id"]))
        if not listeners:
            return
        ids = {name: value for name, value in notice.items() if name.endswith("_id")}
        del ids["user_id"]
        for listening in listeners:
            listening.put({"type": "changed", "what": notice["what"], **ids})
