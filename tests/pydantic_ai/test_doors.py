"""What agents wrote, and what then happens to it through other doors."""

import asyncio
from uuid import UUID, uuid5

import asyncpg
import pytest
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import ConversationConflict
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    SystemPromptPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.tools import DeferredToolRequests

from tertulia.conversations.changes import ConversationChange
from tertulia.domain.conversations import Role
from tertulia.pydantic_ai import PostgresConversationStore
from tertulia.storage.database import Database
from tertulia.storage.notices import Listener, Notice
from tests.conversations.running import AnsweredConversation
from tests.pydantic_ai.native import Native, loaded, record_of
from tests.pydantic_ai.saying import NOON, answers, asks, talk, text_of


class TestWhatAgentsWrote:
    async def test_is_a_conversation_like_any_other(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        conversation = Conversation(messages=talk(2))
        stored = await postgres_store.save(conversation)
        shown = await native.only()
        assert str(shown.id) == conversation.conversation_id
        assert (shown.title, shown.message_count) == ("question 0", 4)
        messages = await native.read()
        assert [str(each.id) for each in messages] == [each.id for each in stored]
        assert [each.role for each in messages] == [Role.USER, Role.ASSISTANT] * 2
        assert await native.texts() == [text_of(each) for each in conversation.messages]

    async def test_a_name_leads_where_the_same_name_of_a_client_leads(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        await postgres_store.save(Conversation(conversation_id="chat-1", messages=talk(1)))
        shown = await native.only()
        assert shown.id == uuid5(native.user_id, "chat-1")
        assert (await loaded(postgres_store, shown.id)).messages == talk(1)

    async def test_what_others_add_is_a_conflict(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        conversation = Conversation(messages=talk(1))
        await postgres_store.save(conversation)
        await native.say(UUID(conversation.conversation_id), "Me too")
        conversation.messages.append(asks("lost"))
        with pytest.raises(ConversationConflict):
            await postgres_store.save(conversation)
        with pytest.raises(ConversationConflict):
            await postgres_store.delete_record(
                conversation.conversation_id, expected_revision=conversation.revision or ""
            )
        again = await loaded(postgres_store, conversation.conversation_id)
        assert text_of(again.messages[-1]) == "Me too"
        again.messages.append(asks("kept"))
        await postgres_store.save(again)
        assert (await native.texts())[-2:] == ["Me too", "kept"]

    async def test_a_new_title_is_none(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        conversation = Conversation(messages=talk(1))
        await postgres_store.save(conversation)
        await native.service.update(
            UUID(conversation.conversation_id),
            user_id=native.user_id,
            change=ConversationChange(title="Soups", is_archived=True),
        )
        await postgres_store.save(conversation)

    async def test_it_follows_the_head(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        asked = DeferredToolRequests(calls=[ToolCallPart("look", "{}", "call-1")])
        conversation = Conversation(messages=talk(2), deferred_tool_requests=asked)
        await postgres_store.save(conversation)
        messages = await native.read()
        await native.service.update(
            UUID(conversation.conversation_id),
            user_id=native.user_id,
            change=ConversationChange(head_id=messages[1].id),
        )
        now = await loaded(postgres_store, conversation.conversation_id)
        assert now.messages == talk(1)
        assert now.deferred_tool_requests is None
        assert now.revision != conversation.revision

    async def test_a_correction_is_read_and_a_fork_keeps_what_it_was(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        conversation = Conversation(conversation_id="c", messages=talk(2))
        await postgres_store.save(conversation)
        await postgres_store.fork("c", new_conversation_id="d")
        first = (await native.read(uuid5(native.user_id, "c")))[0]
        await native.correct(first, "Corrected")
        now = await loaded(postgres_store, "c")
        assert [text_of(each) for each in now.messages] == [
            "Corrected",
            "answer 0",
            "question 1",
            "answer 1",
        ]
        assert now.messages[1:] == talk(2)[1:]
        assert (await loaded(postgres_store, "d")).messages == talk(2)
        fork_first = (await native.read(uuid5(native.user_id, "d")))[0]
        await native.correct(fork_first, "Otherwise")
        assert text_of((await loaded(postgres_store, "c")).messages[0]) == "Corrected"
        assert text_of((await loaded(postgres_store, "d")).messages[0]) == "Otherwise"
        # Nothing of it is lost by who had loaded it before.
        conversation.messages.append(asks("on"))
        await postgres_store.save(conversation)
        assert await native.texts(uuid5(native.user_id, "c")) == [
            "Corrected",
            "answer 0",
            "question 1",
            "answer 1",
            "on",
        ]

    async def test_a_correction_of_one_of_its_speakers(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        message = ModelRequest(
            [
                SystemPromptPart("You are a cook.", timestamp=NOON),
                UserPromptPart("Soup?", timestamp=NOON),
            ],
            timestamp=NOON,
            instructions="Be brief.",
        )
        await postgres_store.save(Conversation(conversation_id="c", messages=[message]))
        system, question = await native.read()
        await native.correct(question, "Salad?")
        (now,) = (await loaded(postgres_store, "c")).messages
        assert isinstance(now, ModelRequest)
        assert [type(each) for each in now.parts] == [SystemPromptPart, UserPromptPart]
        assert [each.content for each in now.parts if hasattr(each, "content")] == [  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]
            "You are a cook.",
            "Salad?",
        ]
        assert now.instructions == "Be brief."
        # Whoever corrects it, it is a user's word now.
        await native.correct(system, "Obey me.")
        (now,) = (await loaded(postgres_store, "c")).messages
        assert [type(each) for each in now.parts] == [UserPromptPart, UserPromptPart]

    @pytest.mark.parametrize("gone", [0, 1, 2])
    async def test_a_deletion_takes_what_was_kept_of_it(
        self,
        postgres_store: PostgresConversationStore,
        native: Native,
        database: Database,
        gone: int,
    ) -> None:
        spoken: list[ModelMessage] = [
            ModelRequest(
                [
                    SystemPromptPart("first", timestamp=NOON),
                    UserPromptPart("second", timestamp=NOON),
                    SystemPromptPart("third", timestamp=NOON),
                ],
                timestamp=NOON,
            ),
            answers("so"),
        ]
        conversation = Conversation(conversation_id="c", messages=spoken)
        await postgres_store.save(conversation)
        message = (await native.read())[gone]
        await native.delete(message)
        now = await loaded(postgres_store, "c")
        assert len(now.messages) == 2
        left = [part for part in spoken[0].parts if getattr(part, "content", "") != message.content]
        assert list(now.messages[0].parts) == left
        assert now.messages[1] == spoken[1]
        assert now.revision != conversation.revision
        async with database.reading() as work:
            history = await work.agents.history(
                str(message.id), user_id=native.user_id, conversation_id=None
            )
        assert history == []

    async def test_a_branch_that_lost_its_end_ends_before_it(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        conversation = Conversation(conversation_id="c", messages=talk(2))
        stored = await postgres_store.save(conversation)
        last = (await native.read())[-1]
        branched = await postgres_store.branch("c", at=1, expected_revision=conversation.revision)
        assert (await record_of(postgres_store, "c")).branches == [stored[3].id]
        await native.delete(last)
        now = await record_of(postgres_store, "c")
        assert now.branches == [stored[2].id]
        with pytest.raises(ConversationConflict):
            await postgres_store.save(branched)
        back = await postgres_store.branch(
            "c", from_entry=stored[2].id, expected_revision=now.revision
        )
        assert back.messages == talk(2)[:3]

    async def test_going_on_from_the_middle_of_a_message_with_many_speakers(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        message = ModelRequest(
            [
                SystemPromptPart("You are a cook.", timestamp=NOON),
                UserPromptPart("Soup?", timestamp=NOON),
            ],
            timestamp=NOON,
        )
        await postgres_store.save(Conversation(conversation_id="c", messages=[message]))
        system = (await native.read())[0]
        await native.say(system.conversation_id, "Salad?", parent_id=system.id)
        now = await postgres_store.load_entries("c")
        assert now is not None
        assert now[0].id == str(system.id)
        assert now[0].message.parts == message.parts[:1]
        assert text_of(now[1].message) == "Salad?"
        fork = await postgres_store.fork("c", at=1)
        assert await postgres_store.load_entries(fork.conversation_id) == now[:1]

    async def test_nothing_stays_of_a_deleted_conversation(
        self, postgres_store: PostgresConversationStore, native: Native, dsn: str
    ) -> None:
        await postgres_store.save(Conversation(conversation_id="c", messages=talk(2)))
        await postgres_store.save(Conversation(conversation_id="d", messages=talk(2)))
        await native.service.delete(uuid5(native.user_id, "c"), user_id=native.user_id)
        await postgres_store.delete("d")
        connection = await asyncpg.connect(dsn)
        for table in ("agent_conversations", "agent_messages", "messages", "conversations"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608  one of four
        await connection.close()

    async def test_who_listens_is_told(
        self, postgres_store: PostgresConversationStore, dsn: str
    ) -> None:
        heard: list[str] = []
        ready = asyncio.Event()
        ended = asyncio.Event()

        def hear(notice: Notice) -> None:
            heard.append(notice["what"])
            if notice["what"] == "conversation.deleted":
                ended.set()

        listening = asyncio.ensure_future(Listener(dsn, hear, ready.set).run())
        async with asyncio.timeout(30):
            await ready.wait()
            await postgres_store.save(Conversation(conversation_id="c", messages=talk(1)))
            await postgres_store.delete("c")
            await ended.wait()
        listening.cancel()
        assert heard == ["conversation.created", "message.created", "conversation.deleted"]


class TestRuns:
    async def test_nothing_is_saved_while_one_writes(
        self, postgres_store: PostgresConversationStore, database: Database
    ) -> None:
        talk = await AnsweredConversation.begin(database)
        store = postgres_store.for_user(talk.user_id)
        early = await loaded(store, talk.id)
        assert early.messages[-1].parts == []
        early.messages.append(asks("now"))
        with pytest.raises(ConversationConflict):
            await store.save(early)
        await talk.end()
        with pytest.raises(ConversationConflict):
            await store.save(early)
        late = await loaded(store, talk.id)
        assert text_of(late.messages[-1]) == "because"
        late.messages.append(asks("now"))
        await store.save(late)

    async def test_one_that_writes_goes_with_its_conversation(
        self, postgres_store: PostgresConversationStore, database: Database
    ) -> None:
        talk = await AnsweredConversation.begin(database)
        store = postgres_store.for_user(talk.user_id)
        await store.delete(str(talk.id))
        assert await store.list_conversations() == []
