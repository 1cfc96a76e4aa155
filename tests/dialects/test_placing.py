"""Where messages go that clients tell under ids of their own."""

from dataclasses import replace
from uuid import UUID

import pytest

from tertulia.conversations.messages import MessageService
from tertulia.dialects.placing import Placing, Said
from tertulia.domain.conversations import Message, NewMessage, Role
from tertulia.domain.ids import new_id
from tertulia.domain.parts import TextPart, ToolCallPart, ToolResultPart
from tertulia.runs.opening import lock_or_create, open_for
from tertulia.runs.send import Send
from tertulia.storage.database import Database
from tertulia.storage.notices import Notifier
from tests.storage.rows import MODEL, new_conversation, new_user


class Tree:
    """One conversation, and what a client tells of it."""

    def __init__(self, database: Database, user_id: UUID, conversation_id: UUID) -> None:
        self.database = database
        self.user_id = user_id
        messages = MessageService(database, Notifier(database))
        self.placing = Placing(messages, conversation_id, user_id)

    async def store(self, send: Send) -> Message:
        """Store what is sent and return the last message of it, or the one to be answered."""
        async with self.database.transaction() as work:
            conversation = await lock_or_create(
                work,
                self.placing.conversation_id,
                user_id=self.user_id,
                model_type=MODEL,
                copied_max=10,
            )
            opened = await open_for(work, conversation, send)
            assert opened.prompt.id is not None
            return await work.messages.get(
                opened.prompt.id, conversation_id=conversation.id, user_id=self.user_id
            )

    async def call(self, *call_ids: str) -> Message:
        """Store an answer that makes calls of the client's."""
        calls = tuple(ToolCallPart(call_id, "look", "{}") for call_id in call_ids)
        return await self.store(Send(messages=[NewMessage(Role.ASSISTANT, calls)]))

    async def say(self, *said: Said, below: Message | None = None) -> Message:
        """Place what a client says, and store it."""
        parents = [] if below is None else [below.id]
        return await self.store(await self.placing.below(said, parents))


@pytest.fixture
async def tree(database: Database) -> Tree:
    user_id = await new_user(database)
    return Tree(database, user_id, (await new_conversation(database, user_id)).id)


def user(words: str, client_id: str = "u") -> Said:
    return Said(client_id, Role.USER, (TextPart(words),))


async def test_what_is_new_goes_below_what_the_client_shows_or_below_the_head(tree: Tree) -> None:
    first = await tree.say(user("One", "u1"))
    second = await tree.say(user("Two", "u2"))
    assert second.parent_id == first.id
    beside = await tree.say(user("Three", "u3"), below=first)
    assert beside.parent_id == first.id


async def test_what_is_there_already_is_found(tree: Tree) -> None:
    first = await tree.say(user("One"))
    assert (await tree.say(user("One"))).id == first.id
    assert (await tree.say(user("One", str(first.id)))).id == first.id
    assert (await tree.placing.find(["nobody", "u"])) == first


async def test_other_words_stand_beside_and_are_found_again_too(tree: Tree) -> None:
    first = await tree.say(user("One", "u1"))
    second = await tree.say(user("Two", "u2"))
    edited = await tree.say(user("Too", "u2"))
    assert edited.id != second.id
    assert edited.parent_id == first.id
    assert (await tree.say(user("Too", "u2"))).id == edited.id
    assert (await tree.say(user("Two", "u2"))).id == second.id


async def test_the_first_message_is_edited_into_another_beginning(tree: Tree) -> None:
    await tree.say(user("One", "u1"))
    await tree.say(user("Two", "u2"))
    edited = await tree.say(user("Won", "u1"))
    assert edited.parent_id is None
    again = await tree.say(user("Once", str(edited.id)))
    assert again.parent_id is None


async def test_of_several_only_those_are_stored_that_are_not_there(tree: Tree) -> None:
    await tree.say(user("One", "u1"))
    asked = await tree.call("c")
    results = Said("r", Role.TOOL, (ToolResultPart("c", "3"),))
    told = await tree.say(results, below=asked)
    then = await tree.say(results, user("Two", "u2"), below=asked)
    assert then.parent_id == told.id
    assert then.role is Role.USER


async def test_another_conversations_message_is_new_here(tree: Tree) -> None:
    elsewhere = Tree(
        tree.database,
        tree.user_id,
        (await new_conversation(tree.database, tree.user_id)).id,
    )
    theirs = await elsewhere.say(user("One"))
    mine = await tree.say(user("One", str(theirs.id)), below=theirs)
    assert mine.id != theirs.id
    assert mine.parent_id is None


async def test_another_users_message_is_missing(tree: Tree) -> None:
    first = await tree.say(user("One"))
    foreign = replace(tree.placing, user_id=new_id())
    assert await foreign.find([str(first.id), "u"]) is None


async def test_a_message_of_another_role_is_no_edit(tree: Tree) -> None:
    await tree.call("c", "d")
    first = await tree.say(Said("x", Role.TOOL, (ToolResultPart("c", "3"),)))
    second = await tree.say(user("One", str(first.id)))
    assert second.parent_id == first.id
    third = await tree.say(user("Two", "x"))
    assert third.parent_id == second.id
    result = Said("y", Role.TOOL, (ToolResultPart("d", "3"),))
    fourth = await tree.say(result, user("Three", "y"))
    assert fourth.role is Role.USER
