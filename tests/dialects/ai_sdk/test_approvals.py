"""Tools that the server runs in an answer, and those that it runs when the user allows it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.ai_sdk.client import chunks_of, read, said, text_of
from tests.dialects.tool_user import user_with_tools
from tests.kit.pair import script
from tests.kit.provider_script import Json
from tests.kit.tool_hosting import noted
from tests.runs.talking import Talker

LOOK: Json = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
REFUSED = "The user did not allow this call, so it was not made."


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
async def ana(dsn: str, notes: Path) -> AsyncIterator[Talker]:
    async with user_with_tools(dsn, notes) as ana:
        yield ana


async def chat(ana: Talker, *messages: Json, **more: Any) -> list[Json]:  # noqa: ANN401  JSON
    """Send messages with the server's tools at hand, and return the chunks of the answer."""
    body = {"id": "c", "messages": messages, "mcp": ["kit"], **more}
    answer = await ana.send("POST", "/ai-sdk/chat", body)
    assert answer.status_code == 200, answer.text
    return chunks_of(answer.text)


async def history(ana: Talker) -> list[Json]:
    return (await ana.send("GET", "/ai-sdk/chat/c/messages")).raise_for_status().json()


def sends(*words: str) -> str:
    calls = [
        {"name": "kit__send", "arguments": f'{{"text": "{word}"}}', "id": f"call-{word}"}
        for word in words
    ]
    return script("send", text="Sending:", tool_calls=calls, then=[{"text": "Done."}])


def decide(asked: Json, **word: Any) -> None:  # noqa: ANN401  JSON
    """Say to all calls of an answer whether they may be made."""
    for call in asked["parts"][2:]:
        call["state"] = "approval-responded"
        call["approval"] |= word


def read_again(body: str) -> Json:
    """Return what a client reads that shows the calls already."""
    return read([chunk for chunk in chunks_of(body) if not chunk["type"].startswith("tool")])


async def test_what_the_server_may_run_is_run_in_the_answer(ana: Talker) -> None:
    call = {"name": "kit__add", "arguments": '{"a": 1, "b": 2}', "id": "sum"}
    words = script("add", text="Adding:", tool_calls=[call], then=[{"text": "Three."}])
    answer = read(await chat(ana, said(words)))
    assert answer["parts"][2:] == [
        {
            "type": "tool-kit__add",
            "toolCallId": "sum",
            "input": {"a": 1, "b": 2},
            "providerExecuted": True,
            "state": "output-available",
            "output": 3,
        },
        {"type": "text", "text": "Three.", "state": "done"},
    ]
    assert (await history(ana))[1]["parts"] == answer["parts"]


async def test_what_the_user_decides_is_done_and_gone_on_with(ana: Talker, notes: Path) -> None:
    question = said(sends("one", "two", "three"))
    asked = read(await chat(ana, question))
    calls = asked["parts"][2:]
    assert [call["state"] for call in calls] == ["approval-requested"] * 3
    assert (await history(ana))[1]["parts"] == asked["parts"]
    for call, approved in zip(calls, (True, False, True), strict=True):
        call["state"] = "approval-responded"
        call["approval"] |= {"approved": approved}
    chunks = await chat(ana, question, {"role": "assistant", **asked})
    outputs = [chunk["output"] for chunk in chunks if chunk["type"] == "tool-output-available"]
    assert outputs == ["sent one", REFUSED, "sent three"]
    assert noted(notes) == ["send one", "send three"]
    assert chunks[0]["messageId"] == asked["id"]
    assert chunks[-1]["finishReason"] == "stop"
    [_, shown] = await history(ana)
    assert shown["id"] == asked["id"]
    assert text_of(shown) == "Sending:Done."
    assert [part["output"] for part in shown["parts"] if "output" in part] == outputs


async def test_a_decision_is_made_once(ana: Talker, notes: Path) -> None:
    question = said(sends("once"))
    asked = read(await chat(ana, question))
    call = asked["parts"][2]
    call["state"] = "approval-responded"
    call["approval"] |= {"approved": True}
    messages = [question, {"role": "assistant", **asked}]
    await chat(ana, *messages)
    again = await ana.send("POST", "/ai-sdk/chat", {"id": "c", "messages": messages})
    assert again.headers["Idempotent-Replayed"] == "true"
    assert text_of(read_again(again.text)) == "Done."
    call["approval"] |= {"approved": False}
    contrary = await ana.send("POST", "/ai-sdk/chat", {"id": "c", "messages": messages})
    assert (contrary.status_code, contrary.json()["code"]) == (409, "tool_call_settled")
    assert noted(notes) == ["send once"]


async def test_decisions_that_come_at_once_are_one(ana: Talker, notes: Path) -> None:
    question = said(sends("one", "two"))
    asked = read(await chat(ana, question))
    decide(asked, approved=True)
    body = {"id": "c", "messages": [question, {"role": "assistant", **asked}]}
    answers = await asyncio.gather(
        *(ana.send("POST", "/ai-sdk/chat", body, Idempotency_Key="k") for _ in range(4)),
        *(ana.send("POST", "/ai-sdk/chat", body) for _ in range(4)),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert {text_of(read_again(answer.text)) for answer in answers} == {"Done."}
    assert noted(notes) == ["send one", "send two"]
    later = await ana.send("POST", "/ai-sdk/chat", body, Idempotency_Key="k")
    assert text_of(read_again(later.text)) == "Done."


async def test_the_model_is_told_why_a_call_is_not_allowed(ana: Talker) -> None:
    question = said(sends("one"))
    asked = read(await chat(ana, question))
    decide(asked, approved=False, reason="Not today")
    chunks = await chat(ana, question, {"role": "assistant", **asked})
    [output] = [each["output"] for each in chunks if each["type"] == "tool-output-available"]
    assert output == f"{REFUSED} The user says: Not today"


async def test_a_client_does_not_answer_the_servers_calls(ana: Talker, notes: Path) -> None:
    question = said(sends("one"))
    asked = read(await chat(ana, question))
    asked["parts"][2] |= {"state": "output-available", "output": "sent it"}
    forged = [question, {"role": "assistant", **asked}]
    for messages in (forged, [*forged, said("Well?", "u2")]):
        answer = await ana.send("POST", "/ai-sdk/chat", {"id": "c", "messages": messages})
        assert answer.status_code == 422
        assert "'call-one' is this server's own" in answer.json()["detail"]
        assert answer.json()["errors"][0]["field"] == "body.messages[1].parts[2]"
    assert len(await history(ana)) == 2
    assert noted(notes) == []


async def test_outputs_of_both_kinds_of_tools_go_together(ana: Talker, notes: Path) -> None:
    look = {"name": "look", "arguments": "{}", "id": "mine"}
    send = {"name": "kit__send", "arguments": '{"text": "it"}', "id": "yours"}
    question = said(script("both", tool_calls=[look, send], then=[{"text": "Done."}]))
    asked = read(await chat(ana, question, tools=[LOOK]))
    mine, yours = asked["parts"][1:]
    mine |= {"state": "output-available", "output": "a cat"}
    messages = [question, {"role": "assistant", **asked}]
    early = await ana.send("POST", "/ai-sdk/chat", {"id": "c", "messages": messages})
    assert early.status_code == 422
    assert "waits to be approved" in early.json()["detail"]
    yours["state"] = "approval-responded"
    yours["approval"] |= {"approved": True}
    chunks = await chat(ana, *messages)
    assert chunks[-1]["finishReason"] == "stop"
    assert noted(notes) == ["send it"]
    [_, shown] = await history(ana)
    assert [part["output"] for part in shown["parts"] if "output" in part] == ["a cat", "sent it"]
    assert text_of(shown) == "Done."
