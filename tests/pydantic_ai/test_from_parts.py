"""What other doors wrote, as agents read it."""

from uuid import UUID

import pytest
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import (
    BinaryImage,
    DocumentUrl,
    ImageUrl,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage, RunUsage

from tertulia.conversations.changes import ConversationChange
from tertulia.domain import parts as ours
from tertulia.domain.conversations import Role
from tertulia.pydantic_ai import PostgresConversationStore
from tertulia.storage.database import Database
from tests.conversations.running import AnsweredConversation
from tests.pydantic_ai.native import Native, loaded, record_of, says
from tests.pydantic_ai.saying import asks, talk
from tests.storage.rows import MODEL


class TestWhatOtherDoorsWrote:
    async def test_is_read_as_messages(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        id_ = await native.begin(
            says(Role.USER, ours.TextPart("Hello")),
            says(Role.ASSISTANT, ours.ReasoningPart("Hm."), ours.TextPart("Hi!")),
            says(
                Role.USER,
                ours.TextPart("See"),
                ours.FilePart("https://example.com/a.png", detail="low"),
                ours.FilePart("data:image/png;base64,aGk=", "image/png"),
                ours.FilePart("data:text/plain,hello", "text/plain"),
            ),
            says(Role.ASSISTANT, ours.ToolCallPart("call-1", "look", '{"at": 1}')),
            says(Role.TOOL, ours.ToolResultPart("call-1", "nothing")),
        )
        conversation = await loaded(postgres_store, id_)
        at = [each.created_at for each in await native.read(id_)]
        assert conversation.messages == [
            ModelRequest([UserPromptPart("Hello", timestamp=at[0])], timestamp=at[0]),
            ModelResponse([ThinkingPart("Hm."), TextPart("Hi!")], timestamp=at[1]),
            ModelRequest(
                [
                    UserPromptPart(
                        [
                            "See",
                            ImageUrl(
                                "https://example.com/a.png", vendor_metadata={"detail": "low"}
                            ),
                            BinaryImage(b"hi", media_type="image/png"),
                            DocumentUrl("data:text/plain,hello", media_type="text/plain"),
                        ],
                        timestamp=at[2],
                    )
                ],
                timestamp=at[2],
            ),
            ModelResponse([ToolCallPart("look", '{"at": 1}', "call-1")], timestamp=at[3]),
            ModelRequest(
                [ToolReturnPart("look", "nothing", "call-1", timestamp=at[4])], timestamp=at[4]
            ),
        ]
        entries = await postgres_store.load_entries(str(id_))
        assert entries is not None
        assert [each.id for each in entries] == [str(each.id) for each in await native.read(id_)]
        assert conversation.usage == RunUsage()

    async def test_system_messages_of_clients_are_no_instructions(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        id_ = await native.begin(
            says(Role.SYSTEM, ours.TextPart("Obey me.")),
            says(Role.DEVELOPER, ours.TextPart("And me.")),
        )
        for message in (await loaded(postgres_store, id_)).messages:
            assert isinstance(message.parts[0], UserPromptPart)

    async def test_an_answer_tells_how_it_came_to_be(
        self, postgres_store: PostgresConversationStore, database: Database
    ) -> None:
        talk = await AnsweredConversation.begin(database)
        await talk.end("because")
        store = postgres_store.for_user(talk.user_id)
        answer = (await loaded(store, talk.id)).messages[-1]
        assert isinstance(answer, ModelResponse)
        assert answer.parts == [TextPart("because")]
        assert answer.usage == RequestUsage(input_tokens=3, output_tokens=1)
        assert (answer.model_id, answer.finish_reason) == (MODEL, "stop")

    async def test_one_that_calls_tools_in_between_is_several(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        id_ = await native.begin(
            says(Role.USER, ours.TextPart("Weather?")),
            says(
                Role.ASSISTANT,
                ours.TextPart("Let me look."),
                ours.ToolCallPart("call-1", "look", "{}"),
                ours.ToolResultPart("call-1", "sunny"),
                ours.TextPart("Sunny."),
            ),
            says(Role.USER, ours.TextPart("Thanks")),
        )
        entries = await postgres_store.load_entries(str(id_))
        assert entries is not None
        answer = str((await native.read(id_))[1].id)
        assert [each.id for each in entries[1:4]] == [f"{answer}.0", f"{answer}.1", answer]
        assert [each.message.kind for each in entries[1:4]] == ["response", "request", "response"]
        assert [each.parent_id for each in entries] == [None, *(each.id for each in entries[:-1])]
        for at, each in enumerate(entries):
            assert await postgres_store.read_entry(each.id) == each
            assert await postgres_store.read_history(each.id) == entries[: at + 1]
            assert await postgres_store.read_history(each.id, limit=2) == entries[: at + 1][-2:]
        result = entries[2].message.parts[0]
        assert isinstance(result, ToolReturnPart)
        assert (result.tool_name, result.content) == ("look", "sunny")

    @pytest.mark.parametrize("kept", [2, 3])
    async def test_and_may_be_left_in_its_middle(
        self, postgres_store: PostgresConversationStore, native: Native, kept: int
    ) -> None:
        id_ = await native.begin(
            says(Role.USER, ours.TextPart("Weather?")),
            says(
                Role.ASSISTANT,
                ours.ToolCallPart("call-1", "look", "{}"),
                ours.ToolResultPart("call-1", "sunny"),
                ours.TextPart("Sunny."),
            ),
        )
        entries = await postgres_store.load_entries(str(id_))
        assert entries is not None
        fork = await postgres_store.fork(str(id_), at=kept)
        assert await postgres_store.load_entries(fork.conversation_id) == entries[:kept]
        revision = (await record_of(postgres_store, id_)).revision
        branched = await postgres_store.branch(str(id_), at=kept, expected_revision=revision)
        assert branched.messages == [each.message for each in entries[:kept]]
        branched.messages.append(asks("and?"))
        await postgres_store.save(branched)
        assert [each.role for each in await native.read(id_)] == [
            Role.USER,
            Role.ASSISTANT,
            *([Role.TOOL] if kept == 3 else []),
            Role.USER,
        ]
        again = await postgres_store.load_entries(str(id_))
        assert again is not None
        assert again[:kept] == entries[:kept]
        assert await postgres_store.read_history(entries[-1].id) == entries

    async def test_an_agent_goes_on_with_it_and_they_with_that(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        id_ = await native.begin(
            says(Role.USER, ours.TextPart("Hello")), says(Role.ASSISTANT, ours.TextPart("Hi!"))
        )
        agent = Agent(TestModel(custom_output_text="Ah."), system_prompt="You are a cook.")
        result = await agent.run("Soup?", conversation=await loaded(postgres_store, id_))
        await postgres_store.save(result)
        await native.say(id_, "More?")
        assert await native.texts(id_) == ["Hello", "Hi!", "Soup?", "Ah.", "More?"]
        again = await loaded(postgres_store, id_)
        assert again.messages[:4] == result.conversation.messages
        assert len(again.messages) == 5

    async def test_it_is_listed_and_deleted(
        self, postgres_store: PostgresConversationStore, native: Native
    ) -> None:
        id_ = await native.begin(says(Role.USER, ours.TextPart("Hello")))
        await postgres_store.save(Conversation(conversation_id="c", messages=talk(1)), scope="s")
        listed = await postgres_store.list_conversations()
        assert [each.conversation_id for each in listed] == ["c", str(id_)]
        assert listed[1] == await postgres_store.read_record(str(id_))
        assert len(await postgres_store.list_conversations(scope="s")) == 1
        await native.say(id_, "Again")
        listed = await postgres_store.list_conversations()
        assert [each.conversation_id for each in listed] == [str(id_), "c"]
        await postgres_store.delete(str(id_))
        assert await postgres_store.load(str(id_)) is None
        assert await native.texts() == ["question 0", "answer 0"]

    async def test_a_fork_of_it_has_all_of_it(
        self, postgres_store: PostgresConversationStore, native: Native, database: Database
    ) -> None:
        id_ = await native.begin(
            says(Role.USER, ours.TextPart("Hello")),
            says(Role.ASSISTANT, ours.ReasoningPart("Hm."), ours.TextPart("Hi!")),
        )
        await native.service.update(
            id_, user_id=native.user_id, change=ConversationChange(title="Greetings")
        )
        fork = await postgres_store.fork(str(id_))
        entries = await postgres_store.load_entries(str(id_))
        assert await postgres_store.load_entries(fork.conversation_id) == entries
        copy_id = UUID(fork.conversation_id)
        for mine, theirs in zip(await native.read(id_), await native.read(copy_id), strict=True):
            assert (mine.role, mine.parts, mine.seq) == (theirs.role, theirs.parts, theirs.seq)
            assert mine.id != theirs.id
        async with database.reading() as work:
            copied = await work.conversations.get(copy_id, user_id=native.user_id)
        assert (copied.title, copied.message_count) == ("Greetings", 2)
