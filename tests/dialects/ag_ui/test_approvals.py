"""Tools that the server runs in a run, and those that it runs when the user allows it."""

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
        assert refused.json()["errors"][0]["field"] == "body.resume"
