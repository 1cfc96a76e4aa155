"""An agent of AG-UI against a server."""

import asyncio
from typing import Any
from uuid import uuid1

import pytest

from tests.dialects.ag_ui.order import events_of, read, says
from tests.dialects.conftest import Server
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.provider_script import Json
from tests.kit.waiting import until

TOOL: Json = {"name": "look_up", "description": "Look it up", "parameters": {"type": "object"}}


class Agent:
    """One `HttpAgent`: it keeps its messages and sends all of them each time."""

    def __init__(self, person: Person, thread_id: str | None = None) -> None:
        self.person = person
        self.thread_id = thread_id or f"thread-{uuid1().hex[:12]}"
        self.messages: list[Json] = []

    async def post(self, **fields: Any) -> Any:  # noqa: ANN401  a response
        asked = {"threadId": self.thread_id, "runId": "r", "messages": self.messages, **fields}
        return await self.person.call("POST", "/ag-ui/runs", json=asked)

    async def run(self, **fields: Any) -> list[Json]:  # noqa: ANN401  JSON
        """Run and return the events, whose messages are then the agent's."""
        answer = await self.post(**fields)
        assert answer.status_code == 200, answer.text
        events = events_of(answer.text)
        self.messages = read(events, self.messages)
        return events

    async def say(self, text: str, **fields: Any) -> list[Json]:  # noqa: ANN401  JSON
        self.messages.append(says(text, f"{self.thread_id}-{len(self.messages)}"))
        return await self.run(**fields)

    async def history(self, query: str = "") -> list[Json]:
        found = await self.person.call("GET", f"/ag-ui/threads/{self.thread_id}/messages{query}")
        assert found.status_code == 200, found.text
        return found.json()


async def test_a_thread_that_the_client_made_up_is_made_and_found_again(
    server: Server, ana: Person
) -> None:
    agent = Agent(ana)
    events = await agent.say(script("ag-1", text="One two", reasoning="hm hm"), runId="mine")
    assert events[0]["runId"] == events[-1]["runId"] == "mine"
    await agent.say(script("ag-2", text="Three"))
    assert [message["content"] for message in agent.messages[1:3]] == ["hm hm", "One two"]
    [call] = server.calls("ag-2")
    assert [message["role"] for message in call["messages"]] == ["user", "assistant", "user"]
    shown = await agent.history()
    assert [each["id"] for each in shown if each["role"] != "user"] == [
        each["id"] for each in agent.messages if each["role"] != "user"
    ]
    again = Agent(ana, events[-1]["result"]["conversationId"])
    again.messages = shown
    await again.say(script("ag-3", text="Four"))
    assert len(await agent.history()) == 7


async def test_the_clients_tools_are_called_and_their_results_gone_on_with(
    server: Server, ana: Person
) -> None:
    agent = Agent(ana)
    call = {"name": "look_up", "arguments": '{"a": 1}', "id": "c1"}
    asks = script("ag-tool", text="Look:", tool_calls=[call], then=[{"text": "Sunny."}])
    events = await agent.say(asks, tools=[TOOL])
    assert events[-1]["outcome"]["pendingToolCallIds"] == ["c1"]
    agent.messages.append(says("sunny", "result", role="tool", toolCallId="c1"))
    await agent.run(tools=[TOOL])
    assert agent.messages[-1]["content"] == "Sunny."
    told = server.calls("ag-tool")[-1]
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "tool"]
    assert told["body"]["tools"][0]["function"]["name"] == "look_up"
    roles = [message["role"] for message in await agent.history()]
    assert roles == ["user", "assistant", "tool", "assistant"]


async def test_a_result_answers_a_call_that_was_made(ana: Person) -> None:
    agent = Agent(ana)
    call = {"name": "look_up", "arguments": "{}", "id": "c1"}
    await agent.say(script("ag-own", tool_calls=[call], then=[{"text": "Sunny."}]), tools=[TOOL])
    asked = list(agent.messages)
    for result in (
        [says("x", "r1", role="tool", toolCallId="nobody")],
        [says("x", f"r{at}", role="tool", toolCallId="c1") for at in range(2)],
    ):
        agent.messages = [*asked, *result]
        refused = await agent.post()
        assert refused.status_code == 422
        field = f"body.messages[{1 + len(result)}].toolCallId"
        assert refused.json()["errors"][0]["field"] == field
    assert len(await agent.history()) == 2
    agent.messages = [*asked, says("x", "r1", role="tool", toolCallId="c1")]
    await agent.run(tools=[TOOL])
    assert agent.messages[-1]["content"] == "Sunny."


async def test_the_same_message_posted_at_once_is_stored_once(ana: Person) -> None:
    agent = Agent(ana)
    agent.messages = [says(script("ag-twice", text="Once"))]
    answers = await asyncio.gather(*(agent.post() for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    ends = [events_of(answer.text)[-1] for answer in answers]
    assert any(end.get("result", {}).get("finishReason") == "stop" for end in ends)
    assert [each["role"] for each in await agent.history()] == ["user", "assistant"]


async def test_a_run_ends_with_its_client(server: Server, ana: Person) -> None:
    agent = Agent(ana)
    agent.messages = [says(script("ag-abort", text="word " * 3_000, pace_ms=20))]
    body = {"threadId": agent.thread_id, "runId": "r", "messages": agent.messages}
    async with ana.client.stream(
        "POST", f"{ana.urls[0]}/ag-ui/runs", json=body, headers=ana.headers
    ) as answer:
        async for line in answer.aiter_lines():
            if "TEXT_MESSAGE_CONTENT" in line:
                break
    await until(
        lambda: all(call["disconnected"] for call in server.calls("ag-abort")),
        "the model to be left",
        within_s=30,
    )
    [_, answered] = await agent.history()
    assert answered["content"].startswith("word")
    agent.messages.append(answered)
    await agent.say(script("ag-on", text="Well"))
    assert agent.messages[-1]["content"] == "Well"


async def test_with_a_key_a_run_outlives_its_client_and_is_found_again(ana: Person) -> None:
    agent = Agent(ana)
    key = {"Idempotency-Key": uuid1().hex}
    body = {
        "threadId": agent.thread_id,
        "runId": "r",
        "messages": [says(script("ag-key", text="word " * 20, pace_ms=20))],
    }
    async with ana.client.stream(
        "POST", f"{ana.urls[0]}/ag-ui/runs", json=body, headers={**ana.headers, **key}
    ) as answer:
        async for line in answer.aiter_lines():
            if "TEXT_MESSAGE_CONTENT" in line:
                break
    again = await ana.call("POST", "/ag-ui/runs", json=body, headers=key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert read(events_of(again.text))[0]["content"] == "word " * 20


async def test_what_the_application_tells_is_told_to_the_model(server: Server, ana: Person) -> None:
    agent = Agent(ana)
    agent.messages = [says("Be brief.", "s", role="system")]
    await agent.say("ag-context", context=[{"description": "Page", "value": "Settings"}])
    [call] = server.calls("ag-context")
    assert call["messages"][0] == {"role": "system", "content": "Be brief.\n\nPage: Settings"}
    assert [message["role"] for message in await agent.history()] == ["user", "assistant"]


async def test_an_edit_stands_beside_and_the_same_is_answered_again(ana: Person) -> None:
    agent = Agent(ana)
    await agent.say(script("ag-first", text="First"))
    agent.messages = [says(script("ag-other", text="Other"), agent.messages[0]["id"])]
    await agent.run()
    agent.messages = agent.messages[:1]
    await agent.run()
    [_, answer] = await agent.history()
    assert answer["content"] == "Other"
    assert answer["id"] == agent.messages[-1]["id"]


async def test_a_failure_is_an_event(ana: Person) -> None:
    events = await Agent(ana).say(script("ag-fail", text="One two", error_at=1))
    assert events[-1]["type"] == "RUN_ERROR"
    assert events[-1]["code"] == "provider_error"


async def test_pictures_are_kept(ana: Person) -> None:
    agent = Agent(ana)
    source = {"type": "data", "value": "iVBORw0KGgo=", "mimeType": "image/png"}
    content = [
        {"type": "text", "text": script("ag-picture", text="A dot")},
        {"type": "image", "source": source},
    ]
    agent.messages = [{"id": "u", "role": "user", "content": content}]
    await agent.run()
    assert (await agent.history())[0]["content"] == content


async def test_history_comes_in_pages(ana: Person) -> None:
    agent = Agent(ana)
    await agent.say(script("ag-page-1", text="One"))
    await agent.say(script("ag-page-2", text="Two"))
    assert [each["content"] for each in await agent.history("?limit=1")] == ["Two"]
    assert await Agent(ana).history() == []


async def test_two_users_never_meet(ana: Person, bob: Person) -> None:
    agent = Agent(ana)
    events = await agent.say(script("ag-mine", text="Secret"))
    theirs = events[-1]["result"]["conversationId"]
    foreign = Agent(bob, theirs)
    foreign.messages = [says("Hi")]
    assert (await foreign.post()).status_code == 404
    found = await bob.call("GET", f"/ag-ui/threads/{theirs}/messages")
    assert (found.status_code, found.json()["code"]) == (404, "conversation_not_found")
    same_name = Agent(bob, agent.thread_id)
    await asyncio.gather(same_name.say("Hi"), agent.say("Hi"))
    assert len(await same_name.history()) == 2


async def test_what_else_an_application_forwards_is_its_own(ana: Person) -> None:
    for forwarded in (None, "x", {"mine": 1}):
        agent = Agent(ana)
        await agent.say("Hi", forwardedProps=forwarded, state={"any": [1]}, parentRunId="r0")
        assert len(agent.messages) == 2


def _tool(**more: Any) -> list[Json]:  # noqa: ANN401  JSON
    return [says("3", role="tool", **more)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"threadId": ""}, "body.threadId"),
        ({"threadId": "a/b"}, "body.threadId"),
        ({"threadId": "a%2Fb"}, "body.threadId"),
        ({"threadId": ".."}, "body.threadId"),
        ({"runId": 3}, "body.runId"),
        ({"messages": []}, "body.messages"),
        ({"messages": [says("Hi", role="assistant")]}, "body.messages"),
        ({"messages": [says("Hi", role="boss")]}, "body.messages[0].role"),
        ({"messages": [says("")]}, "body.messages[0].content"),
        ({"messages": [says("x" * 100_001)]}, "body.messages[0].content"),
        ({"messages": [{"id": "u", "role": "user"}]}, "body.messages[0].content"),
        ({"messages": [says("Hi") | {"content": [3]}]}, "body.messages[0].content[0].type"),
        (
            {"messages": [says("Hi") | {"content": [{"type": "text"}]}]},
            "body.messages[0].content[0].text",
        ),
        (
            {"messages": [says("Hi") | {"content": [{"type": "image"}]}]},
            "body.messages[0].content[0].source.value",
        ),
        ({"messages": _tool()}, "body.messages[0].toolCallId"),
        ({"messages": [*_tool(toolCallId="c"), says("")]}, "body.messages[1].content"),
        (
            {"messages": [_tool(toolCallId="c")[0] | {"content": Json()}]},
            "body.messages[0].content",
        ),
        ({"tools": [{"name": "no spaces"}]}, "body.tools[0].name"),
        ({"context": [{"value": "x"}]}, "body.context[0].description"),
        ({"forwardedProps": {"model": 3}}, "body.forwardedProps.model"),
        ({"forwardedProps": {"mcp": ["nothing"]}}, "body.forwardedProps.mcp[0]"),
        ({"resume": [{"interruptId": "x", "status": "resolved"}]}, "body.resume"),
    ],
)
async def test_what_is_wrong_is_named(ana: Person, fields: Json, field: str) -> None:
    agent = Agent(ana)
    agent.messages = [says("Hi")]
    refused = await agent.post(**fields)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"].startswith(field), refused.text
