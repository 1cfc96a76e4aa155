import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from tertulia.domain.conversations import Message, Role
from tertulia.domain.errors import MessageNotFound
from tertulia.domain.ids import new_id
from tertulia.domain.parts import Part, ReasoningPart, TextPart, ToolCallPart
from tertulia.storage.database import Database, DatabaseLimits
from tertulia.storage.repositories.messages import ROOT, Listed
from tests.storage.rows import long_value_blocks, new_conversation, new_user, noise


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation of one user, and the few steps that the tests are made of."""

    database: Database
    user_id: UUID
    id: UUID

    async def append(
        self,
        content: str = "…",
        *,
        parent_id: UUID | None = None,
        at_head: bool = True,
        role: Role = Role.USER,
        parts: Sequence[Part] | None = None,
    ) -> Message:
        async with self.database.transaction() as work:
            locked = await work.conversations.lock(self.id, user_id=self.user_id)
            parent = (
                work.messages.head(locked)
                if at_head
                else await work.messages.place(locked, parent_id)
            )
            message, _ = await work.messages.append(
                locked, new_id(), parent=parent, role=role, parts=parts or [TextPart(content)]
            )
        return message

    async def under(self, parent_id: UUID | None, content: str = "…") -> Message:
        return await self.append(content, parent_id=parent_id, at_head=False)

    async def switch(self, head_id: UUID | None) -> None:
        async with self.database.transaction() as work:
            locked = await work.conversations.lock(self.id, user_id=self.user_id)
            place = await work.messages.place(locked, head_id)
            await work.conversations.set_head(
                locked, head_id=head_id, seq=place.seq, branch=place.branch, is_tip=place.is_tip
            )

    async def delete(self, id_: UUID) -> UUID | None:
        async with self.database.transaction() as work:
            locked = await work.conversations.lock(self.id, user_id=self.user_id)
            place = await work.messages.place(locked, id_)
            return await work.messages.delete(locked, place)

    async def all(self, *, limit: int = 1000, newest_first: bool = False) -> list[Message]:
        """Read every page of `limit`."""
        found: list[Message] = []
        while True:
            async with self.database.reading() as work:
                page = await work.messages.list(
                    self.id,
                    user_id=self.user_id,
                    limit=limit,
                    after_seq=found[-1].seq if found else None,
                    newest_first=newest_first,
                )
            found += page
            if page.is_last:
                return found

    async def branch(
        self, tip_id: UUID, *, limit: int = 1000, newest_first: bool = False
    ) -> list[Message]:
        """Read every page of `limit`."""
        found: list[Message] = []
        while True:
            async with self.database.reading() as work:
                page = await work.messages.list_branch(
                    self.id,
                    tip_id=tip_id,
                    user_id=self.user_id,
                    limit=limit,
                    after_seq=found[-1].seq if found else None,
                    newest_first=newest_first,
                )
            found += page
            if page.is_last:
                return found


@pytest.fixture
async def talk(database: Database) -> Talk:
    user_id = await new_user(database)
    conversation = await new_conversation(database, user_id)
    return Talk(database, user_id, conversation.id)


def ids(messages: Sequence[Message]) -> list[UUID]:
    return [message.id for message in messages]


class TestAppend:
    async def test_numbers_messages_from_one(self, talk: Talk) -> None:
        assert [(await talk.append()).seq for _ in range(4)] == [1, 2, 3, 4]

    async def test_makes_the_message_the_head_and_counts_it(self, talk: Talk) -> None:
        message = await talk.append()
        async with talk.database.reading() as work:
            conversation = await work.conversations.get(talk.id, user_id=talk.user_id)
        assert conversation.head_id == message.id
        assert conversation.message_count == 1

    async def test_returns_the_conversation_as_the_next_lock_finds_it(self, talk: Talk) -> None:
        first = await talk.append()
        await talk.append()
        async with talk.database.transaction() as work:
            locked = await work.conversations.lock(talk.id, user_id=talk.user_id)
            place = await work.messages.place(locked, first.id)
            _, told = await work.messages.append(
                locked, new_id(), parent=place, role=Role.USER, parts=[TextPart("fork")]
            )
        async with talk.database.transaction() as work:
            assert await work.conversations.lock(talk.id, user_id=talk.user_id) == told

    async def test_keeps_parts_that_are_more_than_text(self, talk: Talk) -> None:
        parts = [ReasoningPart("hm"), TextPart("a"), ToolCallPart("c1", "add", "{}"), TextPart("b")]
        message = await talk.append(parts=parts, role=Role.ASSISTANT)
        assert message.parts == tuple(parts)
        assert message.content == "ab"
        assert (await talk.all())[0] == message

    async def test_of_a_message_without_parts_has_no_parts(self, talk: Talk) -> None:
        async with talk.database.transaction() as work:
            locked = await work.conversations.lock(talk.id, user_id=talk.user_id)
            message, _ = await work.messages.append(
                locked, new_id(), parent=ROOT, role=Role.ASSISTANT, parts=[]
            )
        assert message.parts == ()
        assert message.content == ""

    @pytest.mark.parametrize(
        "text",
        ["𝄞 👩‍👩‍👧 \u2028\u0085\x0b\x0c\x1c\r\ufeff", "'; DROP TABLE messages; --", ":id $1 %s"],
    )
    async def test_keeps_text_to_the_character(self, talk: Talk, text: str) -> None:
        assert (await talk.append(text)).content == text
        assert (await talk.all())[0].content == text

    async def test_under_a_message_that_is_gone_is_refused(self, talk: Talk) -> None:
        message = await talk.append()
        await talk.delete(message.id)
        with pytest.raises(MessageNotFound):
            await talk.under(message.id)

    async def test_under_another_conversations_message_is_refused(self, talk: Talk) -> None:
        other = await new_conversation(talk.database, talk.user_id)
        message = await Talk(talk.database, talk.user_id, other.id).append()
        with pytest.raises(MessageNotFound):
            await talk.under(message.id)


class TestBytes:
    """A page ends before it has more than was asked for; its first message is there in any case."""

    SIZES = (10, 300, 300, 500, 1, 5_000, 1, 2)

    @pytest.mark.parametrize(
        ("newest_first", "expected"),
        [
            (False, [[10, 300], [300], [500, 1], [5_000], [1, 2]]),
            (True, [[2, 1], [5_000], [1, 500], [300, 300], [10]]),
        ],
    )
    async def test_end_a_page_early(
        self, talk: Talk, newest_first: bool, expected: list[list[int]]
    ) -> None:
        stored = [await talk.append("x" * (size % 2) + "é" * (size // 2)) for size in self.SIZES]
        for tip_id in (None, stored[-1].id):
            pages = await _pages(talk, tip_id, content_bytes=600, newest_first=newest_first)
            assert [[len(each.content.encode()) for each in page] for page in pages] == expected

    async def test_count_what_is_not_text_by_itself(self, talk: Talk) -> None:
        parts = [ReasoningPart(noise(500)), TextPart("x")]
        stored = [await talk.append(parts=parts, role=Role.ASSISTANT) for _ in range(4)]
        for tip_id in (None, stored[-1].id):
            pages = await _pages(talk, tip_id, parts_bytes=1_500)
            assert [len(page) for page in pages] == [2, 2]

    async def test_that_do_not_fit_are_not_read(self, dsn: str) -> None:
        database = await Database.open(dsn, DatabaseLimits(pool_size=1))
        user_id = await new_user(database)
        talk = Talk(database, user_id, (await new_conversation(database, user_id)).id)
        stored = [await talk.append(noise(50_000)) for _ in range(20)]
        for tip_id in (None, stored[-1].id):
            blocks = [
                await _blocks_read(talk, tip_id, content_bytes=size_bytes)
                for size_bytes in (0, 100_000, 2_000_000)
            ]
            assert blocks[0] > 0
            assert [round(each / blocks[0]) for each in blocks] == [1, 2, 20]
        await database.close()


async def _page(talk: Talk, tip_id: UUID | None, **wanted: Any) -> Listed:  # noqa: ANN401  as they are
    async with talk.database.reading() as work:
        if tip_id is None:
            return await work.messages.list(talk.id, user_id=talk.user_id, limit=99, **wanted)
        return await work.messages.list_branch(
            talk.id, tip_id=tip_id, user_id=talk.user_id, limit=99, **wanted
        )


async def _pages(talk: Talk, tip_id: UUID | None, **wanted: Any) -> list[Listed]:  # noqa: ANN401  as they are
    pages = [await _page(talk, tip_id, **wanted)]
    while not pages[-1].is_last:
        pages.append(await _page(talk, tip_id, after_seq=pages[-1][-1].seq, **wanted))
    return pages


async def _blocks_read(talk: Talk, tip_id: UUID | None, *, content_bytes: int) -> int:
    """Return how many blocks of long values PostgreSQL read for a page."""
    before = await long_value_blocks(talk.database)
    await _page(talk, tip_id, content_bytes=content_bytes)
    return await long_value_blocks(talk.database) - before


class TestOrder:
    async def test_of_concurrent_writers_has_no_gap_and_readers_never_see_one(
        self, talk: Talk
    ) -> None:
        writers, each = 8, 12
        seen: list[int] = []

        async def write() -> None:
            for _ in range(each):
                await talk.append()

        async def watch() -> None:
            while len(seen) < writers * each:
                async with talk.database.reading() as work:
                    page = await work.messages.list(
                        talk.id, user_id=talk.user_id, limit=200, after_seq=len(seen)
                    )
                seen.extend(message.seq for message in page)
                assert seen == list(range(1, len(seen) + 1))

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(watch())
            for _ in range(writers):
                tasks.create_task(write())
        assert seen == list(range(1, writers * each + 1))


@dataclass(slots=True)
class Tree:
    """What the conversation should be: parents by name, in the order of their making."""

    parents: dict[UUID, UUID | None] = field(default_factory=dict[UUID, UUID | None])
    head: UUID | None = None

    def add(self, id_: UUID, parent: UUID | None) -> None:
        self.parents[id_] = parent
        self.head = id_

    def remove(self, id_: UUID) -> None:
        heir = self.parents.pop(id_)
        for child, parent in self.parents.items():
            if parent == id_:
                self.parents[child] = heir
        if self.head == id_:
            self.head = heir

    def way(self, id_: UUID | None) -> list[UUID]:
        found: list[UUID] = []
        while id_ is not None:
            found.append(id_)
            id_ = self.parents[id_]
        return found[::-1]


class TestTree:
    @pytest.mark.parametrize("number", range(6))
    async def test_is_the_one_that_a_plain_tree_says_it_is(self, talk: Talk, number: int) -> None:
        # pytest-randomly seeds `random` alike for every test, and prints its seed.
        chance, tree = random.Random(f"{random.random()} {number}"), Tree()
        for _ in range(60):
            await _step(chance, talk, tree)
        await _compare(chance, talk, tree)

    async def test_keeps_forks_below_deleted_messages_in_their_place(self, talk: Talk) -> None:
        first, tip = await talk.append("1"), await talk.append("2")
        below = await talk.append("3")
        fork = await talk.under(tip.id, "3b")
        await talk.delete(tip.id)
        await talk.delete(first.id)
        assert ids(await talk.branch(fork.id)) == [fork.id]
        assert ids(await talk.branch(below.id)) == [below.id]
        assert {message.parent_id for message in await talk.all()} == {None}

    async def test_can_begin_again_before_its_first_message(self, talk: Talk) -> None:
        await talk.append("as it was")
        again = await talk.under(None, "another beginning")
        answer = await talk.append("answer")
        assert again.parent_id is None
        assert ids(await talk.branch(answer.id)) == [again.id, answer.id]

    async def test_a_message_after_an_earlier_head_starts_a_branch(self, talk: Talk) -> None:
        first = await talk.append("1")
        left = await talk.append("2")
        await talk.switch(first.id)
        right = await talk.append("2b")
        assert ids(await talk.branch(left.id)) == [first.id, left.id]
        assert ids(await talk.branch(right.id)) == [first.id, right.id]


async def _step(chance: random.Random, talk: Talk, tree: Tree) -> None:
    anywhere: list[UUID | None] = [None, *tree.parents]
    match chance.choices(["go on", "fork", "switch", "delete"], weights=[5, 3, 2, 3])[0]:
        case "go on":
            message = await talk.append()
            assert message.parent_id == tree.head
            tree.add(message.id, message.parent_id)
        case "fork":
            message = await talk.under(parent := chance.choice(anywhere))
            assert message.parent_id == parent
            tree.add(message.id, parent)
        case "switch":
            await talk.switch(head := chance.choice(anywhere))
            tree.head = head
        case _ if tree.parents:
            gone = chance.choice(list(tree.parents))
            was_head = tree.head == gone
            heir = await talk.delete(gone)
            tree.remove(gone)
            if was_head:
                assert heir == tree.head
                await talk.switch(heir)
        case _:
            pass


async def _compare(chance: random.Random, talk: Talk, tree: Tree) -> None:
    async with talk.database.reading() as work:
        conversation = await work.conversations.get(talk.id, user_id=talk.user_id)
    assert conversation.head_id == tree.head
    assert conversation.message_count == len(tree.parents)
    stored = await talk.all(limit=chance.randint(1, 9))
    assert {message.id: message.parent_id for message in stored} == tree.parents
    assert ids(stored) == list(tree.parents)
    assert ids(await talk.all(limit=7, newest_first=True)) == ids(stored)[::-1]
    for tip in tree.parents:
        limit = chance.randint(1, 9)
        assert ids(await talk.branch(tip, limit=limit)) == tree.way(tip)
        assert ids(await talk.branch(tip, limit=limit, newest_first=True)) == tree.way(tip)[::-1]
