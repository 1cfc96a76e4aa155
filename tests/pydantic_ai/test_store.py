"""What `InMemoryConversationStore` does; each test runs on it and on ours."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic_ai import Agent
from pydantic_ai.conversation import Conversation, ConversationTypeAdapter
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ToolCallPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.usage import RunUsage

from tests.pydantic_ai.saying import NOON, answers, asks, entry, record, talk, text_of

ANY_UUID = "3d9ab2a4-2a7e-4460-99b3-ae1e2f501c96"
IDS = ["c", "", "thread/7 — 会话", "0197a3f2-9c1e-7abc-8def-0123456789ab", ANY_UUID, "x" * 900]


async def saved(
    store: ConversationStore,
    id_: str = "c",
    turns: int = 2,
    *,
    scope: str | None = None,
) -> Conversation:
    conversation = Conversation(conversation_id=id_, messages=talk(turns))
    await store.save(conversation, scope=scope)
    return conversation


async def texts(store: ConversationStore, id_: str = "c") -> list[str]:
    loaded = await store.load(id_)
    assert loaded is not None
    return [text_of(message) for message in loaded.messages]


class TestSave:
    @pytest.mark.parametrize("id_", IDS)
    async def test_what_was_saved_is_loaded(self, store: ConversationStore, id_: str) -> None:
        conversation = await saved(store, id_)
        loaded = await store.load(id_)
        assert loaded == conversation
        assert loaded is not None
        assert loaded.new_message_index == 4

    async def test_nothing_is_loaded_that_was_not_saved(self, store: ConversationStore) -> None:
        assert await store.load("c") is None
        assert await store.load_entries("c") is None
        assert await store.read_record("c") is None

    async def test_entries_are_a_chain(self, store: ConversationStore) -> None:
        conversation = Conversation(conversation_id="c", messages=talk(2))
        stored = await store.save(conversation)
        assert await store.load_entries("c") == stored
        assert [each.parent_id for each in stored] == [None, *(each.id for each in stored[:-1])]
        assert [each.message for each in stored] == conversation.messages
        for each in stored:
            assert await store.read_entry(each.id) == each

    async def test_only_what_is_new_is_stored(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        assert await store.save(conversation) == []
        conversation.messages += talk(1)
        stored = await store.save(conversation)
        assert [each.message for each in stored] == talk(1)
        entries = await store.load_entries("c")
        assert entries is not None
        assert stored == entries[-2:]

    async def test_the_revision_moves_on(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        first = conversation.revision
        await store.save(conversation)
        assert first != conversation.revision
        stored = await store.read_record("c")
        assert stored is not None
        assert stored.revision == conversation.revision

    async def test_an_old_copy_is_refused(self, store: ConversationStore) -> None:
        await saved(store)
        old, new = await store.load("c"), await store.load("c")
        assert old is not None
        assert new is not None
        new.messages.append(asks("mine"))
        await store.save(new)
        old.messages.append(asks("lost"))
        with pytest.raises(ConversationConflict) as refused:
            await store.save(old)
        assert refused.value.conversation_id == "c"
        assert (await texts(store))[-1] == "mine"

    async def test_one_that_was_not_loaded_is_refused(self, store: ConversationStore) -> None:
        await saved(store)
        with pytest.raises(ConversationConflict):
            await saved(store)

    async def test_one_that_was_deleted_is_refused(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        await store.delete("c")
        with pytest.raises(ConversationConflict):
            await store.save(conversation)
        again = await saved(store)
        assert again.revision != conversation.revision
        with pytest.raises(ConversationConflict):
            await store.save(conversation)

    async def test_of_many_at_once_one_wins(self, store: ConversationStore) -> None:
        await saved(store)
        copies = [await store.load("c") for _ in range(4)]
        for number, copy in enumerate(copies):
            assert copy is not None
            copy.messages.append(asks(f"racer {number}"))
        ended = await asyncio.gather(
            *(store.save(copy) for copy in copies if copy), return_exceptions=True
        )
        lost = [each for each in ended if isinstance(each, ConversationConflict)]
        assert len(lost) == 3
        assert len(await texts(store)) == 5

    async def test_of_many_that_begin_at_once_one_wins(self, store: ConversationStore) -> None:
        ended = await asyncio.gather(*(saved(store) for _ in range(4)), return_exceptions=True)
        assert sum(isinstance(each, ConversationConflict) for each in ended) == 3
        assert len(await texts(store)) == 4

    async def test_a_rewritten_history_is_a_branch(self, store: ConversationStore) -> None:
        before = await store.save(Conversation(conversation_id="c", messages=talk(2)))
        stored = await store.read_record("c")
        assert stored is not None
        rewritten = Conversation(
            conversation_id="c",
            messages=[*talk(1), asks("otherwise"), answers("so")],
            revision=stored.revision,
        )
        new = await store.save(rewritten)
        assert [text_of(each.message) for each in new] == ["otherwise", "so"]
        assert new[0].parent_id == before[1].id
        now = await store.read_record("c")
        assert now is not None
        assert now.branches == [before[3].id]
        assert await texts(store) == ["question 0", "answer 0", "otherwise", "so"]
        assert await store.read_history(before[3].id) == before

    async def test_a_history_rewritten_from_the_start(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        conversation.messages = [asks("anew")]
        new = await store.save(replace(conversation, new_message_index=None))
        assert [each.parent_id for each in new] == [None]
        assert await texts(store) == ["anew"]

    async def test_an_emptied_history(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        await store.save(replace(conversation, messages=[], new_message_index=None))
        assert await texts(store) == []
        stored = await store.read_record("c")
        assert stored is not None
        assert stored.head_id is None
        assert len(stored.branches) == 1

    async def test_one_without_messages(self, store: ConversationStore) -> None:
        await store.save(Conversation(conversation_id="c"))
        loaded = await store.load("c")
        assert loaded is not None
        assert loaded.messages == []
        loaded.messages.append(asks("now"))
        await store.save(loaded)
        assert await texts(store) == ["now"]

    async def test_what_was_sent_away_and_came_back(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        back = ConversationTypeAdapter.validate_json(
            ConversationTypeAdapter.dump_json(conversation)
        )
        back.messages.append(asks("and"))
        assert [text_of(each.message) for each in await store.save(back)] == ["and"]

    async def test_a_window_appends_to_the_whole(self, store: ConversationStore) -> None:
        await saved(store, turns=5)
        window = await store.load("c", limit=3)
        assert window is not None
        assert [text_of(each) for each in window.messages] == [
            "answer 3",
            "question 4",
            "answer 4",
        ]
        window.messages.append(asks("and"))
        await store.save(window)
        assert len(await texts(store)) == 11

    async def test_a_window_that_came_back_is_no_rewrite(self, store: ConversationStore) -> None:
        await saved(store, turns=5)
        window = await store.load("c", limit=3)
        assert window is not None
        back = ConversationTypeAdapter.validate_json(ConversationTypeAdapter.dump_json(window))
        back.messages.append(asks("and"))
        assert len(await store.save(back)) == 1
        assert len(await texts(store)) == 11

    async def test_a_window_that_was_rewritten_is_a_branch(self, store: ConversationStore) -> None:
        await saved(store, turns=5)
        window = await store.load("c", limit=2)
        assert window is not None
        window.messages = [asks("else")]
        window.new_message_index = 2
        await store.save(window)
        assert (await texts(store))[-2:] == ["answer 3", "else"]

    @pytest.mark.parametrize("limit", [0, 1, 4, 9])
    async def test_no_more_than_asked_for(self, store: ConversationStore, limit: int) -> None:
        conversation = await saved(store)
        loaded = await store.load("c", limit=limit)
        assert loaded is not None
        assert loaded.messages == (conversation.messages[-limit:] if limit else [])
        entries = await store.load_entries("c")
        some = await store.load_entries("c", limit=limit)
        assert entries is not None
        assert some == (entries[-limit:] if limit else [])

    async def test_a_negative_limit_is_refused(self, store: ConversationStore) -> None:
        with pytest.raises(UserError, match="limit"):
            await store.load("c", limit=-1)
        with pytest.raises(UserError, match="limit"):
            await store.load_entries("c", limit=-1)
        with pytest.raises(UserError, match="limit"):
            await store.list_conversations(limit=-1)

    async def test_usage_and_open_questions_are_kept(self, store: ConversationStore) -> None:
        call = ToolCallPart("pay", {"euros": 7, "b": None, "a": [1.5]}, "call-1")
        conversation = Conversation(
            conversation_id="c",
            messages=talk(1),
            usage=RunUsage(requests=2, input_tokens=30, tool_calls=1, details={"thought": 4}),
            deferred_tool_requests=DeferredToolRequests(
                approvals=[call], metadata={"call-1": {"why": "über 5", "n": 1}}
            ),
        )
        await store.save(conversation)
        assert await store.load("c") == conversation

    async def test_what_was_given_is_copied(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        conversation.usage.requests = 99
        conversation.messages[0].parts = []
        loaded = await store.load("c")
        assert loaded is not None
        assert loaded.usage.requests == 0
        loaded.messages[0].parts = []
        again = await store.load("c")
        assert again is not None
        assert again.messages == talk(2)

    async def test_an_agent_goes_on(self, store: ConversationStore) -> None:
        agent = Agent(TestModel(custom_output_text="Ah."))
        result = await agent.run("first", conversation=Conversation(conversation_id="c"))
        await store.save(result)
        for turn in range(2):
            loaded = await store.load("c")
            assert loaded == result.conversation
            result = await agent.run(f"turn {turn}", conversation=loaded)
            await store.save(result)
            assert await store.save(result) == []
        assert len(result.all_messages()) == 6
        assert result.conversation.usage.requests == 3


class TestScope:
    async def test_it_is_kept(self, store: ConversationStore) -> None:
        conversation = await saved(store, scope="alice")
        await store.save(conversation)
        stored = await store.read_record("c")
        assert stored is not None
        assert stored.scope == "alice"

    async def test_another_one_finds_nothing(self, store: ConversationStore) -> None:
        conversation = await saved(store, scope="alice")
        assert await store.load("c", scope="alice") is not None
        assert await store.load("c", scope="bob") is None
        assert await store.load_entries("c", scope="bob") is None
        with pytest.raises(ConversationConflict):
            await store.save(conversation, scope="bob")
        with pytest.raises(UserError, match="not in the store"):
            await store.fork("c", source_scope="bob")
        with pytest.raises(UserError, match="not in the store"):
            await store.branch("c", at=1, expected_revision=conversation.revision, scope="bob")
        await store.delete("c", scope="bob")
        assert await store.load("c") is not None
        await store.delete("c", scope="alice")
        assert await store.load("c") is None

    async def test_one_without_is_not_of_a_scope(self, store: ConversationStore) -> None:
        await saved(store)
        assert await store.load("c", scope="alice") is None

    async def test_lists_are_by_it(self, store: ConversationStore) -> None:
        for id_, scope in (("a", "alice"), ("b", "bob"), ("c", None)):
            await saved(store, id_, scope=scope)
        listed = await store.list_conversations(scope="alice")
        assert [each.conversation_id for each in listed] == ["a"]
        assert len(await store.list_conversations()) == 3
        assert await store.list_conversations(scope="nobody") == []


class TestList:
    async def test_the_last_saved_first(self, store: ConversationStore) -> None:
        first = await saved(store, "a")
        await saved(store, "b")
        await store.save(first)
        listed = await store.list_conversations()
        assert [each.conversation_id for each in listed] == ["a", "b"]
        assert await store.list_conversations(limit=1) == listed[:1]
        assert await store.list_conversations(limit=0) == []
        assert listed == [await store.read_record("a"), await store.read_record("b")]

    async def test_by_the_time_in_the_record(self, store: ConversationStore) -> None:
        for id_, hour in (("a", 3), ("b", 1), ("c", 2)):
            at = NOON + timedelta(hours=hour)
            await store.write_record(record(id_, updated_at=at), expected_revision=None)
        assert [each.conversation_id for each in await store.read_records()] == ["a", "c", "b"]

    async def test_the_first_made_first_where_times_are_the_same(
        self, store: ConversationStore
    ) -> None:
        for id_ in "bac":
            await store.write_record(record(id_, updated_at=NOON), expected_revision=None)
        assert [each.conversation_id for each in await store.read_records(limit=2)] == ["b", "a"]


class TestBranch:
    async def test_it_goes_on_from_there(self, store: ConversationStore) -> None:
        conversation = await saved(store, turns=3)
        branched = await store.branch("c", at=2, expected_revision=conversation.revision)
        assert branched.messages == talk(1)
        branched.messages.append(asks("else"))
        await store.save(branched)
        assert await texts(store) == ["question 0", "answer 0", "else"]

    async def test_and_back(self, store: ConversationStore) -> None:
        conversation = await saved(store, turns=3)
        entries = await store.load_entries("c")
        assert entries is not None
        branched = await store.branch("c", at=2, expected_revision=conversation.revision)
        left = await store.read_record("c")
        assert left is not None
        assert left.branches == [entries[-1].id]
        back = await store.branch(
            "c", from_entry=entries[-1].id, expected_revision=branched.revision
        )
        assert back.messages == talk(3)
        now = await store.read_record("c")
        assert now is not None
        assert now.branches == []
        assert await store.load_entries("c") == entries

    async def test_to_the_middle_of_one_that_was_left(self, store: ConversationStore) -> None:
        conversation = await saved(store, turns=3)
        entries = await store.load_entries("c")
        assert entries is not None
        branched = await store.branch("c", at=1, expected_revision=conversation.revision)
        branched.messages.append(answers("else"))
        await store.save(branched)
        back = await store.branch(
            "c", from_entry=entries[3].id, expected_revision=branched.revision
        )
        assert back.messages == talk(2)
        assert await store.load_entries("c") == entries[:4]

    async def test_to_before_the_first_message(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        branched = await store.branch("c", at=0, expected_revision=conversation.revision)
        assert branched.messages == []
        branched.messages.append(asks("anew"))
        await store.save(branched)
        assert await texts(store) == ["anew"]

    async def test_to_where_it_is(self, store: ConversationStore) -> None:
        asked = DeferredToolRequests(calls=[ToolCallPart("look", "{}", "call-1")])
        conversation = Conversation(
            conversation_id="c", messages=talk(1), deferred_tool_requests=asked
        )
        await store.save(conversation)
        same = await store.branch("c", at=2, expected_revision=conversation.revision)
        assert same.deferred_tool_requests == asked
        other = await store.branch("c", at=1, expected_revision=same.revision)
        assert other.deferred_tool_requests is None

    @pytest.mark.parametrize("at", [-1, 5])
    async def test_out_of_range(self, store: ConversationStore, at: int) -> None:
        conversation = await saved(store)
        with pytest.raises(UserError, match="between 0 and 4"):
            await store.branch("c", at=at, expected_revision=conversation.revision)

    async def test_what_is_not_there(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        other = await store.save(Conversation(conversation_id="d", messages=talk(1)))
        with pytest.raises(UserError, match="not in the store"):
            await store.branch("nowhere", at=0, expected_revision=None)
        for elsewhere in ("no such entry", ANY_UUID, other[0].id, "\0", "\ud800"):
            with pytest.raises(UserError, match="not in the history"):
                await store.branch(
                    "c", from_entry=elsewhere, expected_revision=conversation.revision
                )

    async def test_neither_or_both(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        with pytest.raises(UserError, match="exactly one"):
            await store.branch("c", expected_revision=conversation.revision)
        with pytest.raises(UserError, match="exactly one"):
            await store.branch("c", at=1, from_entry="e", expected_revision=conversation.revision)

    async def test_an_old_revision_is_refused(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        old = conversation.revision
        await store.save(conversation)
        with pytest.raises(ConversationConflict):
            await store.branch("c", at=1, expected_revision=old)


class TestFork:
    async def test_it_shares_the_entries(self, store: ConversationStore) -> None:
        await saved(store, scope="alice")
        fork = await store.fork("c", at=3, new_conversation_id="d")
        entries, shared = await store.load_entries("c"), await store.load_entries("d")
        assert entries is not None
        assert shared == entries[:3]
        assert fork.messages == talk(2)[:3]
        made = await store.read_record("d")
        assert made is not None
        assert (made.forked_from, made.forked_at, made.scope) == ("c", entries[2].id, "alice")
        assert made.head_id == entries[2].id

    async def test_each_goes_its_own_way(self, store: ConversationStore) -> None:
        conversation = await saved(store, turns=1)
        fork = await store.fork("c", new_conversation_id="d")
        fork.messages.append(asks("in the fork"))
        await store.save(fork)
        conversation.messages.append(asks("in the first"))
        await store.save(conversation)
        assert (await texts(store))[-1] == "in the first"
        assert (await texts(store, "d"))[-1] == "in the fork"

    async def test_it_outlives_what_it_came_from(self, store: ConversationStore) -> None:
        await saved(store)
        entries = await store.load_entries("c")
        assert entries is not None
        await store.fork("c", at=2, new_conversation_id="d")
        await store.delete("c")
        assert await store.load_entries("d") == entries[:2]
        assert await store.read_entry(entries[1].id) == entries[1]
        with pytest.raises(LookupError):
            await store.read_entry(entries[2].id)

    async def test_a_fork_of_a_fork(self, store: ConversationStore) -> None:
        await saved(store)
        entries = await store.load_entries("c")
        assert entries is not None
        await store.fork("c", at=3, new_conversation_id="d")
        await store.fork("d", from_entry=entries[1].id, new_conversation_id="e", scope="lab")
        assert await store.load_entries("e") == entries[:2]
        made = await store.read_record("e")
        assert made is not None
        assert (made.forked_from, made.scope) == ("d", "lab")

    async def test_of_a_branch_that_was_left(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        entries = await store.load_entries("c")
        assert entries is not None
        await store.branch("c", at=1, expected_revision=conversation.revision)
        await store.fork("c", from_entry=entries[3].id, new_conversation_id="d")
        assert await store.load_entries("d") == entries

    async def test_of_nothing(self, store: ConversationStore) -> None:
        await saved(store)
        fork = await store.fork("c", at=0)
        assert fork.messages == []
        made = await store.read_record(fork.conversation_id)
        assert made is not None
        assert (made.forked_from, made.forked_at, made.head_id) == ("c", None, None)

    async def test_only_a_whole_one_has_the_usage(self, store: ConversationStore) -> None:
        asked = DeferredToolRequests(calls=[ToolCallPart("look", "{}", "call-1")])
        conversation = Conversation(
            conversation_id="c",
            messages=talk(1),
            usage=RunUsage(requests=3),
            deferred_tool_requests=asked,
        )
        await store.save(conversation)
        whole, part = await store.fork("c"), await store.fork("c", at=1)
        assert (whole.usage.requests, whole.deferred_tool_requests) == (3, asked)
        assert (part.usage.requests, part.deferred_tool_requests) == (0, None)
        assert await store.load(whole.conversation_id) == whole
        assert await store.load(part.conversation_id) == part

    async def test_one_that_is_there_is_refused(self, store: ConversationStore) -> None:
        await saved(store)
        await saved(store, "d")
        with pytest.raises(ConversationConflict):
            await store.fork("c", new_conversation_id="d")
        assert len(await texts(store, "d")) == 4

    async def test_what_is_wrong(self, store: ConversationStore) -> None:
        await saved(store)
        with pytest.raises(UserError, match="not in the store"):
            await store.fork("nowhere")
        with pytest.raises(UserError, match="between"):
            await store.fork("c", at=5)
        with pytest.raises(UserError, match="exactly one"):
            await store.fork("c", at=1, from_entry="e")
        with pytest.raises(UserError, match="not in the history"):
            await store.fork("c", from_entry="e")


class TestDelete:
    async def test_it_is_gone(self, store: ConversationStore) -> None:
        stored = await store.save(Conversation(conversation_id="c", messages=talk(1)))
        await store.delete("c")
        assert await store.load("c") is None
        assert await store.list_conversations() == []
        with pytest.raises(LookupError):
            await store.read_entry(stored[0].id)
        with pytest.raises(LookupError):
            await store.read_history(stored[0].id)

    async def test_what_is_not_there(self, store: ConversationStore) -> None:
        await store.delete("c")
        with pytest.raises(ConversationConflict):
            await store.delete_record("c", expected_revision="any")

    async def test_an_old_revision_is_refused(self, store: ConversationStore) -> None:
        conversation = await saved(store)
        old = conversation.revision
        assert old is not None
        await store.save(conversation)
        with pytest.raises(ConversationConflict):
            await store.delete_record("c", expected_revision=old)
        assert await store.load("c") is not None


class TestPrimitives:
    async def test_a_record_comes_back_as_it_was(self, store: ConversationStore) -> None:
        written = record(
            head_id="b",
            usage=RunUsage(requests=1, output_tokens=2),
            deferred_tool_requests=DeferredToolRequests(calls=[ToolCallPart("t", None, "x")]),
            scope="somewhere",
            forked_from="another",
            forked_at="a",
            branches=["a"],
            revision="r1",
            updated_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        )
        await store.write_record(
            written, new_entries=[entry("a"), entry("b", "a")], expected_revision=None
        )
        assert await store.read_record("c") == written
        assert await store.read_records() == [written]

    async def test_a_revision_that_is_not_stored_is_refused(self, store: ConversationStore) -> None:
        with pytest.raises(ConversationConflict):
            await store.write_record(record(), expected_revision="r0")
        await store.write_record(record(revision="r1"), expected_revision=None)
        for wrong in (None, "r0"):
            with pytest.raises(ConversationConflict):
                await store.write_record(record(revision="r2"), expected_revision=wrong)
        await store.write_record(record(revision="r2"), expected_revision="r1")

    async def test_a_conflict_leaves_nothing_behind(self, store: ConversationStore) -> None:
        with pytest.raises(ConversationConflict):
            await store.write_record(
                record(head_id="a"), new_entries=[entry("a")], expected_revision="r0"
            )
        with pytest.raises(LookupError):
            await store.read_entry("a")
        assert await store.read_record("c") is None

    @pytest.mark.parametrize("head", ["lost", ANY_UUID, "lost.0"])
    async def test_a_head_that_is_nowhere_is_refused(
        self, store: ConversationStore, head: str
    ) -> None:
        with pytest.raises(ConversationConflict):
            await store.write_record(record(head_id=head), expected_revision=None)
        assert await store.read_record("c") is None

    async def test_a_head_may_be_any_entry(self, store: ConversationStore) -> None:
        new = [entry("a"), entry("b", "a"), entry("c", "b")]
        await store.write_record(
            record(head_id="b", revision="r1"), new_entries=new, expected_revision=None
        )
        assert await store.read_history("b") == new[:2]
        assert await store.read_history("c") == new
        await store.write_record(record(head_id="c", revision="r2"), expected_revision="r1")
        stored = await store.read_record("c")
        assert stored is not None
        assert stored.head_id == "c"

    async def test_new_entries_may_be_a_tree(self, store: ConversationStore) -> None:
        new = [
            entry("a"),
            entry("b", "a"),
            entry("c", "a"),
            entry("d", "b"),
            entry("e"),
            entry("f", "d"),
        ]
        await store.write_record(record(head_id="f"), new_entries=new, expected_revision=None)
        at = {each.id: each for each in new}
        assert await store.read_history("f") == [at["a"], at["b"], at["d"], at["f"]]
        assert await store.read_history("c") == [at["a"], at["c"]]
        assert await store.read_history("e") == [at["e"]]

    async def test_the_end_of_a_history(self, store: ConversationStore) -> None:
        new = [entry("a"), entry("b", "a"), entry("c", "b")]
        await store.write_record(record(head_id="c"), new_entries=new, expected_revision=None)
        assert await store.read_history("c", limit=2) == new[1:]
        assert await store.read_history("b", limit=2) == new[:2]
        assert await store.read_history("b", limit=0) == []
        assert await store.read_history(None) == []

    @pytest.mark.parametrize("id_", ["nowhere", "", ANY_UUID, "\0", "\ud83d", "x.0"])
    async def test_what_is_not_there(self, store: ConversationStore, id_: str) -> None:
        with pytest.raises(LookupError):
            await store.read_entry(id_)
        with pytest.raises(LookupError):
            await store.read_history(id_)
        assert await store.read_record(id_) is None

    async def test_a_fork_by_hand(self, store: ConversationStore) -> None:
        new = [entry("a"), entry("b", "a")]
        await store.write_record(record(head_id="b"), new_entries=new, expected_revision=None)
        more = entry("z", "a")
        await store.write_record(
            record("d", head_id="z"), new_entries=[more], expected_revision=None
        )
        assert await store.read_history("z") == [new[0], more]
        assert await store.load_entries("d") == [new[0], more]


async def test_a_long_life(store: ConversationStore) -> None:
    """Turns, branches, forks and windows, one after the other."""
    expected: list[ModelMessage] = []
    conversation = Conversation(conversation_id="c")
    for turn in range(6):
        conversation.messages += (new := [asks(f"q{turn}"), answers(f"a{turn}")])
        expected += new
        await store.save(conversation)
        if turn % 2:
            conversation = await store.branch(
                "c", at=len(expected) - 1, expected_revision=conversation.revision
            )
            expected.pop()
        loaded = await store.load("c", limit=2 if turn % 3 else None)
        assert loaded is not None
        conversation = loaded
    assert [text_of(each) for each in expected] == await texts(store)
    stored = await store.read_record("c")
    assert stored is not None
    assert len(stored.branches) == 3
    for tip in stored.branches:
        fork = await store.fork("c", from_entry=tip)
        assert fork.messages[-1] == (await store.read_entry(tip)).message
