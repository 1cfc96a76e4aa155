"""How followers learn that there is more: one feed for each run that somebody follows here.

A feed keeps the newest events, so that followers who keep up cost no query; everybody else reads
PostgreSQL, in pages. Nobody has a queue of their own: a slow reader is a number, not a backlog.
Runs executed here publish into their feed; for the others this process reads on, once for all
followers, when a notice comes or a second has passed.
"""

import asyncio
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from tertulia.domain.runs import RunEvent
from tertulia.runs.live import RunEnded

_TAIL_EVENTS = 64
_TAIL_CHARS = 65_536


@dataclass(slots=True)
class Feed:
    """The newest events of a run, and a bell."""

    run_id: UUID
    followers: int = 0
    is_announced: bool = False
    """Whether other processes have been told that the run is followed here."""
    ended: RunEnded | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, whenever there may be more. Take it before you look."""
    latest: int | None = None
    """The number of the newest event known to be stored; None while nobody has looked."""
    _tail: deque[RunEvent] = field(default_factory=deque[RunEvent])
    _tail_chars: int = 0

    def since(self, seq: int) -> Sequence[RunEvent] | None:
        """Return the events after number `seq`; None if only the database can tell."""
        if self.latest is None:
            return None
        if seq >= self.latest:
            return []
        tail = self._tail
        if tail and tail[0].seq <= seq + 1 and seq < tail[-1].seq:
            # They have no holes, and who keeps up asks for the last few.
            return [tail[at] for at in range(seq - tail[-1].seq, 0)]
        return None

    def push(self, events: Sequence[RunEvent], ended: RunEnded | None) -> None:
        """Take in what was stored, and ring the bell.

        What is known already is passed over. After a gap (another process had the run meanwhile,
        or a follower has read further than this feed) the tail begins anew, for it has no holes.
        """
        last = self._tail[-1].seq if self._tail else 0
        news = [event for event in events if event.seq > last]
        if news and self._tail and news[0].seq != last + 1:
            self._forget_tail()
        for event in news:
            self._tail.append(event)
            self._tail_chars += _size(event)
        while len(self._tail) > _TAIL_EVENTS or self._tail_chars > _TAIL_CHARS:
            self._tail_chars -= _size(self._tail.popleft())
        if news:
            self.saw(news[-1].seq)
        if ended is not None:
            self.ended = ended
        self.ring()

    def saw(self, seq: int) -> None:
        """Everything up to number `seq` is known to be stored."""
        if self.latest is None or seq > self.latest:
            self.latest = seq

    def is_ahead_of(self, seq: int) -> bool:
        """Whether events after number `seq` are known to be stored."""
        return self.latest is not None and seq < self.latest

    def forget(self) -> None:
        """Let every follower look in the database: the run has ended, or moved."""
        self._forget_tail()
        self.latest = None
        self.ring()

    def ring(self) -> None:
        """Wake every follower."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    def _forget_tail(self) -> None:
        self._tail.clear()
        self._tail_chars = 0


@dataclass(slots=True)
class Feeds:
    """The feeds of all runs that are followed in this process."""

    is_draining: bool = False
    """Followers are told to go on elsewhere."""
    to_look_at: asyncio.Event = field(default_factory=asyncio.Event)
    _feeds: dict[UUID, Feed] = field(default_factory=dict[UUID, Feed])
    _stale: set[UUID] = field(default_factory=set[UUID])

    @contextmanager
    def followed(self, run_id: UUID) -> Generator[Feed]:
        """Keep a feed for as long as the block runs."""
        feed = self._feeds.setdefault(run_id, Feed(run_id))
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers:
                self._feeds.pop(run_id, None)

    def publish(self, run_id: UUID, events: Sequence[RunEvent], ended: RunEnded | None) -> None:
        """Show what was just stored to those who follow."""
        feed = self._feeds.get(run_id)
        if feed is not None:
            feed.push(events, ended)

    def forget(self, run_id: UUID) -> None:
        """Let all who follow a run look in the database: it has come here from elsewhere."""
        feed = self._feeds.get(run_id)
        if feed is not None:
            feed.forget()

    def look(self, run_id: UUID) -> None:
        """There may be something new about a run in the database."""
        if run_id in self._feeds:
            self._stale.add(run_id)
            self.to_look_at.set()

    def look_at_all(self) -> None:
        """Notices may have been missed."""
        self._stale.update(self._feeds)
        if self._stale:
            self.to_look_at.set()

    def open(self) -> list[Feed]:
        """Return the feeds of runs that have not ended, as far as is known."""
        return [feed for feed in self._feeds.values() if feed.ended is None]

    def take_stale(self) -> list[Feed]:
        """Return the feeds to look at, once."""
        stale, self._stale = self._stale, set()
        self.to_look_at.clear()
        return [feed for run_id in stale if (feed := self._feeds.get(run_id)) is not None]

    def drain(self) -> None:
        """Tell every follower to go on elsewhere."""
        self.is_draining = True
        for feed in self._feeds.values():
            feed.ring()


def _size(event: RunEvent) -> int:
    return sum(len(value) for value in event.data.values() if isinstance(value, str))
