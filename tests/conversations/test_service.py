import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tertulia.conversations.changes import ConversationChange
from tertulia.conversations.service import ConversationService
from tertulia.domain.conversations import Role
from tertulia.domain.errors import (
    ConversationNotFound,
    IdempotencyKeyReused,
    MessageNotFound,
    NotFound,
    RunActive,
)
from tertulia.domain.idempotency import IdempotentRequest
from tertulia.storage.database import Database, DatabaseLimits
from tertulia.storage.notices import Listener, Notice, Notifier
from tests.conversations.running import AnsweredConversation
from tests.storage.rows import MODEL, new_user


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and what they do with their conversations."""

    service: ConversationService
    id: UUID

    async def converse(self, *contents: str) -> UUID:
        made = await self.service.create(user_id=self.id)
        for content in contents:
            await self.say(made.thing.id, content)
        return made.thing.id

    async def say(self, conversation_id: UUID, content: str, parent: UUID | None = None) -> UUID:
        made = await self.service.messages.append(
            conversation_id, user_id=self.id, role=Role.USER, content=content, parent_id=parent
        )
        return made.thing.id

    async def read(self, conversation_id: UUID) -> list[str]:
        page = await self.service.messages.list(
            conversation_id, user_id=self.id, tip="head", limit=100
        )
        return [message.content for message in page.items]


@pytest.fixture
async def owner(conversations: ConversationService, database: Database) -> Owner:
    return Owner(conversations, await new_user(database))


@pytest.fixture
async def raw(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


class TestCreate:
    async def test_takes_the_default_model_unless_one_is_named(self, owner: Owner) -> None:
        plain = await owner.service.create(user_id=owner.id)
        named = await owner.service.create(user_id=owner.id, model_type="a:b")
        assert (plain.thing.model_type, named.thing.model_type) == (MODEL, "a:b")

    async def test_with_a_key_of_another_request_makes_nothing(self, owner: Owner) -> None:
        await owner.service.create(user_id=owner.id, idempotent=IdempotentRequest("k", b"1"))
        with pytest.raises(IdempotencyKeyReused):
            await owner.service.create(user_id=owner.id, idempotent=IdempotentRequest("k", b"2"))
        assert len((await owner.service.list(user_id=owner.id, limit=9)).items) == 1


class TestWhileAnswered:
    async def test_takes_no_message(
        self, conversations: ConversationService, answered: AnsweredConversation
    ) -> None:
        owner = Owner(conversations, answered.user_id)
        with pytest.raises(RunActive):
            await owner.say(answered.id, "and?")
        with pytest.raises(RunActive):
            await owner.say(answered.id, "aside", answered.greeting_id)
        await answered.end()
        await owner.say(answered.id, "and?")
        assert await owner.read(answered.id) == ["hello", "why?", "because", "and?"]

    async def test_does_not_switch_its_head(
        self, conversations: ConversationService, answered: AnsweredConversation
    ) -> None:
        switch = ConversationChange(head_id=answered.greeting_id)
        with pytest.raises(RunActive):
            await conversations.update(answered.id, user_id=answered.user_id, change=switch)
        await answered.end()
        switched = await conversations.update(answered.id, user_id=answered.user_id, change=switch)
        assert switched.head_id == answered.greeting_id

    async def test_may_be_titled_and_archived(
        self, conversations: ConversationService, answered: AnsweredConversation
    ) -> None:
        change = ConversationChange(title="t", is_archived=True)
        changed = await conversations.update(answered.id, user_id=answered.user_id, change=change)
        assert (changed.title, changed.is_archived) == ("t", True)

    async def test_lets_all_but_the_answer_be_corrected(
        self, conversations: ConversationService, answered: AnsweredConversation
    ) -> None:
        correct = conversations.messages.correct
        user_id, answer_id = answered.user_id, answered.run.message_id
        with pytest.raises(RunActive):
            await correct(answered.id, answer_id, user_id=user_id, content="x")
        await correct(answered.id, answered.question_id, user_id=user_id, content="why not?")
        await answered.end()
        corrected = await correct(answered.id, answer_id, user_id=user_id, content="so")
        assert corrected.content == "so"
        assert corrected.generation is not None
        assert corrected.generation.is_success

    async def test_keeps_the_answer_and_its_question(
        self, conversations: ConversationService, answered: AnsweredConversation
    ) -> None:
        delete, user_id = conversations.messages.delete, answered.user_id
        for id_ in (answered.run.message_id, answered.question_id):
            with pytest.raises(RunActive):
                await delete(answered.id, id_, user_id=user_id)
        await delete(answered.id, answered.greeting_id, user_id=user_id)
        await answered.end()
        await delete(answered.id, answered.question_id, user_id=user_id)
        assert await Owner(conversations, user_id).read(answered.id) == ["because"]

    async def test_can_be_deleted_whole(
        self,
        conversations: ConversationService,
        answered: AnsweredConversation,
        raw: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        await conversations.delete(answered.id, user_id=answered.user_id)
        assert await raw.fetchval("SELECT count(*) FROM runs") == 0
        assert await raw.fetchval("SELECT count(*) FROM messages") == 0


class TestCorrectedAnswer:
    async def test_makes_every_follower_start_again(
        self,
        conversations: ConversationService,
        answered: AnsweredConversation,
        database: Database,
    ) -> None:
        await answered.end("because")
        await conversations.messages.correct(
            answered.id, answered.run.message_id, user_id=answered.user_id, content="so it is"
        )
        async with database.reading() as work:
            replay = await work.runs.find_replay(answered.run.id, user_id=answered.run.user_id)
        assert replay is not None
        # The events were text and done, 1 and 2; a cursor on either is behind the restart.
        assert (replay.restart_seq, replay.restart_attempt) == (3, 1)
        assert replay.marks == (len("so it is"),)


class TestRaces:
    """Of each pair one may lose with a 404 or 409; the tree stays whole."""

    async def test_leave_no_orphans_and_no_other_error(
        self, owner: Owner, raw: "asyncpg.Connection[asyncpg.Record]"
    ) -> None:
        for number in range(40):
            await self._race(owner, random.Random(f"{random.random()} {number}"))
        orphans = """
            SELECT 'message' FROM messages m WHERE parent_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM messages WHERE id = m.parent_id
                    AND conversation_id = m.conversation_id AND seq < m.seq)
            UNION ALL SELECT 'head' FROM conversations c WHERE head_id IS NOT NULL AND NOT EXISTS (
                SELECT FROM messages WHERE id = c.head_id AND conversation_id = c.id)
            UNION ALL SELECT 'count' FROM conversations c WHERE message_count <> (
                SELECT count(*) FROM messages WHERE conversation_id = c.id)
            UNION ALL SELECT 'conversation' FROM messages WHERE NOT EXISTS (
                SELECT FROM conversations WHERE id = conversation_id)
        """
        assert await raw.fetch(orphans) == []

    async def _race(self, owner: Owner, chance: random.Random) -> None:
        messages = owner.service.messages
        id_ = await owner.converse()
        ids = [await owner.say(id_, "1"), await owner.say(id_, "2"), await owner.say(id_, "3")]
        switch = ConversationChange(head_id=chance.choice(ids))
        racers: list[Callable[[], Awaitable[Any]]] = [
            lambda: messages.delete(id_, ids[1], user_id=owner.id),
            lambda: messages.delete(id_, ids[2], user_id=owner.id),
            lambda: messages.delete(id_, ids[1], user_id=owner.id),
            lambda: messages.correct(id_, ids[1], user_id=owner.id, content="two"),
            lambda: owner.say(id_, "2b", ids[1]),
            lambda: owner.say(id_, "4"),
            lambda: owner.service.update(id_, user_id=owner.id, change=switch),
            lambda: owner.read(id_),
            lambda: owner.service.delete(id_, user_id=owner.id),
        ]
        chosen = chance.sample(racers, 4)
        outcomes = await asyncio.gather(*(race() for race in chosen), return_exceptions=True)
        for outcome in outcomes:
            assert not isinstance(outcome, BaseException) or isinstance(outcome, NotFound), outcome

    async def test_of_a_delete_and_an_end_of_a_run_leave_nothing(
        self,
        conversations: ConversationService,
        database: Database,
        raw: "asyncpg.Connection[asyncpg.Record]",
    ) -> None:
        for _ in range(8):
            answered = await AnsweredConversation.begin(database)
            await asyncio.gather(
                conversations.delete(answered.id, user_id=answered.user_id),
                _end_unless_gone(answered),
            )
        assert await raw.fetchval("SELECT count(*) FROM messages") == 0
        assert await raw.fetchval("SELECT count(*) FROM runs") == 0


async def _end_unless_gone(answered: AnsweredConversation) -> None:
    await asyncio.sleep(random.uniform(0, 0.004))
    await answered.end()


class TestNotices:
    async def test_say_what_happened_after_it_is_stored(
        self, dsn: str, owner: Owner, notifier: Notifier
    ) -> None:
        heard: list[Notice] = []
        listening = asyncio.Event()
        listener = Listener(dsn, heard.append, listening.set)
        running = [asyncio.ensure_future(each.run()) for each in (listener, notifier)]
        async with asyncio.timeout(10):
            await listening.wait()
            id_ = await owner.converse()
            message_id = await owner.say(id_, "hello")
            await owner.service.messages.correct(id_, message_id, user_id=owner.id, content="x")
            await owner.service.messages.delete(id_, message_id, user_id=owner.id)
            await owner.service.update(id_, user_id=owner.id, change=ConversationChange(title="t"))
            # What happened in a conversation that is gone is not told any more.
            while not heard or heard[-1].get("what") != "conversation.updated":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await owner.service.delete(id_, user_id=owner.id)
            while heard[-1].get("what") != "conversation.deleted":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert [notice["what"] for notice in heard] == [
            "conversation.created",
            "message.created",
            "message.updated",
            "message.deleted",
            "conversation.updated",
            "conversation.deleted",
        ]
        assert {notice["user_id"] for notice in heard} == {str(owner.id)}
        assert {notice["conversation_id"] for notice in heard} == {str(id_)}
        assert [notice.get("message_id") for notice in heard[1:4]] == [str(message_id)] * 3

    async def test_name_the_runs_that_a_delete_stops(
        self, dsn: str, answered: AnsweredConversation, conversations: ConversationService
    ) -> None:
        heard: list[Notice] = []
        listening = asyncio.Event()
        listener = Listener(dsn, heard.append, listening.set)
        notifier = conversations.notifier
        running = [asyncio.ensure_future(each.run()) for each in (listener, notifier)]
        async with asyncio.timeout(10):
            await listening.wait()
            await conversations.delete(answered.id, user_id=answered.user_id)
            while len(heard) < 2:  # noqa: ASYNC110  the listener calls, it does not wake
                await asyncio.sleep(0.01)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        assert {"kind": "stopped", "run_ids": [str(answered.run.id)]} in heard


class TestStatements:
    """How often PostgreSQL is asked, BEGIN and COMMIT not counted."""

    @pytest.fixture
    async def counted(self, dsn: str) -> AsyncIterator[tuple[Owner, list[str]]]:
        database = await Database.open(dsn, DatabaseLimits(pool_size=1))
        owner = Owner(
            ConversationService(database, Notifier(database), MODEL), await new_user(database)
        )
        asked: list[str] = []
        async with database.reading() as work:
            driver = work.connection.driver
            driver.add_query_logger(lambda query: asked.append(query.query))
        yield owner, asked
        await database.close()

    async def test_do_not_grow_with_what_is_there(self, counted: tuple[Owner, list[str]]) -> None:
        owner, asked = counted
        messages = owner.service.messages
        costs: list[list[int]] = []
        for history in (2, 30):
            id_ = await owner.converse(*(["x"] * history))
            for _ in range(history):
                await owner.converse("y")
            first = (await owner.service.messages.list(id_, user_id=owner.id, limit=1)).items[0].id
            steps: list[Callable[[], Awaitable[Any]]] = [
                lambda: owner.service.list(user_id=owner.id, limit=200),
                lambda id_=id_: owner.service.get(id_, user_id=owner.id),
                lambda id_=id_: messages.list(id_, user_id=owner.id, limit=200),
                lambda id_=id_: messages.list(id_, user_id=owner.id, limit=200, tip="head"),
                lambda id_=id_: owner.say(id_, "more"),
                lambda id_=id_, first=first: owner.say(id_, "fork", first),
                lambda id_=id_, first=first: messages.delete(id_, first, user_id=owner.id),
                lambda id_=id_: owner.service.delete(id_, user_id=owner.id),
            ]
            costs.append([await self._count(step, asked) for step in steps])
        assert costs[0] == costs[1] == [1, 1, 1, 2, 1, 3, 4, 6]

    async def test_are_two_for_a_list_that_has_nothing_in_it(
        self, counted: tuple[Owner, list[str]]
    ) -> None:
        owner, asked = counted
        id_ = await owner.converse()
        page = owner.service.messages.list
        assert await self._count(lambda: page(id_, user_id=owner.id, limit=9), asked) == 2

    async def _count(self, step: Callable[[], Awaitable[Any]], asked: list[str]) -> int:
        await asyncio.sleep(0)
        asked.clear()
        await step()
        await asyncio.sleep(0)
        return sum(not query.startswith(("BEGIN", "COMMIT")) for query in asked)


class TestOwnership:
    async def test_is_asked_for_by_every_method(self, owner: Owner, database: Database) -> None:
        id_, stranger = await owner.converse("1"), await new_user(database)
        page = await owner.service.messages.list(id_, user_id=owner.id, limit=1)
        message_id = page.items[0].id
        service, messages = owner.service, owner.service.messages
        title = ConversationChange(title="t")
        attempts: list[Callable[[], Awaitable[Any]]] = [
            lambda: service.get(id_, user_id=stranger),
            lambda: service.update(id_, user_id=stranger, change=title),
            lambda: service.delete(id_, user_id=stranger),
            lambda: messages.list(id_, user_id=stranger, limit=1),
            lambda: messages.list(id_, user_id=stranger, limit=1, tip="head"),
            lambda: messages.list(id_, user_id=stranger, limit=1, tip=message_id),
            lambda: Owner(service, stranger).say(id_, "x"),
            lambda: messages.get(id_, message_id, user_id=stranger),
            lambda: messages.correct(id_, message_id, user_id=stranger, content="x"),
            lambda: messages.delete(id_, message_id, user_id=stranger),
        ]
        for attempt in attempts:
            with pytest.raises((ConversationNotFound, MessageNotFound)):
                await attempt()
        assert await owner.read(id_) == ["1"]
