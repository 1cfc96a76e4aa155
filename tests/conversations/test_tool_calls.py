"""Which results a client may add to a branch."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from tertulia.conversations.tool_calls import Tip, check_results, find_open_calls, result_number
from tertulia.domain.conversations import NewMessage, Role
from tertulia.domain.errors import Invalid
from tertulia.domain.parts import Part, TextPart, ToolCallPart, ToolResultPart
from tertulia.storage.database import Database
from tests.storage.rows import new_conversation, new_user


def answer(*parts: Part) -> NewMessage:
    return NewMessage(Role.ASSISTANT, parts)


def call(call_id: str, server: str | None = None) -> ToolCallPart:
    return ToolCallPart(call_id, "look", "{}", server)


def results(*call_ids: str, said: str = "a cat") -> NewMessage:
    return NewMessage(Role.TOOL, tuple(ToolResultPart(each, said) for each in call_ids))


def user(text: str) -> NewMessage:
    return NewMessage(Role.USER, (TextPart(text),))


class Branch:
    """A conversation, and its owner."""

    def __init__(self, database: Database, user_id: UUID, conversation_id: UUID) -> None:
        self.database = database
        self.user_id = user_id
        self.id = conversation_id
        self.tip = Tip(conversation_id, None, user_id)

    async def grow(self, *new: NewMessage) -> None:
        async with self.database.transaction() as work:
            locked = await work.conversations.lock(self.id, user_id=self.user_id)
            head = work.messages.head(locked)
            messages, _ = await work.messages.append_all(locked, new, parent=head)
        self.tip = self.tip._replace(message_id=messages[-1].id)

    async def fault(self, *new: NewMessage) -> Invalid | None:
        """Return what is wrong with messages to be added."""
        async with self.database.reading() as work:
            try:
                await check_results(work, new, self.tip)
            except Invalid as error:
                return error
        return None

    async def kept(self, *new: NewMessage) -> Sequence[NewMessage]:
        """Return what is to be stored of messages to be added."""
        async with self.database.reading() as work:
            return await check_results(work, new, self.tip)

    async def open_calls(self) -> Sequence[str]:
        async with self.database.reading() as work:
            return [each.call_id for each in await find_open_calls(work, self.tip)]


@pytest.fixture
async def branch(database: Database) -> Branch:
    user_id = await new_user(database)
    return Branch(database, user_id, (await new_conversation(database, user_id)).id)


async def test_a_result_answers_a_call_of_the_clients(branch: Branch) -> None:
    await branch.grow(user("Look"), answer(call("a"), call("b")))
    assert await branch.open_calls() == ["a", "b"]
    assert await branch.fault(results("a", "b")) is None
    await branch.grow(results("b"))
    assert await branch.open_calls() == ["a"]
    assert await branch.fault(results("a"), user("And?")) is None


async def test_a_result_may_come_late(branch: Branch) -> None:
    await branch.grow(user("Look"), answer(call("a")), user("Never mind"), answer(TextPart("Well")))
    assert await branch.open_calls() == []
    assert await branch.fault(results("a")) is None


async def test_a_call_is_answered_once(branch: Branch) -> None:
    await branch.grow(answer(call("a"), call("b")), results("a"))
    contrary = results("a", said="a dog")
    for new in ((contrary,), (results("b"), contrary), (results("b"), results("b"))):
        error = await branch.fault(*new)
        assert error is not None
        assert "answered already" in error.detail
    number = result_number(error := await branch.fault(results("b", "b")) or Invalid())
    assert number == 1, error


async def test_a_result_that_is_told_again_is_not_kept(branch: Branch) -> None:
    await branch.grow(answer(call("a")), results("a"), answer(call("b")))
    hello = user("Look")
    assert await branch.kept(results("a")) == []
    assert await branch.kept(hello, results("a"), results("b")) == [hello, results("b")]
    assert await branch.kept(results("a", "b", "a"), hello) == [results("b"), hello]
    # Among those that are not kept, each has its number all the same.
    error = await branch.fault(results("a", "b"), results("a", said="a dog"))
    assert error is not None
    assert result_number(error) == 2


async def test_an_id_that_is_used_again_is_answered_again(branch: Branch) -> None:
    await branch.grow(answer(call("a")), results("a"), user("Again"), answer(call("a")))
    assert [*await branch.kept(results("a"))] == [results("a")]
    await branch.grow(results("a", said="a dog"))
    assert await branch.fault(results("a")) is not None
    assert await branch.kept(results("a", said="a dog")) == []


async def test_a_call_that_nobody_made_has_no_result(branch: Branch) -> None:
    for _ in range(2):
        error = await branch.fault(results("nobody"))
        assert error is not None
        assert result_number(error) == 0
        assert "nobody" in error.detail
        await branch.grow(user("Look"))


async def test_the_servers_own_calls_are_not_answered_by_clients(branch: Branch) -> None:
    own = call("a", server="kit")
    await branch.grow(answer(own, call("b")))
    told = answer(own, ToolResultPart("a", "forged"))
    for new in ((results("a"),), (results("b", "a"),), (told,)):
        error = await branch.fault(*new)
        assert error is not None
        assert "server's own" in error.detail
    await branch.grow(answer(ToolResultPart("a", "sent"), TextPart("Done.")))
    assert await branch.fault(results("a", said="sent")) is not None


async def test_what_is_told_together_is_the_clients_story(branch: Branch) -> None:
    assert await branch.fault(user("Look"), answer(call("a")), results("a")) is None
    assert await branch.fault(results("a"), answer(call("a"))) is not None


async def test_a_call_is_found_behind_long_results(branch: Branch) -> None:
    await branch.grow(answer(*(call(name) for name in "abcd")))
    for name in "abc":
        await branch.grow(NewMessage(Role.TOOL, (ToolResultPart(name, "x" * 2_000_000),)))
    assert await branch.fault(results("d")) is None


def test_other_errors_are_about_no_result() -> None:
    assert result_number(Invalid("x")) is None
    assert result_number(Invalid("x", field="body.tool_results")) is None
    assert result_number(Invalid("x", field="body.tool_results[7].call_id")) == 7
