"""Tools that the server calls itself, made by a real MCP server: in a run, or when approved."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tertulia.app import create_app
from tertulia.config import Settings
from tests.kit.pair import script
from tests.kit.replica import SECRET_KEY
from tests.kit.scripted_provider import ScriptedProvider
from tests.kit.tool_hosting import Json, config_file, noted, over_stdio
from tests.kit.waiting import until
from tests.runs.talking import Talker, frames, join

ROUNDS = 3
_GUARDED = {"default": "allow", "tools": {"send": "ask", "fail": "deny"}}
_CLIENT_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture
async def client(
    dsn: str, provider: ScriptedProvider, tmp_path: Path, notes: Path
) -> AsyncIterator[httpx2.AsyncClient]:
    missing = {"command": str(tmp_path / "nothing"), "default": "allow"}
    config = config_file(tmp_path, kit=over_stdio(notes, **_GUARDED), missing=missing)
    settings = Settings.model_validate(
        {
            "database_url": dsn,
            "secret_key": SECRET_KEY,
            "local_model": False,
            "openai_base_url": provider.base_url,
            "default_model": "openai:scripted",
            "pool_size": 9,
            "drain_s": 0,
            "mcp_config": config,
            "mcp_rounds": ROUNDS,
            "mcp_call_s": 5,
        }
    )
    app = create_app(settings)
    async with app.fastapi.router.lifespan_context(app.fastapi):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
async def ana(client: httpx2.AsyncClient) -> Talker:
    return await join(client, "ana")


@pytest.fixture
async def bob(client: httpx2.AsyncClient) -> Talker:
    return await join(client, "bob")


def call(tool: str, arguments: str = "{}", **more: str) -> Json:
    return {"name": f"kit__{tool}", "arguments": arguments, **more}


def calls(*wanted: Json, then: str = "Done.", **more: Any) -> str:  # noqa: ANN401  as in a script
    """Return a message whose answer makes these calls, and ends with words."""
    return script("tools", tool_calls=list(wanted), then=[{"text": then}], **more)


async def parts_of(talker: Talker, conversation: str, run: Json) -> list[Json]:
    message = await talker.message(conversation, run["message_id"])
    return message["parts"] or [{"type": "text", "text": message["content"]}]


async def events_of(talker: Talker, run: Json) -> list[tuple[str, Any]]:
    answer = await talker.send("GET", f"/runs/{run['id']}/events")
    return [(kind, data) for _, kind, data in frames(answer.text)]


async def decide(talker: Talker, run: Json, call_id: str, *, approve: bool) -> Json:
    """Approve or refuse a call and wait for the end of the new run."""
    path = f"/runs/{run['id']}/tool_calls/{call_id}"
    answer = await talker.send("POST", path, {"approve": approve})
    assert answer.status_code == 202, answer.text
    return await talker.ended(answer.json())


async def test_a_call_is_made_and_the_model_answers_with_its_result(
    ana: Talker, provider: ScriptedProvider, notes: Path
) -> None:
    conversation = await ana.new_conversation()
    content = calls(call("add", '{"a": 2, "b": 3}'), then="It is five.", text="Let me add.")
    run = await ana.ask(conversation, content, mcp=["kit"])
    assert run["status"] == "completed"
    made = {"call_id": "call_0", "name": "kit__add", "arguments": '{"a": 2, "b": 3}'}
    assert await parts_of(ana, conversation, run) == [
        {"type": "text", "text": "Let me add."},
        {"type": "tool_call", **made, "server": "kit"},
        {"type": "tool_result", "call_id": "call_0", "content": "5"},
        {"type": "text", "text": "It is five."},
    ]
    message = await ana.message(conversation, run["message_id"])
    assert message["content"] == "Let me add.It is five."
    assert message["finish_reason"] == "stop"
    assert noted(notes) == ["add 2 3"]
    first, second = (each for each in provider.calls if each.messages[0]["role"] != "system")
    offered = [tool["function"]["name"] for tool in first.body["tools"]]
    assert "kit__add" in offered
    assert "kit__fail" not in offered
    assert [each["role"] for each in second.messages] == ["user", "assistant", "tool"]
    assert second.messages[-1]["content"] == "5"


async def test_the_events_tell_who_calls_and_are_the_same_for_ever(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    content = calls(call("add", '{"a": 2, "b": 3}'), text="Let me add.")
    started = await ana.send(
        "POST",
        f"{conversation}/runs",
        {"content": content, "mcp": ["kit"]},
        Accept="text/event-stream",
    )
    live = frames(started.text)
    kinds = [kind for _, kind, _ in live]
    assert [kinds[at] for at in range(len(kinds)) if at == 0 or kinds[at] != kinds[at - 1]] == [
        "text",
        "tool_call",
        "tool_result",
        "text",
        "done",
    ]
    assert next(data for _, kind, data in live if kind == "tool_call")["server"] == "kit"
    run = live[-1][2]
    again = await ana.send("GET", f"/runs/{run['id']}/events")
    assert frames(again.text) == live


async def test_tokens_of_all_rounds_are_counted(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    usage = {"prompt_tokens": 10, "completion_tokens": 4}
    again = {"tool_calls": [call("add", '{"a": 1, "b": 1}')], "usage": usage}
    content = script("tools", **again, then=[again, {"text": "Two.", "usage": usage}])
    run = await ana.ask(conversation, content, mcp=["kit"])
    assert (run["usage"]["prompt_tokens"], run["usage"]["response_tokens"]) == (30, 12)


async def test_calls_of_several_rounds_have_ids_of_their_own(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    again = {"tool_calls": [call("add", '{"a": 1, "b": 1}'), call("add", '{"a": 2, "b": 2}')]}
    run = await ana.ask(conversation, script("t", **again, then=[again, {}]), mcp=["kit"])
    parts = await parts_of(ana, conversation, run)
    results = [part["call_id"] for part in parts if part["type"] == "tool_result"]
    assert results == ["call_0", "call_1", "call_0-2", "call_1-2"]


@pytest.mark.parametrize(
    "ids", [("x" * 65, ""), ("same", "same"), (" a ", "b\n"), (".", "a/../b"), ("\0", "\t")]
)
async def test_calls_have_ids_that_every_client_can_answer(
    ana: Talker, ids: tuple[str, str], provider: ScriptedProvider
) -> None:
    conversation = await ana.new_conversation()
    wanted = [{"name": "look", "arguments": "{}", "id": id_} for id_ in ids]
    await ana.ask(conversation, calls(*wanted, then="Two cats."), tools=[_CLIENT_TOOL])
    run = await ana.ask(conversation, calls(*wanted, then="Two dogs."), tools=[_CLIENT_TOOL])
    parts = await parts_of(ana, conversation, run)
    given = [part["call_id"] for part in parts]
    assert len(set(given)) == 2
    assert all(0 < len(id_) <= 64 and id_ == id_.strip() for id_ in given)
    results = [{"call_id": id_, "content": "a dog"} for id_ in given]
    after = await ana.ask(conversation, None, tool_results=results)
    assert (await ana.message(conversation, after["message_id"]))["content"] == "Two dogs."
    told = provider.calls[-1].messages
    assert [each["tool_call_id"] for each in told[-2:]] == given


async def test_calls_of_later_answers_have_ids_of_their_own(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    content = calls({"name": "look", "arguments": "{}"})
    runs = [await ana.ask(conversation, content, tools=[_CLIENT_TOOL]) for _ in range(2)]
    ids = [(await parts_of(ana, conversation, run))[0]["call_id"] for run in runs]
    assert ids == ["call_0", "call_0-2"]


async def test_after_so_many_rounds_the_model_has_to_answer(
    ana: Talker, provider: ScriptedProvider, notes: Path
) -> None:
    conversation = await ana.new_conversation()
    content = script("endless", tool_calls=[call("add", '{"a": 1, "b": 1}')])
    run = await ana.ask(conversation, content, mcp=["kit"])
    assert run["status"] == "completed"
    assert noted(notes) == ["add 1 1"] * ROUNDS
    asked = [each for each in provider.calls if "tools" in each.body]
    assert [each.body.get("tool_choice") for each in asked] == [None] * ROUNDS + ["none"]
    parts = await parts_of(ana, conversation, run)
    assert parts[-1]["type"] == "tool_call"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (call("add", "[1]"), "Error: the arguments are not a JSON object"),
        (call("fail"), "Error: there is no such tool."),
        (call("nothing"), "Error: there is no such tool."),
        (call("odd"), "(image, image/png, about 3 bytes, is left out)\na\ufffdb"),
        (call("big", '{"size": 60000}'), "x" * 50_000 + "\n(Cut here: 10000 characters"),
        (call("die"), "Error: no answer came from the tool."),
        (call("odd_name___-2f6b128c"), "fine"),
    ],
)
async def test_whatever_a_tool_does_the_model_is_told(ana: Talker, wanted: Json, said: str) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, calls(wanted), mcp=["kit"])
    assert run["status"] == "completed"
    _, result, text = await parts_of(ana, conversation, run)
    assert result["content"].startswith(said)
    assert text["text"] == "Done."


async def test_a_server_that_cannot_be_reached_fails_the_run(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, "Hello", mcp=["missing"])
    assert run["status"] == "failed"
    assert run["error"]["code"] == "mcp_server_unreachable"
    assert "missing" in run["error"]["message"]


async def test_a_call_that_the_user_must_allow_waits(ana: Talker, notes: Path) -> None:
    conversation = await ana.new_conversation()
    wanted = [call("send", '{"text": "a"}'), call("add", '{"a": 1, "b": 1}')]
    run = await ana.ask(conversation, calls(*wanted), mcp=["kit"])
    assert run["status"] == "completed"
    message = await ana.message(conversation, run["message_id"])
    assert message["finish_reason"] == "tool_calls"
    assert [part["type"] for part in message["parts"]] == ["tool_call", "tool_call", "tool_result"]
    assert [part.get("approval") for part in message["parts"]] == ["ask", None, None]
    assert noted(notes) == ["add 1 1"]


@pytest.mark.parametrize("approve", [True, False])
async def test_the_user_decides_and_the_model_goes_on(
    ana: Talker, notes: Path, provider: ScriptedProvider, approve: bool
) -> None:
    conversation = await ana.new_conversation()
    wanted = calls(call("send", '{"text": "a"}'), then="As you say.")
    run = await ana.ask(conversation, wanted, mcp=["kit"])
    after = await decide(ana, run, "call_0", approve=approve)
    assert after["status"] == "completed"
    result, text = await parts_of(ana, conversation, after)
    assert result["call_id"] == "call_0"
    assert result["content"].startswith("sent a" if approve else "The user did not allow")
    assert text["text"] == "As you say."
    assert noted(notes) == (["send a"] if approve else [])
    told = [each for each in provider.calls if each.messages[0]["role"] != "system"][-1].messages
    assert [each["role"] for each in told] == ["user", "assistant", "tool"]
    assert told[-1]["content"] == result["content"]
    # And from then on it is as if the answer had been one.
    await ana.ask(conversation, "Go on")
    told = [each for each in provider.calls if each.messages[0]["role"] != "system"][-1].messages
    assert [each["role"] for each in told] == ["user", "assistant", "tool", "assistant", "user"]


async def test_any_id_that_a_model_gives_a_call_can_be_decided(ana: Talker, notes: Path) -> None:
    conversation = await ana.new_conversation()
    wanted = call("send", '{"text": "a"}', id="run/1 of 2?#日")
    run = await ana.ask(conversation, calls(wanted), mcp=["kit"])
    await decide(ana, run, "run/1%20of%202%3F%23%E6%97%A5", approve=True)
    assert noted(notes) == ["send a"]


async def test_a_decision_is_taken_once(ana: Talker, bob: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, calls(call("send", '{"text": "a"}')), mcp=["kit"])
    path = f"/runs/{run['id']}/tool_calls/call_0"
    foreign = await bob.send("POST", path, {"approve": True})
    assert (foreign.status_code, foreign.json()["code"]) == (404, "run_not_found")
    wrong = await ana.send("POST", path, {"approve": "yes"})
    assert wrong.status_code == 422
    unknown = await ana.send("POST", f"{path}0", {"approve": True})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "tool_call_not_found")
    await decide(ana, run, "call_0", approve=True)
    contrary = await ana.send("POST", path, {"approve": False}, Idempotency_Key="no")
    assert (contrary.status_code, contrary.json()["code"]) == (409, "tool_call_settled")
    again = [await ana.send("POST", path, {"approve": True}, Idempotency_Key="y") for _ in range(2)]
    assert [answer.headers["Idempotent-Replayed"] for answer in again] == ["true"] * 2
    assert len({answer.json()["id"] for answer in again}) == 1


async def test_two_decisions_at_once_are_one(ana: Talker, notes: Path) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, calls(call("send", '{"text": "a"}')), mcp=["kit"])
    path = f"/runs/{run['id']}/tool_calls/call_0"
    answers = await asyncio.gather(
        *(ana.send("POST", path, {"approve": True}) for _ in range(3)),
        *(ana.send("POST", path, {"approve": False}) for _ in range(3)),
    )
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert len(accepted) == 3
    assert len({answer.json()["id"] for answer in accepted}) == 1
    assert {answer.status_code for answer in answers} == {202, 409}
    await ana.ended(accepted[0].json())
    assert len(noted(notes)) <= 1


async def test_a_repeated_decision_with_its_key_finds_its_run(ana: Talker, notes: Path) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, calls(call("send", '{"text": "a"}')), mcp=["kit"])
    path = f"/runs/{run['id']}/tool_calls/call_0"
    answers = [
        await ana.send("POST", path, {"approve": True}, Idempotency_Key="once") for _ in range(2)
    ]
    assert answers[0].json()["id"] == answers[1].json()["id"]
    await ana.ended(answers[0].json())
    assert noted(notes) == ["send a"]


async def test_who_goes_on_talking_has_refused(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, calls(call("send", '{"text": "a"}')), mcp=["kit"])
    await ana.ask(conversation, "Something else")
    answer = await ana.send("POST", f"/runs/{run['id']}/tool_calls/call_0", {"approve": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "tool_call_settled")


async def test_the_model_is_asked_when_the_last_of_several_calls_is_decided(
    ana: Talker, notes: Path, provider: ScriptedProvider
) -> None:
    conversation = await ana.new_conversation()
    wanted = [call("send", '{"text": "a"}'), call("send", '{"text": "b"}')]
    run = await ana.ask(conversation, calls(*wanted), mcp=["kit"])
    asked_before = len(provider.calls)
    first = await decide(ana, run, "call_1", approve=True)
    assert (await parts_of(ana, conversation, first))[0]["content"] == "sent b"
    assert (await ana.message(conversation, first["message_id"]))["finish_reason"] == "tool_calls"
    assert len(provider.calls) == asked_before
    last = await decide(ana, run, "call_0", approve=False)
    result, text = await parts_of(ana, conversation, last)
    assert result["content"].startswith("The user did not allow")
    assert text["text"] == "Done."
    assert noted(notes) == ["send b"]


async def test_a_run_that_goes_on_may_ask_for_the_next_decision(ana: Talker, notes: Path) -> None:
    conversation = await ana.new_conversation()
    again = {"tool_calls": [call("send", '{"text": "a"}')]}
    run = await ana.ask(conversation, script("t", **again, then=[again, {}]), mcp=["kit"])
    second = await decide(ana, run, "call_0", approve=True)
    assert (await ana.message(conversation, second["message_id"]))["finish_reason"] == "tool_calls"
    third = await decide(ana, second, "call_0-2", approve=True)
    assert third["status"] == "completed"
    assert noted(notes) == ["send a"] * 2


async def test_calls_of_the_client_end_the_run_and_their_results_are_handed_back(
    ana: Talker, notes: Path, provider: ScriptedProvider
) -> None:
    conversation = await ana.new_conversation()
    wanted = [{"name": "look", "arguments": "{}"}, call("add", '{"a": 1, "b": 1}')]
    run = await ana.ask(conversation, calls(*wanted), mcp=["kit"], tools=[_CLIENT_TOOL])
    parts = await parts_of(ana, conversation, run)
    assert [part["type"] for part in parts] == ["tool_call", "tool_call", "tool_result"]
    assert "server" not in parts[0] or parts[0]["server"] is None
    assert noted(notes) == ["add 1 1"]
    results = [{"call_id": "call_0", "content": "a cat"}]
    after = await ana.ask(conversation, None, tool_results=results)
    assert (await ana.message(conversation, after["message_id"]))["content"] == "Done."
    told = [each for each in provider.calls if each.messages[0]["role"] != "system"][-1].messages
    assert [each["role"] for each in told] == ["user", "assistant", "tool", "tool"]
    assert {each["content"] for each in told[2:]} == {"2", "a cat"}
    messages = (await ana.send("GET", f"{conversation}/messages")).json()
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]


async def test_results_without_any_server_are_handed_back_too(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    content = calls({"name": "look", "arguments": "{}"}, then="A cat.")
    await ana.ask(conversation, content, tools=[_CLIENT_TOOL])
    results = [{"call_id": "call_0", "content": "a cat"}]
    after = await ana.ask(conversation, "And now?", tool_results=results)
    assert after["status"] == "completed"
    messages = (await ana.send("GET", f"{conversation}/messages")).json()
    assert [each["role"] for each in messages] == ["user", "assistant", "tool", "user", "assistant"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"mcp": ["kit", "other"]}, "body.mcp[1]"),
        ({"mcp": [1]}, "body.mcp[0]"),
        (
            {
                "mcp": ["kit"],
                "tools": [{**_CLIENT_TOOL}, {"type": "function", "function": {"name": "kit__add"}}],
            },
            "body.tools[1].function.name",
        ),
        ({"tool_results": [{"call_id": "c", "content": "x"}]}, "body.tool_results[0].call_id"),
        ({"tool_results": [{"call_id": "", "content": "x"}]}, "body.tool_results[0].call_id"),
        ({"tool_results": [{"call_id": "c"}]}, "body.tool_results[0].content"),
    ],
)
async def test_what_cannot_be_meant_is_refused(ana: Talker, fields: Json, wrong: str) -> None:
    conversation = await ana.new_conversation()
    answer = await ana.send("POST", f"{conversation}/runs", {"content": "Hello", **fields})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == wrong
    assert (await ana.send("GET", f"{conversation}/messages")).json() == []


async def test_a_result_is_handed_back_once_and_only_for_the_clients_calls(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    wanted = [{"name": "look", "arguments": "{}"}, call("send", '{"text": "a"}')]
    run = await ana.ask(conversation, calls(*wanted), mcp=["kit"], tools=[_CLIENT_TOOL])
    results = [{"call_id": "call_0", "content": "a cat"}]
    early = await ana.send("POST", f"{conversation}/runs", {"tool_results": results})
    assert early.json()["errors"][0]["field"] == "body.tool_results"
    settled = await decide(ana, run, "call_1", approve=False)
    assert [part["type"] for part in await parts_of(ana, conversation, settled)] == ["tool_result"]
    twice = await ana.send("POST", f"{conversation}/runs", {"tool_results": results * 2})
    assert twice.json()["errors"][0]["field"] == "body.tool_results[1].call_id"
    await ana.ask(conversation, None, tool_results=results)
    again = await ana.send("POST", f"{conversation}/runs", {"tool_results": results})
    assert again.json()["errors"][0]["field"] == "body.content", "there is nothing new"
    other = [{"call_id": "call_0", "content": "a dog"}]
    late = await ana.send("POST", f"{conversation}/runs", {"tool_results": other})
    assert late.json()["errors"][0]["field"] == "body.tool_results[0].call_id"


async def test_a_cancelled_run_waits_for_no_tool(ana: Talker, notes: Path) -> None:
    conversation = await ana.new_conversation()
    content = calls(call("wait", '{"text": "long"}'), text="A moment.")
    run = await ana.start(conversation, content, mcp=["kit"])
    await until(lambda: noted(notes) == ["wait long"], "the call", within_s=30)
    cancelled = await ana.send("POST", f"/runs/{run['id']}/cancel")
    assert cancelled.json()["status"] == "cancelled"
    parts = await parts_of(ana, conversation, run)
    assert [part["type"] for part in parts] == ["text", "tool_call"]
    # The server is as good as before.
    after = await ana.ask(conversation, calls(call("add", '{"a": 1, "b": 1}')), mcp=["kit"])
    assert (await parts_of(ana, conversation, after))[1]["content"] == "2"


async def test_a_tool_that_never_answers_is_given_up(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    wanted = [call("wait", '{"text": "for ever"}'), call("add", '{"a": 1, "b": 1}')]
    run = await ana.start(conversation, calls(*wanted), mcp=["kit"])
    await until(lambda: has_ended(ana, run), "the end", within_s=60)
    _, _, lost, found, text = await parts_of(ana, conversation, run)
    assert lost["content"].startswith("Error: no answer came from the tool.")
    assert (found["content"], text["text"]) == ("2", "Done.")


async def has_ended(talker: Talker, run: Json) -> bool:
    return (await talker.send("GET", f"/runs/{run['id']}")).json()["status"] == "completed"


async def test_the_configured_servers_are_listed_for_users(
    ana: Talker, client: httpx2.AsyncClient
) -> None:
    assert (await client.get("/mcp-servers")).status_code == 401
    listed = (await ana.send("GET", "/mcp-servers")).json()
    assert listed == [{"name": "kit"}, {"name": "missing"}]
