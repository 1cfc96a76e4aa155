"""Completions that were stored are listed."""

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.dialects.openai.chat.test_sdk import ask, user
from tests.dialects.openai.responses.test_sdk import strict
from tests.kit.person import Person


async def names(sdk: AsyncOpenAI, **asked: Any) -> list[str]:  # noqa: ANN401  the SDK's
    return [each.id async for each in sdk.chat.completions.list(**asked)]


async def test_what_was_stored_is_listed_in_pages(ana: Person, bob: Person) -> None:
    async with strict(ana) as sdk, strict(bob) as bobs:
        made = [await ask(sdk, messages=[user(f"m{n}")], store=True) for n in range(5)]
        await ask(sdk, messages=[user("Unstored")])
        await sdk.responses.create(model="openai:scripted", input="No completion")

        page = await sdk.chat.completions.list(limit=2)
        assert [each.id for each in page.data] == [made[0].id, made[1].id]
        assert page.has_more
        assert page.data[0].choices == made[0].choices
        every = [each.id for each in made]
        for limit in (1, 2, 4, 5, 100):
            assert await names(sdk, limit=limit) == every
            assert await names(sdk, limit=limit, order="desc") == every[::-1]
        assert await names(bobs) == []

        await sdk.chat.completions.delete(every[2])
        assert await names(sdk) == [*every[:2], *every[3:]]


async def test_a_list_is_of_a_model_and_of_metadata(ana: Person) -> None:
    async with strict(ana) as sdk:
        red = await ask(sdk, messages=[user("x")], store=True, metadata={"c": "red", "n": "1"})
        blue = await ask(sdk, messages=[user("x")], store=True, metadata={"c": "blue", "n": "1"})
        assert await names(sdk, metadata={"c": "red"}) == [red.id]
        assert await names(sdk, metadata={"n": "1"}) == [red.id, blue.id]
        assert await names(sdk, metadata={"n": "1", "c": "green"}) == []
        assert await names(sdk, model="openai:scripted") == [red.id, blue.id]
        assert await names(sdk, model="scripted") == [red.id, blue.id]
        assert await names(sdk, model="nobody:nothing") == []
        found = [each async for each in sdk.chat.completions.list(metadata={"c": "red"})]
        assert found[0].model_dump()["metadata"] == {"c": "red", "n": "1"}


async def test_pages_of_long_answers_are_short(ana: Person) -> None:
    long = 'x script:{"text": "' + "y" * 400_000 + '"}'
    async with strict(ana) as sdk:
        made = [(await ask(sdk, messages=[user(long)], store=True)).id for _ in range(4)]
        page = await sdk.chat.completions.list(limit=100)
        assert 0 < len(page.data) < 4
        assert page.has_more
        assert await names(sdk, limit=100) == made


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("after=chatcmpl-1", "after"),
        (f"after=chatcmpl-{'0' * 32}", "after"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("order=up", "order"),
        ("metadata[a]=" + "x" * 513, "metadata"),
        ("&".join(f"metadata[k{n}]=v" for n in range(17)), "metadata"),
    ],
)
async def test_a_bad_query_is_named(ana: Person, query: str, param: str) -> None:
    answer = await ana.call("GET", f"/v1/chat/completions?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_another_users_completion_is_no_place_in_a_list(ana: Person, bob: Person) -> None:
    async with strict(ana) as sdk, strict(bob) as bobs:
        hers = await ask(sdk, messages=[user("x")], store=True)
        with pytest.raises(openai.BadRequestError) as refused:
            await bobs.chat.completions.list(after=hers.id)
        assert refused.value.param == "after"
