"""The official SDK, told to believe nothing, has chats with a real server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid1

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam
from pydantic import BaseModel

from tests.dialects.conftest import Server
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.stage import fetch_number
from tests.kit.waiting import until

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"id": "call_7", "name": "get_weather", "arguments": '{"city":"Cádiz"}'}


def strict(person: Person) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=f"{person.urls[0]}/v1",
        api_key=person.token,
        max_retries=0,
        _strict_response_validation=True,
    )


@pytest.fixture
async def chat(ana: Person) -> AsyncIterator[AsyncOpenAI]:
    async with strict(ana) as chat:
        yield chat


@pytest.fixture
async def bobs_chat(bob: Person) -> AsyncIterator[AsyncOpenAI]:
    async with strict(bob) as chat:
        yield chat


@pytest.fixture
def tag() -> str:
    """A word that nobody else says."""
    return f"t{uuid1().hex}"


def user(text: str) -> ChatCompletionMessageParam:
    return {"role": "user", "content": text}


async def ask(chat: AsyncOpenAI, **asked: Any) -> ChatCompletion:  # noqa: ANN401  the SDK's
    create: Any = chat.chat.completions.create
    return await create(model="scripted", **asked)


async def in_stream(chat: AsyncOpenAI, **asked: Any) -> list[ChatCompletionChunk]:  # noqa: ANN401  the SDK's
    stream = await chat.chat.completions.create(model="scripted", stream=True, **asked)
    return [chunk async for chunk in stream]


async def listen(stream: openai.AsyncStream[ChatCompletionChunk], said: list[str]) -> None:
    async for chunk in stream:
        said.extend(choice.delta.content or "" for choice in chunk.choices)


async def test_a_whole_answer(chat: AsyncOpenAI, server: Server, tag: str) -> None:
    completion = await chat.chat.completions.create(
        model="openai:scripted",
        messages=[{"role": "system", "content": "Be brief"}, user(f"Hello {tag}")],
        temperature=0.5,
        max_completion_tokens=100,
        stop="END",
    )

    assert completion.id.startswith("chatcmpl-")
    assert completion.model == "openai:scripted"
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == (DEFAULT_TEXT, "stop")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (12, 44)
    (call,) = server.calls(tag)
    assert call["messages"] == [
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": f"Hello {tag}"},
    ]
    assert (call["body"]["temperature"], call["body"]["stop"]) == (0.5, ["END"])


async def test_a_stream(chat: AsyncOpenAI) -> None:
    chunks = await in_stream(chat, messages=[user("Hello")])

    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert {(chunk.object, chunk.model) for chunk in chunks} == {
        ("chat.completion.chunk", "scripted")
    }
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == DEFAULT_TEXT
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_who_asks_for_it_is_told_the_usage_in_a_last_chunk(chat: AsyncOpenAI) -> None:
    chunks = await in_stream(chat, messages=[user("Hello")], stream_options={"include_usage": True})

    *before, last = chunks
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in before)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 56


async def test_reasoning_comes_beside_the_words(chat: AsyncOpenAI) -> None:
    asked = [user(script("think", text="Yes", reasoning="Hm"))]

    completion = await ask(chat, messages=asked)
    chunks = await in_stream(chat, messages=asked)

    message = completion.choices[0].message
    assert (message.content, (message.model_extra or {})["reasoning_content"]) == ("Yes", "Hm")
    deltas = [chunk.choices[0].delta for chunk in chunks]
    reasoning = [(delta.model_extra or {}).get("reasoning_content", "") for delta in deltas]
    assert "".join(reasoning) == "Hm"


async def test_a_tool_is_called_and_its_result_answered(
    chat: AsyncOpenAI, server: Server, tag: str
) -> None:
    asked = user(script(tag, tool_calls=[CALL]))
    first = await chat.chat.completions.create(
        model="scripted", messages=[asked], tools=[WEATHER], tool_choice="required"
    )

    message = first.choices[0].message
    assert (first.choices[0].finish_reason, message.content) == ("tool_calls", None)
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.arguments) == ("call_7", '{"city":"Cádiz"}')

    second = await chat.chat.completions.create(
        model="scripted",
        messages=[
            asked,
            message,  # pyright: ignore[reportArgumentType]  as OpenAI's own examples do
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny"},
            user(f"So? {script(tag, text='Sunny it is')}"),
        ],
        tools=[WEATHER],
    )

    assert second.choices[0].message.content == "Sunny it is"
    told = server.calls(tag)[-1]["messages"]
    assert [each["role"] for each in told] == ["user", "assistant", "tool", "user"]
    assert told[1]["tool_calls"][0]["id"] == told[2]["tool_call_id"] == "call_7"


async def test_the_stream_helper_puts_tool_calls_together(chat: AsyncOpenAI) -> None:
    calls = [CALL, {**CALL, "id": "call_8"}]
    asked = [user(script("two calls", text="Let me see", tool_calls=calls))]
    async with chat.chat.completions.stream(
        model="scripted", messages=asked, tools=[WEATHER]
    ) as stream:
        completion = await stream.get_final_completion()

    message = completion.choices[0].message
    assert message.content == "Let me see"
    assert [call.id for call in message.tool_calls or ()] == ["call_7", "call_8"]
    assert completion.choices[0].finish_reason == "tool_calls"


class City(BaseModel):
    name: str


async def test_an_answer_is_parsed_as_its_schema_has_it(
    chat: AsyncOpenAI, server: Server, tag: str
) -> None:
    completion = await chat.chat.completions.parse(
        model="scripted",
        messages=[user(script(tag, text='{"name": "Cádiz"}'))],
        response_format=City,
    )

    assert completion.choices[0].message.parsed == City(name="Cádiz")
    wanted = server.calls(tag)[0]["body"]["response_format"]["json_schema"]
    assert (wanted["name"], wanted["strict"]) == ("City", True)
    assert wanted["schema"]["properties"]["name"]["type"] == "string"


async def test_functions_are_called_as_they_were_before_tools(
    chat: AsyncOpenAI, server: Server, tag: str
) -> None:
    asked = user(script(tag, tool_calls=[CALL]))
    functions: Any = [WEATHER["function"]]
    first = await chat.chat.completions.create(
        model="scripted",
        messages=[asked],
        functions=functions,
        function_call={"name": "get_weather"},
    )
    chunks = await in_stream(chat, messages=[asked], functions=functions)

    choice = first.choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert choice.message.function_call.name == "get_weather"
    assert choice.message.tool_calls is None
    called = [delta for chunk in chunks if (delta := chunk.choices[0].delta.function_call)]
    assert [each.arguments for each in called] == [CALL["arguments"]]
    assert chunks[-1].choices[0].finish_reason == "function_call"
    body = server.calls(tag)[0]["body"]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    assert body["parallel_tool_calls"] is False

    await chat.chat.completions.create(
        model="scripted",
        messages=[
            asked,
            choice.message,  # pyright: ignore[reportArgumentType]  as OpenAI's own examples do
            {"role": "function", "name": "get_weather", "content": "Sunny"},
        ],
        functions=functions,
    )
    told = server.calls(tag)[-1]["messages"]
    assert told[1]["tool_calls"][0]["id"] == told[2]["tool_call_id"]


async def test_pictures_and_files_are_handed_on(
    chat: AsyncOpenAI, server: Server, tag: str
) -> None:
    picture = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
    }
    file = {
        "type": "file",
        "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
    }
    content: Any = [{"type": "text", "text": tag}, picture, file]

    await ask(chat, messages=[{"role": "user", "content": content}])

    assert server.calls(tag)[0]["messages"][0]["content"] == content


@pytest.mark.parametrize(
    ("fault", "raised", "code"),
    [
        (
            {"status": 429, "error_body": '{"error":{"code":"insufficient_quota"}}'},
            openai.RateLimitError,
            "rate_limit_exceeded",
        ),
        ({"status": 400, "error_body": "no"}, openai.BadRequestError, "provider_rejected"),
        ({"status": 413}, openai.BadRequestError, "context_length_exceeded"),
        ({"status": 401}, openai.InternalServerError, "provider_unauthorized"),
        ({"content_filter": True}, openai.BadRequestError, "content_filter"),
        ({"error_at": 0}, openai.InternalServerError, "provider_error"),
    ],
)
async def test_a_providers_fault_is_the_sdks_own_error(
    chat: AsyncOpenAI, fault: dict[str, Any], raised: type[openai.APIStatusError], code: str
) -> None:
    asked = [user(script("fault", **fault))]

    with pytest.raises(raised) as whole:
        await ask(chat, messages=asked)
    with pytest.raises(raised) as streamed:
        await in_stream(chat, messages=asked)

    assert whole.value.code == streamed.value.code == code


async def test_a_fault_in_the_middle_of_a_stream_is_raised_there(chat: AsyncOpenAI) -> None:
    stream = await chat.chat.completions.create(
        model="scripted", messages=[user(script("fault", error_at=9, pace_ms=30))], stream=True
    )
    said: list[str] = []
    with pytest.raises(openai.APIError) as error:
        await listen(stream, said)

    assert error.value.code == "provider_error"
    assert "".join(said).startswith("A tertulia is")


async def test_what_would_fail_again_is_not_asked_again(
    chat: AsyncOpenAI, server: Server, tag: str
) -> None:
    with pytest.raises(openai.InternalServerError):
        await chat.with_options(max_retries=2).chat.completions.create(
            model="scripted", messages=[user(script(tag, status=403))]
        )

    assert len(server.calls(tag)) == 1


async def test_an_unknown_model_is_not_found(chat: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        await chat.chat.completions.create(model="gpt-none", messages=[user("Hello")])

    assert (error.value.code, error.value.param) == ("model_not_found", "model")


async def test_a_stranger_is_not_let_in(server: Server) -> None:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="sk-none") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="scripted", messages=[user("Hello")])


async def test_what_is_not_stored_is_gone_when_it_was_answered(
    chat: AsyncOpenAI, ana: Person, server: Server
) -> None:
    completion = await ask(chat, messages=[user("Hello")])
    await in_stream(chat, messages=[user("Hello")])

    with pytest.raises(openai.NotFoundError):
        await chat.chat.completions.retrieve(completion.id)
    assert (await ana.call("GET", "/conversations")).json() == []
    await until(lambda: nothing_is_left(server, ana), "the conversations to be deleted")


@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_ends_with_its_client(
    chat: AsyncOpenAI, server: Server, ana: Person, tag: str, *, streams: bool
) -> None:
    asked = [user(script(tag, endless=True, pace_ms=50))]
    if streams:
        stream = await chat.chat.completions.create(model="scripted", messages=asked, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            await ask(chat, messages=asked, timeout=1)

    await until(lambda: server.calls(tag)[0]["disconnected"], "the model to be stopped")
    await until(lambda: nothing_is_left(server, ana), "the conversation to be deleted")


async def test_a_stored_answer_of_a_client_that_left_keeps_what_was_said(
    chat: AsyncOpenAI, server: Server, ana: Person, tag: str
) -> None:
    stream = await chat.chat.completions.create(
        model="scripted",
        messages=[user(script(tag, endless=True, pace_ms=50))],
        stream=True,
        store=True,
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()

    await until(lambda: server.calls(tag)[0]["disconnected"], "the model to be stopped")
    (conversation,) = (await ana.call("GET", "/conversations")).json()
    runs = (await ana.call("GET", f"/conversations/{conversation['id']}/runs")).json()
    assert [run["status"] for run in runs] == ["cancelled"]


async def test_with_a_key_an_answer_outlives_its_client_and_a_retry_gets_it(
    chat: AsyncOpenAI, server: Server, tag: str
) -> None:
    asked: Any = {
        "messages": [user(script(tag, pace_ms=50))],
        "extra_headers": {"Idempotency-Key": tag},
    }
    with pytest.raises(openai.APITimeoutError):
        await ask(chat, timeout=0.5, **asked)

    first = await ask(chat, **asked)
    again = await ask(chat, **asked)

    assert first.choices[0].message.content == DEFAULT_TEXT
    assert again == first
    assert len(server.calls(tag)) == 1
    with pytest.raises(openai.BadRequestError) as error:
        await ask(chat, **asked | {"messages": [user("Another")]})
    assert error.value.code == "idempotency_key_reused"


async def test_a_stored_answer_is_found_and_labelled(chat: AsyncOpenAI, ana: Person) -> None:
    made = await chat.chat.completions.create(
        model="scripted",
        messages=[
            {"role": "system", "content": "Be brief"},
            user("What is a tertulia, and who goes there?"),
        ],
        store=True,
        metadata={"trip": "7"},
    )

    found = await chat.chat.completions.retrieve(made.id)
    assert found == made
    assert found.metadata == {"trip": "7"}
    (conversation,) = (await ana.call("GET", "/conversations")).json()
    assert conversation["title"] == "What is a tertulia, and who goes there?"

    changed = await chat.chat.completions.update(made.id, metadata={"trip": "8"})
    assert (changed.id, changed.metadata) == (made.id, {"trip": "8"})
    assert (await chat.chat.completions.retrieve(made.id)).metadata == {"trip": "8"}


async def test_a_stored_answer_is_deleted_with_all_that_was_said_for_it(
    chat: AsyncOpenAI, ana: Person
) -> None:
    made = await ask(chat, messages=[user("Hello")], store=True)

    assert (await chat.chat.completions.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await chat.chat.completions.retrieve(made.id)
    assert (await ana.call("GET", "/conversations")).json() == []


async def test_the_messages_of_a_stored_answer_are_listed(ana: Person) -> None:
    picture: Any = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    asked: Any = [
        {"role": "developer", "content": "Be brief"},
        user("Hello"),
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
        {"role": "user", "content": [{"type": "text", "text": "See"}, picture]},
    ]
    # Not strictly: the SDK's type of these messages is the assistant's alone.
    async with AsyncOpenAI(base_url=f"{ana.urls[0]}/v1", api_key=ana.token) as chat:
        made = await chat.chat.completions.create(model="scripted", messages=asked, store=True)
        pages = chat.chat.completions.messages.list(made.id, limit=2)
        listed = [message async for message in pages]
        newest = await chat.chat.completions.messages.list(made.id, limit=1, order="desc")

    roles = ["developer", "user", "assistant", "tool", "user"]
    assert [message.role for message in listed] == roles
    assert [message.content for message in listed] == ["Be brief", "Hello", None, "Sunny", "See"]
    assert [call.id for call in listed[2].tool_calls or ()] == ["c1"]
    assert [part.type for part in listed[4].content_parts or ()] == ["text", "image_url"]
    assert newest.data == [listed[4]]
    assert len({message.id for message in listed}) == 5


async def test_two_users_never_meet(
    chat: AsyncOpenAI, bobs_chat: AsyncOpenAI, server: Server, tag: str
) -> None:
    asked: Any = {
        "messages": [user(tag)],
        "store": True,
        "extra_headers": {"Idempotency-Key": tag},
    }
    anas, bobs = await asyncio.gather(ask(chat, **asked), ask(bobs_chat, **asked))

    assert anas.id != bobs.id
    assert len(server.calls(tag)) == 2
    completions = bobs_chat.chat.completions
    for attempt in (
        lambda: completions.retrieve(anas.id),
        lambda: completions.update(anas.id, metadata={"a": "b"}),
        lambda: completions.delete(anas.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt()
    with pytest.raises(openai.NotFoundError):
        await completions.messages.list(anas.id)
    assert await chat.chat.completions.retrieve(anas.id) == anas


async def nothing_is_left(server: Server, person: Person) -> bool:
    """Whether not even the database has a conversation of this user."""
    count = "SELECT count(*) FROM conversations WHERE user_id = $1"
    return await fetch_number(server.dsn, count, person.id) == 0
