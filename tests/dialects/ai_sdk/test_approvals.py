"""Tools that the server runs in an answer, and those that it runs when the user allows it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dialects.ai_sdk.client import chunks_of, read, said, text_of
from tests.dialects.tool_user import user_with_tools
from tests.kit.pair import script
from tests.kit.provider_script import Json
from tests.kit.tool_hosting import noted
from tests.runs.talking import Talker


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
async def ana(dsn: str, notes: Path) -> AsyncIterator[Talker]:
    async with user_with_tools(dsn, notes) as ana:
        yield ana


async def chat(ana: Talker, *messages: Json) -> list[Json]:
    """Send messages with the server's tools at hand, and return the chunks of the answer."""
    body = {"id": "c", "messages": messages, "mcp": ["kit"]}
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
    refused = "The user did not allow this call, so it was not made."
    assert outputs == ["sent one", refused, "sent three"]
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
    assert (again.status_code, again.json()["code"]) == (409, "tool_call_settled")
    assert noted(notes) == ["send once"]
