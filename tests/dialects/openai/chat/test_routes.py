"""Chat completions over HTTP: what is refused, by which name, and what a stream looks like."""

import json
from typing import Any

from tests.dialects.conftest import Server
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.waiting import until

CHAT = "/v1/chat/completions"
USER = {"role": "user", "content": "Hello"}
HELLO: dict[str, Any] = {"model": "scripted", "messages": [USER]}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": "m" * 201}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": [USER] * 2001}, "messages"),
    ({"messages": [USER, {"role": "robot", "content": "x"}]}, "messages[1].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}] * 501}]},
        "messages[0].content",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
        "messages[0].tool_calls[0].function",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"stream": "yes"}, "stream"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_completion_tokens": 1_000_001}, "max_completion_tokens"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": ""}, "stop[0]"),
    ({"seed": 1.5}, "seed"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"reasoning_effort": "huge"}, "reasoning_effort"),
    ({"verbosity": "huge"}, "verbosity"),
    ({"n": 2}, "n"),
    ({"n": True}, "n"),
    ({"logit_bias": {"5": 1}}, "logit_bias"),
    ({"logprobs": True}, "logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"audio": {"voice": "v", "format": "wav"}}, "audio"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"moderation": {"model": "x"}}, "moderation"),
    ({"service_tier": "slow"}, "service_tier"),
    ({"prompt_cache_retention": "9h"}, "prompt_cache_retention"),
    ({"user": "u" * 513}, "user"),
    ({"store": 1}, "store"),
    ({"metadata": {"k" * 65: "v"}}, f"metadata.{'k' * 65}.[key]"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"metadata": {str(number): "v" for number in range(17)}}, "metadata"),
    ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tools": [{**TOOL, "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{**TOOL, "x": 1}]}, "tools[0].x"),
    ({"tools": [TOOL] * 129}, "tools"),
    ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    ({"functions": [{"name": ""}]}, "functions[0].name"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
        "response_format.json_schema.name",
    ),
    ({"colour": "blue"}, "colour"),
]


async def test_every_wrong_input_is_named(ana: Person) -> None:
    for wrong, param in REFUSED:
        answer = await ana.call("POST", CHAT, json={**HELLO, **wrong})

        assert answer.status_code == 400, (wrong, answer.text)
        error = answer.json()["error"]
        assert error["param"] == param, (wrong, error)
        assert error["type"] == "invalid_request_error"
    assert (await ana.call("GET", "/conversations")).json() == []


async def test_what_is_missing_or_unknown_has_its_own_code(ana: Person) -> None:
    codes = {"unknown_parameter": {**HELLO, "x": 1}, "missing_required_parameter": {"model": "m"}}
    for code, body in codes.items():
        answer = await ana.call("POST", CHAT, json=body)
        assert answer.json()["error"]["code"] == code


async def test_no_other_name_is_a_completions(ana: Person) -> None:
    conversation = await ana.new_conversation(title="A talk")
    run = await ana.start_run(conversation, "Hello")
    await ana.end_of(run)
    for name in ("x", "chatcmpl-x", f"chatcmpl-{run.replace('-', '')}", f"resp_{run}"):
        for method, path in [("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/messages")]:
            body = {"metadata": None} if method == "POST" else None
            answer = await ana.call(method, f"{CHAT}/{name}{path}", json=body)
            assert answer.status_code == 404, (method, name, answer.text)
            assert answer.json()["error"]["code"] == "run_not_found"


async def test_frames_of_a_stream_are_data_alone_and_end_with_done(ana: Person) -> None:
    answer = await ana.call("POST", CHAT, json={**HELLO, "stream": True})

    assert answer.headers["content-type"].startswith("text/event-stream")
    greeting, *frames, nothing = answer.text.split("\n\n")
    assert (greeting, nothing) == (": ", "")
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    assert frames[-1] == "data: [DONE]"
    told = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]
    words = [chunk["choices"][0]["delta"].get("content", "") for chunk in told]
    assert "".join(words) == DEFAULT_TEXT


async def test_who_hears_nothing_for_long_is_told_that_the_stream_lives(
    ana: Person, server: Server
) -> None:
    asked = script(f"silence for {ana.name}", accept_stall=True)
    body = {**HELLO, "messages": [{"role": "user", "content": asked}], "stream": True}
    async with ana.client.stream(
        "POST", ana.urls[0] + CHAT, json=body, headers=ana.headers
    ) as answer:
        assert answer.status_code == 200
        assert await anext(answer.aiter_bytes()) == b": \n\n"

    await until(lambda: server.calls(ana.name)[0]["disconnected"], "the model to be stopped")


async def test_a_broken_stream_ends_with_an_error_and_not_with_done(ana: Person) -> None:
    asked = script("broken", error_at=3, pace_ms=30)
    answer = await ana.call(
        "POST",
        CHAT,
        json={**HELLO, "messages": [{"role": "user", "content": asked}], "stream": True},
    )

    assert answer.status_code == 200
    *_, last, _ = answer.text.split("\n\n")
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["type"]) == ("provider_error", "server_error")


async def test_a_cancelled_answer_says_so(ana: Person) -> None:
    asked = script("cancel me", endless=True, pace_ms=30)
    body = {**HELLO, "messages": [{"role": "user", "content": asked}], "store": True}
    async with ana.client.stream(
        "POST", ana.urls[0] + CHAT, json={**body, "stream": True}, headers=ana.headers
    ) as answer:
        lines = answer.aiter_lines()
        async for line in lines:
            if '"content":"A"' in line:
                break
        (conversation,) = (await ana.call("GET", "/conversations")).json()
        runs = (await ana.call("GET", f"/conversations/{conversation['id']}/runs")).json()
        await ana.call("POST", f"/runs/{runs[0]['id']}/cancel")
        rest = [line async for line in lines if line.startswith("data: ")]

    assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "answer_cancelled"
