"""The official SDK, told to believe nothing, has responses of a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid1

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from tertulia.dialects.openai.input_items import compacted
from tests.dialects.conftest import Server
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.stage import fetch_number
from tests.kit.waiting import until

MODEL = "openai:scripted"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": None,
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
async def sdk(ana: Person) -> AsyncIterator[AsyncOpenAI]:
    async with strict(ana) as sdk:
        yield sdk


@pytest.fixture
async def bobs(bob: Person) -> AsyncIterator[AsyncOpenAI]:
    async with strict(bob) as sdk:
        yield sdk


@pytest.fixture
def tag() -> str:
    """A word that nobody else says."""
    return f"t{uuid1().hex}"


async def ask(sdk: AsyncOpenAI, input_: Any = "Hello", **asked: Any) -> Response:  # noqa: ANN401  the SDK's
    create: Any = sdk.responses.create
    return await create(model=MODEL, input=input_, **asked)


async def streamed(sdk: AsyncOpenAI, input_: Any = "Hello", **asked: Any) -> list[Any]:  # noqa: ANN401  the SDK's
    create: Any = sdk.responses.create
    return [event async for event in await create(model=MODEL, input=input_, stream=True, **asked)]


async def again(sdk: AsyncOpenAI, name: str, after: int | None = None) -> list[Any]:
    asked: dict[str, Any] = {} if after is None else {"starting_after": after}
    retrieve: Any = sdk.responses.retrieve
    return [event async for event in await retrieve(name, stream=True, **asked)]


def dumped(events: list[ResponseStreamEvent]) -> list[dict[str, Any]]:
    return [event.model_dump() for event in events]


async def test_a_whole_response_is_a_run_of_ours(sdk: AsyncOpenAI, ana: Person) -> None:
    response = await ask(sdk, "Hello", temperature=0.5, metadata={"for": "you"})

    assert response.output_text == DEFAULT_TEXT
    assert (response.status, response.temperature) == ("completed", 0.5)
    assert response.metadata == {"for": "you"}
    assert response.usage is not None
    assert response.usage.total_tokens > 0
    run = (await ana.call("GET", f"/runs/{response.id.removeprefix('resp_')}")).json()
    assert run["status"] == "completed"
    assert response.conversation is not None
    assert response.conversation.id.removeprefix("conv_") == run["conversation_id"].replace("-", "")
    path = f"/conversations/{run['conversation_id']}/messages"
    messages = (await ana.call("GET", path)).json()
    assert [each["content"] for each in messages] == ["Hello", DEFAULT_TEXT]


async def test_what_is_retrieved_is_what_was_created(sdk: AsyncOpenAI) -> None:
    made = await ask(sdk, script("Go", reasoning="Let me see"), tools=[WEATHER])
    assert (await sdk.responses.retrieve(made.id)).model_dump() == made.model_dump()


async def test_a_stream_is_numbered_and_the_same_whenever_it_is_read(sdk: AsyncOpenAI) -> None:
    events = await streamed(sdk, script("Go", reasoning="Let me think", pace_ms=5))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert "response.reasoning_summary_text.delta" in kinds
    assert kinds[-1] == "response.completed"
    response = events[-1].response
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert dumped(await again(sdk, response.id)) == dumped(events)
    for after in (0, 3, len(events) - 2):
        assert dumped(await again(sdk, response.id, after)) == dumped(events[after + 1 :])
    assert await again(sdk, response.id, len(events) - 1) == []


async def test_the_stream_helper_puts_the_answer_together(sdk: AsyncOpenAI) -> None:
    async with sdk.responses.stream(model=MODEL, input="Hello") as stream:
        async for _ in stream:
            pass
        assert (await stream.get_final_response()).output_text == DEFAULT_TEXT


async def test_a_background_response_is_there_at_once_and_ends_by_itself(sdk: AsyncOpenAI) -> None:
    response = await ask(sdk, script("Go", pace_ms=20), background=True)
    assert response.status == "queued"
    assert response.output == []

    events = await again(sdk, response.id)

    kinds = [event.type for event in events]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert events[-1].response.output_text == DEFAULT_TEXT
    assert (await sdk.responses.retrieve(response.id)).status == "completed"


async def test_a_background_stream_that_was_cut_goes_on_from_its_cursor(sdk: AsyncOpenAI) -> None:
    create: Any = sdk.responses.create
    stream = await create(model=MODEL, input=script("Go", pace_ms=20), background=True, stream=True)
    seen: list[Any] = []
    async for event in stream:
        seen.append(event)
        if len(seen) == 11:
            break
    await stream.close()

    rest = await again(sdk, seen[0].response.id, seen[-1].sequence_number)

    assert [each.sequence_number for each in (*seen, *rest)] == list(range(len(seen) + len(rest)))
    assert rest[-1].response.output_text == DEFAULT_TEXT


async def test_a_background_response_can_be_cancelled_twice(sdk: AsyncOpenAI) -> None:
    response = await ask(sdk, script("Go", endless=True, pace_ms=20), background=True)
    reading = asyncio.ensure_future(again(sdk, response.id))

    cancelled = await sdk.responses.cancel(response.id)

    assert cancelled.status == "cancelled"
    assert (await sdk.responses.cancel(response.id)).status == "cancelled"
    last = (await reading)[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "cancelled")


async def test_only_a_background_response_can_be_cancelled(sdk: AsyncOpenAI) -> None:
    response = await ask(sdk)
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.cancel(response.id)


async def test_a_response_ends_with_the_client_that_waits_for_it(
    sdk: AsyncOpenAI, server: Server, ana: Person
) -> None:
    create: Any = sdk.responses.create
    stream = await create(model=MODEL, input=script("Go", endless=True, pace_ms=20), stream=True)
    first = await anext(aiter(stream))
    await stream.close()

    async def is_cancelled() -> bool:
        run = await ana.call("GET", f"/runs/{first.response.id.removeprefix('resp_')}")
        return run.json()["status"] == "cancelled"

    await until(is_cancelled, "the run to be cancelled", within_s=30)
    assert (await sdk.responses.retrieve(first.response.id)).status == "cancelled"
    waiting = asyncio.ensure_future(ask(sdk, script("Go", endless=True, pace_ms=20, text="Never ")))
    active = "SELECT count(*) FROM runs WHERE status = 'running' AND user_id = $1"

    async def is_running() -> bool:
        return await fetch_number(server.dsn, active, ana.id) == 1

    async def is_over() -> bool:
        return await fetch_number(server.dsn, active, ana.id) == 0

    await until(is_running, "the run to begin", within_s=30)
    waiting.cancel()
    await until(is_over, "the run to end", within_s=30)


async def test_a_chain_is_one_conversation_and_can_fork(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    one = await ask(sdk, f"One {tag}")
    two = await ask(sdk, f"Two {tag}", previous_response_id=one.id)
    fork = await ask(sdk, f"Other {tag}", previous_response_id=one.id)

    assert one.conversation == two.conversation == fork.conversation
    assert two.previous_response_id == one.id
    told = [[each["content"] for each in call["messages"]] for call in server.calls(tag)]
    assert told[1] == [f"One {tag}", DEFAULT_TEXT, f"Two {tag}"]
    assert told[2] == [f"One {tag}", DEFAULT_TEXT, f"Other {tag}"]
    items = [item async for item in sdk.responses.input_items.list(two.id)]
    assert [item.type for item in items] == ["message"]


async def test_instructions_are_for_one_response(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    one = await ask(sdk, f"One {tag}", instructions="Be brief")
    await ask(sdk, f"Two {tag}", previous_response_id=one.id)

    first, second = (call["messages"] for call in server.calls(tag))
    assert first[0] == {"role": "system", "content": "Be brief"}
    assert [each["role"] for each in second] == ["user", "assistant", "user"]
    assert one.instructions == "Be brief"


async def test_system_and_developer_messages_instruct_the_model(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    sent = [
        {"role": "system", "content": f"You are a pirate {tag}"},
        {"type": "message", "role": "developer", "content": "Be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    ]
    await ask(sdk, sent)
    roles = [each["role"] for each in server.calls(tag)[0]["messages"]]
    assert roles == ["system", "system", "user"]


async def test_tools_are_called_and_answered(sdk: AsyncOpenAI, server: Server, tag: str) -> None:
    asked = await ask(sdk, script(tag, text="", tool_calls=[CALL]), tools=[WEATHER])
    call: Any = asked.output[0]
    assert (call.type, call.name, call.arguments) == (
        "function_call",
        CALL["name"],
        CALL["arguments"],
    )
    assert asked.tools[0].type == "function"

    result = {"type": "function_call_output", "call_id": call.call_id, "output": "12 °C"}
    await ask(sdk, [result], previous_response_id=asked.id, tools=[WEATHER])

    told = server.calls(tag)[1]["messages"]
    assert [each["role"] for each in told] == ["user", "assistant", "tool"]
    assert told[2]["tool_call_id"] == call.call_id
    events = await streamed(sdk, script("Go", text="", tool_calls=[CALL]), tools=[WEATHER])
    kinds = [event.type for event in events]
    assert "response.function_call_arguments.delta" in kinds
    assert "response.function_call_arguments.done" in kinds


async def test_the_whole_history_can_be_sent_each_time(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    first = await ask(sdk, script(f"a{tag}", text="I look", tool_calls=[CALL]), tools=[WEATHER])
    history = [
        {"role": "user", "content": tag},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"type": "function_call_output", "call_id": CALL["id"], "output": "12 °C"},
    ]
    await ask(sdk, history, tools=[WEATHER], store=False)

    told = next(call for call in server.calls(tag) if f"a{tag}" not in str(call["messages"]))
    assert [each["role"] for each in told["messages"]] == ["user", "assistant", "tool"]
    assert told["messages"][1]["content"] == "I look"
    assert told["messages"][1]["tool_calls"][0]["id"] == CALL["id"]


async def test_items_can_be_referred_to(sdk: AsyncOpenAI, server: Server, tag: str) -> None:
    one = await ask(sdk, f"One {tag}")
    reference = {"type": "item_reference", "id": one.output[0].id}
    await ask(sdk, [{"role": "user", "content": tag}, reference, {"role": "user", "content": "b"}])

    told = server.calls(tag)[1]["messages"]
    assert [each["content"] for each in told] == [tag, DEFAULT_TEXT, "b"]


async def test_what_shall_not_be_stored_is_gone(
    sdk: AsyncOpenAI, server: Server, ana: Person
) -> None:
    base = await ask(sdk, "One")
    response = await ask(sdk, "Two", store=False, previous_response_id=base.id)

    assert response.output_text == DEFAULT_TEXT
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(sdk, "Three", previous_response_id=response.id)
    assert refused.value.code == "previous_response_not_found"
    kept = "SELECT count(*) FROM conversations WHERE user_id = $1"
    assert await fetch_number(server.dsn, kept, ana.id) == 1


async def test_structured_output_is_asked_for_and_parsed(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    class Point(BaseModel):
        x: int

    response = await sdk.responses.parse(
        model=MODEL, input=script(tag, text='{"x": 3}'), text_format=Point
    )
    assert response.output_parsed == Point(x=3)
    wanted = server.calls(tag)[0]["body"]["response_format"]
    assert wanted["type"] == "json_schema"
    assert wanted["json_schema"]["name"] == "Point"


async def test_a_schema_reaches_the_model_in_its_own_order(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    # Models write their answer in this order: they think before they conclude.
    properties = {name: {"type": "string"} for name in ("thinking", "steps", "answer", "a")}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    tool = {"type": "function", "name": "f", "parameters": schema}
    text = {"format": {"type": "json_schema", "name": "answer", "schema": schema}}

    response = await ask(sdk, script(tag, text="{}"), tools=[tool], text=text)

    body = server.calls(tag)[0]["body"]
    told = body["response_format"]["json_schema"]["schema"]
    assert json.dumps(told) == json.dumps(schema)
    assert json.dumps(body["tools"][0]["function"]["parameters"]) == json.dumps(schema)
    again: Any = await sdk.responses.retrieve(response.id)
    assert json.dumps(again.tools[0].parameters) == json.dumps(schema)


async def test_a_result_that_comes_after_other_words_is_not_lost(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    sent = [
        {"role": "user", "content": tag},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
        {"role": "user", "content": "Well?"},
        {"type": "function_call_output", "call_id": "c1", "output": "12 °C"},
    ]
    await ask(sdk, sent, tools=[WEATHER])
    told = server.calls(tag)[0]["messages"]
    assert [each["role"] for each in told] == ["user", "assistant", "tool", "user"]
    assert told[2]["content"] == "12 °C"


async def test_pictures_reach_the_model_as_they_came(
    sdk: AsyncOpenAI, server: Server, tag: str
) -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"}
    content = [{"type": "input_text", "text": f"See {tag}"}, picture]
    response = await ask(sdk, [{"role": "user", "content": content}])

    told = server.calls(tag)[0]["messages"][0]["content"]
    assert told[1] == {
        "type": "image_url",
        "image_url": {"url": picture["image_url"], "detail": "low"},
    }
    items: Any = [item async for item in sdk.responses.input_items.list(response.id)]
    assert items[0].content[1].image_url == picture["image_url"]


async def test_an_answer_that_is_cut_short_says_so(sdk: AsyncOpenAI) -> None:
    response = await ask(sdk, script("Go", finish_reason="length"))
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_a_failure_is_an_error_or_the_end_of_the_stream(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        await ask(sdk, script("Go", status=429))
    last = (await streamed(sdk, script("Go", cut_after=3)))[-1]
    assert last.type == "response.failed"
    assert "provider_disconnected" in last.response.error.message


async def test_a_deleted_response_takes_its_conversation_along(sdk: AsyncOpenAI) -> None:
    one = await ask(sdk)
    two = await ask(sdk, previous_response_id=one.id)
    assert one.conversation is not None

    await sdk.responses.delete(one.id)
    assert (await sdk.responses.retrieve(two.id)).output_text == DEFAULT_TEXT
    await sdk.responses.delete(two.id)

    for gone in (one, two):
        with pytest.raises(openai.NotFoundError):
            await sdk.responses.retrieve(gone.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.conversations.retrieve(one.conversation.id)


async def test_two_users_never_meet(sdk: AsyncOpenAI, bobs: AsyncOpenAI) -> None:
    mine = await ask(sdk)
    assert mine.conversation is not None
    reference = [{"type": "item_reference", "id": mine.output[0].id}]
    for attempt in (
        bobs.responses.retrieve(mine.id),
        bobs.responses.delete(mine.id),
        bobs.responses.cancel(mine.id),
        bobs.conversations.retrieve(mine.conversation.id),
        bobs.conversations.delete(mine.conversation.id),
        ask(bobs, "x", conversation=mine.conversation.id),
        ask(bobs, reference),
    ):
        with pytest.raises(openai.NotFoundError):
            await attempt
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(bobs, "x", previous_response_id=mine.id)
    assert refused.value.code == "previous_response_not_found"


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"model": "nobody:nothing"}, "model", "model_not_found"),
        ({"temperature": 9}, "temperature", "invalid_value"),
        ({"extra_body": {"surprise": 1}}, "surprise", "unknown_parameter"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"type": "surprise"}]}, "input[0]", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "invalid_value"),
        ({"tool_choice": "perhaps"}, "tool_choice", "invalid_value"),
        ({"tool_choice": {"type": "function", "name": "nope"}}, "tool_choice", "invalid_value"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "nope"}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        (
            {
                "tools": [WEATHER],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [
                        {"type": "function", "name": "get_weather"},
                        {"type": "function", "name": "nope"},
                    ],
                },
            },
            "tool_choice",
            "invalid_value",
        ),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata", "invalid_value"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found"),
        ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
        ({"background": True, "store": False}, "store", "invalid_value"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "input[0].call_id",
            "invalid_value",
        ),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"include": ["message.output_text.logprobs"]}, "include", "invalid_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].image_url",
            "invalid_value",
        ),
    ],
)
async def test_a_bad_input_is_named(
    sdk: AsyncOpenAI, asked: dict[str, Any], param: str, code: str
) -> None:
    create: Any = sdk.responses.create
    with pytest.raises((openai.BadRequestError, openai.NotFoundError)) as refused:
        await create(**{"model": MODEL, "input": "Hello", **asked})
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("GET", "/responses/resp_1", None, "Response 'resp_1' not found"),
        ("GET", f"/responses/resp_{'0' * 32}", None, f"Response 'resp_{'0' * 32}' not found"),
        ("DELETE", f"/responses/{'x' * 150}", None, f"Response '{'x' * 100}…' not found"),
        ("GET", "/conversations/conv_1", None, "Conversation 'conv_1' not found"),
        ("POST", "/conversations/conv_1", {"metadata": {}}, "Conversation 'conv_1' not found"),
        ("DELETE", f"/conversations/conv_{'0' * 32}", None, f"'conv_{'0' * 32}' not found"),
        ("GET", "/chat/completions/chatcmpl-1", None, "Chat completion 'chatcmpl-1' not found"),
        ("GET", "/models/nobody:x", None, "No such model is available: 'nobody:x'"),
        ("POST", "/responses", {"model": "nobody:x", "input": "x"}, "available: 'nobody:x'"),
        (
            "POST",
            "/chat/completions",
            {"model": "nobody:x", "messages": [{"role": "user", "content": "x"}]},
            "available: 'nobody:x'",
        ),
        ("POST", "/embeddings", {"model": "nobody:x", "input": "x"}, "available: 'nobody:x'"),
        ("POST", "/responses", {"conversation": "conv_1", "input": "x"}, "Conversation 'conv_1'"),
        (
            "POST",
            "/responses",
            {"input": [{"type": "item_reference", "id": "msg_1"}]},
            "Item 'msg_1' not found",
        ),
    ],
)
async def test_what_is_missing_is_named(
    ana: Person, method: str, path: str, body: object, message: str
) -> None:
    answer = await ana.call(method, f"/v1{path}", json=body)
    assert answer.status_code == 404
    assert message in answer.json()["error"]["message"]


async def test_a_retry_with_its_key_is_one_response(
    sdk: AsyncOpenAI, tag: str, server: Server
) -> None:
    headers = {"Idempotency-Key": tag}
    one = await ask(sdk, f"Once {tag}", extra_headers=headers)
    two = await ask(sdk, f"Once {tag}", extra_headers=headers)
    assert one.model_dump() == two.model_dump()
    assert len(server.calls(tag)) == 1


async def test_no_title_is_asked_for(
    sdk: AsyncOpenAI, server: Server, ana: Person, tag: str
) -> None:
    await ask(sdk, f"Tell me about {tag} and what it is good for, in as many words as you like")
    listed = (await ana.call("GET", "/conversations")).json()
    assert listed[0]["title"].startswith(f"Tell me about {tag}")
    assert len(listed[0]["title"]) <= 61
    assert len(server.calls(tag)) == 1


async def test_what_a_request_refers_to_has_a_limit_as_a_whole(sdk: AsyncOpenAI) -> None:
    made = await sdk.conversations.create(items=[{"role": "user", "content": "x" * 900_000}])
    items: Any = await sdk.conversations.items.list(made.id)
    reference = {"type": "item_reference", "id": items.data[0].id}
    packed = {"type": "compaction", "encrypted_content": compacted("a" * 900_000)}
    for bomb in ([reference] * 2_000, [packed] * 700):
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(sdk, bomb)
        assert "characters, unpacked" in refused.value.message


async def test_nothing_that_is_stored_stands_in_what_is_not(
    sdk: AsyncOpenAI, ana: Person, tag: str
) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    # With a key it stays for an hour, for a retry.
    answer = await ana.call(
        "POST", "/v1/chat/completions", json=body, headers={"Idempotency-Key": tag}
    )
    hexadecimal = answer.json()["id"].removeprefix("chatcmpl-")
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(f"resp_{hexadecimal}")
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(sdk, "Go on", previous_response_id=f"resp_{hexadecimal}")
    assert refused.value.code == "previous_response_not_found"
    run = (await ana.call("GET", f"/runs/{hexadecimal}")).json()
    name = f"conv_{run['conversation_id'].replace('-', '')}"
    for attempt in (ask(sdk, "x", conversation=name), sdk.conversations.retrieve(name)):
        with pytest.raises(openai.NotFoundError):
            await attempt
    native = f"/conversations/{run['conversation_id']}"
    assert (await ana.call("GET", native)).status_code == 404
    assert (await ana.call("PATCH", native, json={"title": "Mine"})).status_code == 404


async def test_input_items_of_any_size_are_all_listed(sdk: AsyncOpenAI) -> None:
    sent = [{"role": "user", "content": f"{number}" * 300_000} for number in range(8)]
    response = await ask(sdk, sent)
    found: Any = [item async for item in sdk.responses.input_items.list(response.id, order="asc")]
    assert [item.content[0].text[0] for item in found] == list("01234567")


async def test_what_clients_ask_for_by_themselves_is_taken(sdk: AsyncOpenAI) -> None:
    response = await ask(
        sdk, include=["reasoning.encrypted_content"], store=False, service_tier="priority"
    )
    assert response.output_text == DEFAULT_TEXT
    # What it was served with, whatever was asked for.
    assert response.service_tier == "default"
