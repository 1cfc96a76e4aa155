"""Whatever comes in whatever order, no follower misses an event, sees one twice, or spins."""

from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tertulia.domain.ids import new_id
from tertulia.domain.runs import RunEvent
from tertulia.runs.feeds import Feed, Feeds
from tests.storage.running import texts


@dataclass
class World:
    """A feed, the database it tells of, and followers that may stand anywhere."""

    feed: Feed = field(default_factory=lambda: Feed(new_id()))
    stored: int = 0
    told: int = 0
    followers: list[int] = field(default_factory=lambda: [0, 0, 0])

    def store(self, count: int) -> None:
        self.stored += count

    def tell(self) -> None:
        """Push what was stored since the last push, as the process that executes the run does."""
        news = self.stored - self.told
        self.feed.push(texts(*("x" * news), after=self.told), None)
        self.told = self.stored

    def move(self) -> None:
        """Whoever executed the run died before it told of what it had stored."""
        self.told = self.stored

    def refresh(self) -> None:
        """Read on from what the feed knows, as a process that only follows does."""
        if self.feed.latest is not None:
            news = self.stored - self.feed.latest
            self.feed.push(texts(*("x" * news), after=self.feed.latest), None)

    def repeat(self) -> None:
        """Push old events again: a reading that was overtaken."""
        self.feed.push(texts("x", "x", after=max(0, self.stored - 4))[: self.stored], None)

    def step(self, number: int, page: int) -> None:
        """Let a follower read on once; it must get exactly what comes next, or wait rightly."""
        seq = self.followers[number]
        known = self.feed.since(seq)
        if known is None:
            known = texts(*("x" * (self.stored - seq)), after=seq)[:page]
            if len(known) < page:
                self.feed.saw(known[-1].seq if known else self.stored)
        assert [event.seq for event in known] == list(range(seq + 1, seq + 1 + len(known)))
        if not known:
            assert not self.feed.is_ahead_of(seq), "it would ask again without a pause"
        self.followers[number] = seq + len(known)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), st.integers(1, 4) | st.integers(250, 400)),
        st.tuples(st.just("tell"), st.just(0)),
        st.tuples(st.just("move"), st.just(0)),
        st.tuples(st.just("refresh"), st.just(0)),
        st.tuples(st.just("repeat"), st.just(0)),
        st.tuples(st.just("forget"), st.just(0)),
        st.tuples(st.just("step"), st.integers(0, 2)),
        st.tuples(st.just("page"), st.integers(0, 2)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(_STEPS)
def test_followers_see_every_event_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    world = World()
    for step, number in steps:
        match step:
            case "store":
                world.store(number)
            case "tell":
                world.tell()
            case "move":
                world.move()
            case "refresh":
                world.refresh()
            case "repeat":
                world.repeat()
            case "forget":
                world.feed.forget()
            case "page":
                world.step(number, 3)
            case _:
                world.step(number, 500)


def test_after_a_gap_the_database_is_asked() -> None:
    feed = Feed(new_id())
    feed.push(texts("1", "2", "3"), None)
    feed.push(texts("6", after=5), None)
    assert feed.since(3) is None
    assert feed.since(5) == texts("6", after=5)


def test_what_a_reader_found_beyond_the_tail_is_not_skipped_by_the_others() -> None:
    feed = Feed(new_id())
    feed.push(texts("1", "2", "3"), None)
    feed.saw(5)
    assert feed.since(3) is None
    feed.push(texts("6", after=5), None)
    assert feed.since(3) is None


def test_only_the_newest_events_are_kept() -> None:
    feed = Feed(new_id())
    feed.push(texts(*("x" * 1_000)), None)
    assert feed.since(0) is None
    assert feed.since(990) == texts(*("x" * 10), after=990)
    feed.push([RunEvent(1_001, texts("x")[0].kind, {"delta": "x" * 100_000})], None)
    assert feed.since(999) is None


async def test_whoever_takes_the_bell_before_looking_hears_it() -> None:
    feed = Feed(new_id())
    bell = feed.changed
    feed.push(texts("1"), None)
    assert bell.is_set()
    assert not feed.changed.is_set()


@pytest.fixture
def run_id() -> UUID:
    return new_id()


def test_a_feed_lives_as_long_as_somebody_follows(run_id: UUID) -> None:
    feeds = Feeds()
    with feeds.followed(run_id) as one:
        with feeds.followed(run_id) as two:
            assert one is two
        feeds.look(run_id)
        assert feeds.take_stale() == [one]
        assert feeds.take_stale() == []
    feeds.look(run_id)
    assert feeds.take_stale() == []
    with feeds.followed(run_id) as three:
        assert three is not one
