"""Conversations and messages whose ids a client chose, and other beginnings of a conversation."""

import asyncio
from uuid import UUID

import pytest

from tertulia.domain.conversations import Conversation, NewMessage, Retention, Role
from tertulia.domain.errors import Conflict, ConversationNotFound
from tertulia.domain.ids import new_id
from tertulia.domain.parts import TextPart
from tertulia.runs.opening import lock_or_create, open_for
from tertulia.runs.send import NewConversation, Send, user_says
from tertulia.storage.database import Database
from tests.storage.rows import MODEL, new_conversation, new_user


async def send_to(
    database: Database, where: UUID | NewConversation, send: Send, *, user_id: UUID
) -> Conversation:
    """Store what is sent, with no run to answer it; return the conversation."""
    async with database.transaction() as work:
        conversation = await lock_or_create(
            work, where, user_id=user_id, model_type=MODEL, copied_max=10
        )
        await open_for(work, conversation, send)
        return await work.conversations.get(conversation.id, user_id=user_id)


async def test_a_chosen_id_makes_one_conversation_however_many_come_at_once(
    database: Database,
) -> None:
    user_id, id_ = await new_user(database), new_id()
    where = NewConversation(id=id_, metadata={"from": "x"})
    sends = [
        send_to(database, where, Send.of_text(f"Hello {n}"), user_id=user_id) for n in range(5)
    ]
    made = await asyncio.gather(*sends)
    assert {conversation.id for conversation in made} == {id_}
    again = await send_to(database, where, Send.of_text("Me too"), user_id=user_id)
    assert again.message_count == 6
    assert again.metadata == {"from": "x"}


async def test_a_conversation_that_is_there_stays_as_it_is(database: Database) -> None:
    user_id = await new_user(database)
    there = await new_conversation(database, user_id)
    where = NewConversation(
        id=there.id, model_type="other:model", retention=Retention.TEMPORARY, metadata={"a": "b"}
    )
    found = await send_to(database, where, Send.of_text("Hello"), user_id=user_id)
    assert (found.model_type, found.metadata) == (there.model_type, there.metadata)


async def test_another_users_id_is_missing(database: Database) -> None:
    owner, other = await new_user(database), await new_user(database)
    there = await new_conversation(database, owner)
    with pytest.raises(ConversationNotFound):
        await send_to(database, NewConversation(id=there.id), Send.of_text("Hello"), user_id=other)


async def test_a_message_has_the_id_that_it_was_given_once(database: Database) -> None:
    user_id = await new_user(database)
    there = await new_conversation(database, user_id)
    chosen = NewMessage(Role.USER, (TextPart("Hello"),), id=new_id())
    send = Send(messages=[chosen])
    assert (await send_to(database, there.id, send, user_id=user_id)).head_id == chosen.id
    with pytest.raises(Conflict):
        await send_to(database, there.id, send, user_id=user_id)


async def test_a_conversation_can_begin_anew_beside_its_beginning(database: Database) -> None:
    user_id = await new_user(database)
    there = await new_conversation(database, user_id)
    await send_to(database, there.id, Send.of_text("First"), user_id=user_id)
    anew = Send(messages=[user_says("Otherwise")], begins=True)
    found = await send_to(database, there.id, anew, user_id=user_id)
    assert found.message_count == 2
    assert found.head_id is not None
    async with database.reading() as work:
        branch = await work.messages.list_branch(
            there.id, tip_id=found.head_id, user_id=user_id, limit=10
        )
    assert [message.content for message in branch] == ["Otherwise"]
