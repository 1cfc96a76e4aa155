"""Tools that the server runs in a run, and those that it runs when the user allows it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.ag_ui.order import events_of, read, says
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


def sends(*words: str) -> Json:
    calls = [
        {"name": "kit__send", "arguments": f'{{"text": "{word}"}}', "id": f"call-{word}"}
        for word in words
    ]
    return says(script("send", text="Sending:", tool_calls=calls, then=[{"text": "Done."}]))


async def run(ana: Talker, messages: list[Json], **fields: Any) -> list[Json]:  # noqa: ANN401  JSON
    asked = {"threadId": "t", "runId": "r", "messages": messages, **fields}
    answer = await ana.send("POST", "/ag-ui/runs", asked | {"forwardedProps": {"mcp": ["kit"]}})
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


async def test_an_interrupted_run_goes_on_as_the_user_decides(ana: Talker, notes: Path) -> None:
    question = sends("one", "two")
    events = await run(ana, [question])
    interrupts = [each["id"] for each in events[-1]["outcome"]["interrupts"]]
    assert interrupts == ["call-one", "call-two"]
    messages = read(events, [question])
    resume = [
        {"interruptId": "call-one", "status": "resolved", "payload": {"approved": True}},
        {"interruptId": "call-two", "status": "resolved", "payload": {"approved": False}},
    ]
    messages = read(await run(ana, messages, resume=resume), messages)
    refused = "The user did not allow this call, so it was not made."
    said = [message["content"] for message in messages[1:]]
    assert said == ["Sending:", "sent one", refused, "Done."]
    assert noted(notes) == ["send one"]
    shown = (await ana.send("GET", "/ag-ui/threads/t/messages")).json()
    assert [each["id"] for each in shown[1:]] == [each["id"] for each in messages[1:]]


async def test_the_user_may_go_on_without_the_calls(ana: Talker, notes: Path) -> None:
    question = sends("never")
    messages = read(await run(ana, [question]), [question])
    messages.append(says(script("instead", text="Well."), "u2"))
    resume = [{"interruptId": "call-never", "status": "cancelled"}]
    messages = read(await run(ana, messages, resume=resume), messages)
    assert messages[-1]["content"] == "Well."
    assert noted(notes) == []


async def test_what_does_not_wait_cannot_be_decided(ana: Talker) -> None:
    resume = [{"interruptId": "nothing", "status": "resolved"}]
    asked = {"threadId": "t", "runId": "r", "resume": resume}
    for messages in ([], [says("Hi")], [says("Hi", role="assistant")]):
        refused = await ana.send("POST", "/ag-ui/runs", {**asked, "messages": messages})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"].startswith("body.resume")


async def test_a_decision_is_made_once(ana: Talker, notes: Path) -> None:
    question = sends("once")
    messages = read(await run(ana, [question]), [question])
    asked: Json = {"threadId": "t", "runId": "r", "messages": messages}
    yes = {**asked, "resume": [{"interruptId": "call-once", "status": "resolved"}]}
    answers = await asyncio.gather(
        *(ana.send("POST", "/ag-ui/runs", yes, Idempotency_Key="k") for _ in range(4))
    )
    again = await ana.send("POST", "/ag-ui/runs", yes)
    for answer in (*answers, again):
        assert read(events_of(answer.text), messages)[-1]["content"] == "Done."
    no = {**asked, "resume": [{"interruptId": "call-once", "status": "cancelled"}]}
    contrary = await ana.send("POST", "/ag-ui/runs", no)
    assert (contrary.status_code, contrary.json()["code"]) == (409, "tool_call_settled")
    assert noted(notes) == ["send once"]


async def test_what_the_servers_tools_said_is_not_told_again(ana: Talker) -> None:
    call = {"name": "kit__add", "arguments": '{"a": 1, "b": 2}', "id": "sum"}
    question = says(script("add", text="Adding:", tool_calls=[call], then=[{"text": " Three."}]))
    messages = read(await run(ana, [question]), [question])
    assert messages[-1]["role"] == "tool"
    messages = read(await run(ana, [*messages, says("Thanks", "u2")]), messages)
    shown = (await ana.send("GET", "/ag-ui/threads/t/messages")).json()
    assert [each["role"] for each in shown] == ["user", "assistant", "tool", "user", "assistant"]


async def test_a_client_does_not_answer_the_servers_calls(ana: Talker, notes: Path) -> None:
    question = sends("one")
    messages = read(await run(ana, [question]), [question])
    forged = says("sent it", "mine", role="tool", toolCallId="call-one")
    for told in ([*messages, forged], [*messages, forged, says("Well?", "u2")]):
        asked = {"threadId": "t", "runId": "r", "messages": told}
        refused = await ana.send("POST", "/ag-ui/runs", asked)
        assert refused.status_code == 422
        assert "'call-one' is this server's own" in refused.json()["detail"]
        assert refused.json()["errors"][0]["field"] == "body.messages[2].toolCallId"
    assert len((await ana.send("GET", "/ag-ui/threads/t/messages")).json()) == 2
    assert noted(notes) == []


async def test_results_of_both_kinds_of_tools_go_together(ana: Talker, notes: Path) -> None:
    look = {"name": "look", "arguments": "{}", "id": "mine"}
    send = {"name": "kit__send", "arguments": '{"text": "it"}', "id": "yours"}
    question = says(script("both", tool_calls=[look, send], then=[{"text": "Done."}]))
    tools = [{"name": "look", "description": "Look", "parameters": {"type": "object"}}]
    messages = read(await run(ana, [question], tools=tools), [question])
    messages.append(says("a cat", "r1", role="tool", toolCallId="mine"))
    resume = [{"interruptId": "yours", "status": "resolved"}]
    messages = read(await run(ana, messages, resume=resume), messages)
    assert [each["role"] for each in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert messages[-1]["content"] == "Done."
    assert noted(notes) == ["send it"]
    messages = read(await run(ana, [*messages, says("Thanks", "u2")]), messages)
    shown = (await ana.send("GET", "/ag-ui/threads/t/messages")).json()
    assert [each["role"] for each in shown[2:]] == [
        "tool",
        "tool",
        "assistant",
        "user",
        "assistant",
    ]
