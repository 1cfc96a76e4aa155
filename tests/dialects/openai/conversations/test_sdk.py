"""The official SDK keeps conversations on a real server; all other doors show the same."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.dialects.openai.responses.test_sdk import MODEL, ask, strict
from tests.kit.pair import script
from tests.kit.person import Person


@pytest.fixture
async def sdk(ana: Person) -> AsyncIterator[AsyncOpenAI]:
    async with strict(ana) as sdk:
        yield sdk


@pytest.fixture
async def bobs(bob: Person) -> AsyncIterator[AsyncOpenAI]:
    async with strict(bob) as sdk:
        yield sdk


def said(role: str, text: str) -> Any:  # noqa: ANN401  the SDK's
    return {"type": "message", "role": role, "content": text}


async def listed(sdk: AsyncOpenAI, name: str, **asked: Any) -> list[Any]:  # noqa: ANN401  the SDK's
    return [item async for item in sdk.conversations.items.list(name, **asked)]


async def test_a_conversation_has_metadata_that_is_replaced_whole(sdk: AsyncOpenAI) -> None:
    made = await sdk.conversations.create(metadata={"a": "b", "c": "d"})
    assert (await sdk.conversations.retrieve(made.id)).metadata == {"a": "b", "c": "d"}
    changed = await sdk.conversations.update(made.id, metadata={"e": "f"})
    assert changed.metadata == {"e": "f"}


async def test_items_of_every_kind_come_back_as_they_went(sdk: AsyncOpenAI) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": "42"}
    reasoning = {
        "type": "reasoning",
        "id": "x",
        "summary": [{"type": "summary_text", "text": "Hm"}],
    }
    sent: Any = [said("user", "Hi"), said("developer", "Be nice"), reasoning, call, result]
    made = await sdk.conversations.create(items=sent)

    found = await listed(sdk, made.id, order="asc")

    kinds = ["message", "message", "reasoning", "function_call", "function_call_output"]
    assert [item.type for item in found] == kinds
    assert [found[0].role, found[1].role] == ["user", "developer"]
    assert (found[3].arguments, found[4].output) == ("{}", "42")
    assert {item.status for item in found} == {"completed"}


async def test_items_are_listed_newest_first_in_pages(sdk: AsyncOpenAI) -> None:
    made = await sdk.conversations.create()
    for begin in (0, 20):
        more = [said("user", f"m{number}") for number in range(begin, begin + 20)]
        added = await sdk.conversations.items.create(made.id, items=more)
        assert len(added.data) == 20

    first: Any = await sdk.conversations.items.list(made.id)
    assert (len(first.data), first.has_more) == (20, True)
    assert first.data[0].content[0].text == "m39"
    assert (first.first_id, first.last_id) == (first.data[0].id, first.data[-1].id)
    for limit in (1, 7, 39, 40, 100):
        found = await listed(sdk, made.id, limit=limit)
        assert [item.content[0].text for item in found] == [f"m{n}" for n in range(39, -1, -1)]
    oldest = await listed(sdk, made.id, limit=9, order="asc")
    assert [item.content[0].text for item in oldest] == [f"m{n}" for n in range(40)]


async def test_pages_may_end_within_a_message_of_many_items(sdk: AsyncOpenAI) -> None:
    made = await sdk.conversations.create()
    tools = [{"type": "function", "name": "f"}]
    calls = [{"id": f"c{n}", "name": "f", "arguments": "{}"} for n in range(5)]
    asked = script("Go", reasoning="Hm", text="I look", tool_calls=calls)
    await ask(sdk, asked, conversation=made.id, tools=tools)

    whole = await listed(sdk, made.id, order="asc", limit=100)
    assert [item.type for item in whole] == ["message", "reasoning", "message"] + [
        "function_call"
    ] * 5
    for limit in range(1, 9):
        for order in ("asc", "desc"):
            found = [item.id for item in await listed(sdk, made.id, limit=limit, order=order)]
            assert found == [item.id for item in (whole if order == "asc" else whole[::-1])]


async def test_one_item_can_be_read_and_deleted(sdk: AsyncOpenAI) -> None:
    made = await sdk.conversations.create(items=[said("user", "One"), said("user", "Two")])
    two, one = await listed(sdk, made.id)
    again: Any = await sdk.conversations.items.retrieve(one.id, conversation_id=made.id)
    assert again.content[0].text == "One"

    gone = await sdk.conversations.items.delete(one.id, conversation_id=made.id)

    assert gone.id == made.id
    assert [item.id for item in await listed(sdk, made.id)] == [two.id]
    with pytest.raises(openai.NotFoundError):
        await sdk.conversations.items.retrieve(one.id, conversation_id=made.id)


async def test_deleting_one_of_a_message_s_items_leaves_the_others_their_names(
    sdk: AsyncOpenAI,
) -> None:
    made = await sdk.conversations.create()
    await ask(sdk, script("Go", reasoning="Hm", text="Hello"), conversation=made.id)
    words, thought, question = await listed(sdk, made.id)
    assert (words.type, thought.type) == ("message", "reasoning")

    await sdk.conversations.items.delete(thought.id, conversation_id=made.id)

    assert [item.id for item in await listed(sdk, made.id)] == [words.id, question.id]
    await sdk.conversations.items.delete(words.id, conversation_id=made.id)
    assert [item.id for item in await listed(sdk, made.id)] == [question.id]


async def test_responses_join_the_conversation_they_name(sdk: AsyncOpenAI, ana: Person) -> None:
    made = await sdk.conversations.create(items=[said("user", "My name is Ana")])
    response = await sdk.responses.create(model=MODEL, input="Hello", conversation=made.id)

    assert response.conversation is not None
    assert response.conversation.id == made.id
    found = await listed(sdk, made.id, order="asc")
    assert [item.role for item in found] == ["user", "user", "assistant"]
    assert found[-1].id == response.output[0].id
    path = f"/conversations/{made.id.removeprefix('conv_')}/messages"
    assert len((await ana.call("GET", path)).json()) == 3
    await sdk.responses.delete(response.id)
    assert len(await listed(sdk, made.id)) == 3


async def test_what_is_written_natively_is_there_as_items(sdk: AsyncOpenAI, ana: Person) -> None:
    made = (await ana.call("POST", "/conversations", json={"first_message": "Hi"})).json()
    name = f"conv_{made['id'].replace('-', '')}"
    found = await listed(sdk, name)
    assert [item.content[0].text for item in found] == ["Hi"]


async def test_conversations_are_listed_newest_first(sdk: AsyncOpenAI, ana: Person) -> None:
    made = [(await sdk.conversations.create()).id for _ in range(5)]
    first = (await ana.call("GET", "/v1/conversations?limit=2")).json()
    assert [each["id"] for each in first["data"]] == made[:2:-1]
    assert first["has_more"]
    path = f"/v1/conversations?limit=3&after={first['last_id']}"
    second = (await ana.call("GET", path)).json()
    assert [each["id"] for each in second["data"]] == made[2::-1]
    assert not second["has_more"]


async def test_a_deleted_conversation_is_gone(sdk: AsyncOpenAI) -> None:
    made = await sdk.conversations.create()
    assert (await sdk.conversations.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await sdk.conversations.retrieve(made.id)


async def test_two_users_never_meet(sdk: AsyncOpenAI, bobs: AsyncOpenAI) -> None:
    made = await sdk.conversations.create(items=[said("user", "Mine")])
    (item,) = await listed(sdk, made.id)
    for attempt in (
        bobs.conversations.update(made.id, metadata={}),
        listed(bobs, made.id),
        bobs.conversations.items.create(made.id, items=[said("user", "x")]),
        bobs.conversations.items.retrieve(item.id, conversation_id=made.id),
        bobs.conversations.items.delete(item.id, conversation_id=made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"items": [{"role": "user", "content": "x"}] * 21}, "items"),
        ("", {"metadata": {"k": "v" * 513}}, "metadata.k"),
        ("", {"title": "x"}, "title"),
        ("/{name}/items", {"items": []}, "items"),
        ("/{name}/items", {"items": [{"type": "surprise"}]}, "items[0]"),
        ("/{name}", {}, "metadata"),
    ],
)
async def test_a_bad_input_is_named(
    sdk: AsyncOpenAI, ana: Person, path: str, body: dict[str, Any], param: str
) -> None:
    made = await sdk.conversations.create()
    answer = await ana.call("POST", f"/v1/conversations{path.format(name=made.id)}", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "order=up", "after=msg_1"])
async def test_a_bad_page_is_named(sdk: AsyncOpenAI, ana: Person, query: str) -> None:
    made = await sdk.conversations.create(items=[said("user", "x")])
    answer = await ana.call("GET", f"/v1/conversations/{made.id}/items?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_an_item_of_another_branch_is_no_place_in_a_list(
    sdk: AsyncOpenAI, order: str
) -> None:
    made = await sdk.conversations.create(items=[said("user", "Hello")])
    one = await ask(sdk, "One", conversation=made.id)
    left = await ask(sdk, "Two", previous_response_id=one.id)
    await ask(sdk, "Three", previous_response_id=one.id)
    for after in (left.output[0].id, f"msg_{'0' * 32}"):
        with pytest.raises(openai.BadRequestError) as refused:
            await listed(sdk, made.id, after=after, order=order)
        assert refused.value.param == "after"
    assert len(await listed(sdk, made.id, after=one.output[0].id, order=order)) in (2, 3)


async def test_an_empty_conversation_has_no_item_to_begin_after(sdk: AsyncOpenAI) -> None:
    made = await sdk.conversations.create()
    assert await listed(sdk, made.id) == []
    with pytest.raises(openai.BadRequestError):
        await listed(sdk, made.id, after=f"msg_{'0' * 32}")
