"""Following a run: what is stored, in order, from any cursor, on any replica, at any time."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import structlog

from tertulia.domain.errors import RunNotFound, TertuliaError, Unavailable
from tertulia.domain.runs import RunEvent
from tertulia.runs import replay
from tertulia.runs.feeds import Feed, Feeds
from tertulia.runs.live import RunEnded
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier

_PAGE_EVENTS = 500
_POLL_S = 1.0
"""Notices are hints: without any, followers of runs elsewhere are at most this late."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconnect:
    """This process is stopping: follow the run at another, from the same cursor."""


Followed: TypeAlias = RunEvent | RunEnded | Reconnect


def _nobody_knows(_run_id: UUID, _user_id: UUID) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class Follower:
    """Reads runs for those who follow them."""

    database: Database
    feeds: Feeds
    is_executed_here: Callable[[UUID], bool]
    notifier: Notifier
    shown_here: Callable[[UUID, UUID], int | None] = _nobody_knows
    """Of a run and its user: the last event that is stored, if the run goes on here."""

    async def follow(
        self, run_id: UUID, *, user_id: UUID, after: int, stays: bool = False
    ) -> AsyncGenerator[Followed, None]:
        """Yield the events numbered above `after`, then how the run ended.

        Waits for events as long as the run goes on. Ends early with `Reconnect` when this process
        is stopping, and without a word when the run is deleted.

        Args:
            run_id: Which run.
            user_id: Whose.
            after: The number of the last event that is known.
            stays: For readers that cannot reconnect: never yield `Reconnect`, read on for as long
                as the process lasts.
        """
        with self.feeds.followed(run_id) as feed:
            seq = after
            while True:
                changed = feed.changed
                try:
                    events, ended = await self._since(feed, seq, user_id=user_id)
                except RunNotFound:
                    return
                except Unavailable:
                    # The database is away: the reader keeps what it has, and we try again.
                    if self.feeds.is_draining and not stays:
                        yield Reconnect()
                        return
                    await asyncio.sleep(_POLL_S)
                    continue
                for event in events:
                    yield event
                    seq = event.seq
                if ended is not None:
                    if seq < ended.seq:
                        yield ended
                    return
                if self.feeds.is_draining and not stays:
                    yield Reconnect()
                    return
                if not events and not feed.is_ahead_of(seq):
                    self._announce_once(feed)
                    await changed.wait()

    async def watch(self) -> None:
        """Keep the feeds of runs that are executed elsewhere up to date, until cancelled."""
        loop = asyncio.get_running_loop()
        poll_at = loop.time() + _POLL_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(poll_at):
                    await self.feeds.to_look_at.wait()
            # However many notices come: those about other runs do not stand in for a lost one.
            if loop.time() >= poll_at:
                poll_at = loop.time() + _POLL_S
                self.feeds.look_at_all()
                self._announce(self.feeds.open())
            feeds = [
                feed
                for feed in self.feeds.take_stale()
                if feed.ended is None and not self.is_executed_here(feed.run_id)
            ]
            try:
                await self._refresh(feeds)
            except TertuliaError as error:
                log.debug("feeds not refreshed", code=error.code)
                await asyncio.sleep(_POLL_S)

    async def _since(
        self, feed: Feed, seq: int, *, user_id: UUID
    ) -> tuple[Sequence[RunEvent], RunEnded | None]:
        known = feed.since(seq)
        if known is not None:
            reached = known[-1].seq if known else seq
            is_all = feed.ended is not None and reached >= feed.ended.seq - 1
            if known or is_all or feed.ended is None:
                return known, feed.ended if is_all else None
        shown = self.shown_here(feed.run_id, user_id) if feed.latest is None else None
        if shown is not None and seq >= shown:
            # Who asks for a run follows it from its first moment, in which nothing is to be read.
            feed.saw(shown)
            return [], None
        async with self.database.reading() as work:
            events = await work.run_events.list(
                feed.run_id, user_id=user_id, after=seq, limit=_PAGE_EVENTS
            )
            if events:
                if len(events) < _PAGE_EVENTS:
                    feed.saw(events[-1].seq)
                return events, None
            # In this order: while the run goes on afterwards, its events were still there before.
            latest = await work.run_events.latest(feed.run_id)
            run = await work.runs.get(feed.run_id, user_id=user_id)
            if not run.status.is_terminal:
                feed.saw(latest)
                return [], None
            stored = await work.runs.find_replay(feed.run_id, user_id=user_id)
        if stored is None:
            raise RunNotFound
        rest = list(replay.events_after(stored, seq))
        return rest, RunEnded(replay.last_seq(stored), run)

    def _announce_once(self, feed: Feed) -> None:
        if not feed.is_announced:
            feed.is_announced = True
            self._announce([feed])

    def _announce(self, feeds: Sequence[Feed]) -> None:
        """Let whoever executes these runs know that they are followed here; see `Watched`."""
        elsewhere = [feed.run_id for feed in feeds if not self.is_executed_here(feed.run_id)]
        if elsewhere:
            self.notifier.watched(elsewhere)

    async def _refresh(self, feeds: Sequence[Feed]) -> None:
        known = {feed.run_id: feed.latest for feed in feeds if feed.latest is not None}
        if not known:
            return
        async with self.database.reading() as work:
            found = await work.run_events.list_many(known, limit=_PAGE_EVENTS)
            quiet = [run_id for run_id in known if run_id not in found]
            statuses = await work.runs.statuses(quiet) if quiet else {}
        for feed in feeds:
            events = found.get(feed.run_id)
            if events:
                feed.push(events, None)
                if len(events) == _PAGE_EVENTS:
                    self.feeds.look(feed.run_id)
            elif feed.run_id in known and (
                (status := statuses.get(feed.run_id)) is None or status.is_terminal
            ):
                # Its events are folded, or it is deleted: each follower reads the rest for itself.
                feed.forget()
