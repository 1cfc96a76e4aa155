"""Runs over HTTP: statuses, shapes and what a wrong request is told."""

import asyncio
from typing import Any
from uuid import uuid1

import pytest

from tests.kit.pair import script
from tests.kit.provider_script import DEFAULT_TEXT
from tests.kit.scripted_provider import ScriptedProvider
from tests.runs.talking import Talker, frames

_RUN_FIELDS = {
    "id",
    "conversation_id",
    "message_id",
    "status",
    "attempt",
    "model_type",
    "error",
    "usage",
    "created_at",
    "started_at",
    "ended_at",
}


async def test_a_run_is_accepted_and_can_be_looked_up(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    answer = await ana.send("POST", f"{conversation}/runs", {"content": "Hello"})
    assert answer.status_code == 202
    run = answer.json()
    assert set(run) == _RUN_FIELDS
    assert (run["status"], run["attempt"], run["error"], run["usage"]) == ("running", 1, None, None)
    assert run["model_type"] == "openai:scripted"
    assert answer.headers["Location"] == f"/runs/{run['id']}"
    ended = await ana.ended(run)
    assert ended["status"] == "completed"
    assert ended["usage"]["prompt_tokens"] == 12
    message = await ana.message(conversation, run["message_id"])
    assert (message["role"], message["content"]) == ("assistant", DEFAULT_TEXT)
    assert message["run_id"] == run["id"]
    assert message["finish_reason"] == "stop"
    assert message["latency_ms"] >= message["first_token_ms"] >= 0


async def test_whoever_accepts_an_event_stream_gets_the_answer_in_the_same_request(
    ana: Talker,
) -> None:
    conversation = await ana.new_conversation()
    answer = await ana.send(
        "POST", f"{conversation}/runs", {"content": "Hello"}, Accept="text/event-stream"
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    seen = frames(answer.text)
    assert [number for number, _, _ in seen] == [str(n) for n in range(1, len(seen) + 1)]
    assert "".join(data["delta"] for _, kind, data in seen if kind == "text") == DEFAULT_TEXT
    _, kind, done = seen[-1]
    assert (kind, done["status"]) == ("done", "completed")
    assert answer.headers["Location"] == f"/runs/{done['id']}"
    assert done == (await ana.send("GET", f"/runs/{done['id']}")).json()


async def test_the_first_seeds_door_leads_to_the_same_thing(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    id_ = conversation.rpartition("/")[2]
    answer = await ana.send("GET", f"/text/generate/stream?prompt=Hello&conversation_id={id_}")
    assert answer.status_code == 200
    assert frames(answer.text)[-1][1] == "done"
    messages = (await ana.send("GET", f"{conversation}/messages")).json()
    assert [message["content"] for message in messages] == ["Hello", DEFAULT_TEXT]


@pytest.mark.parametrize("door", ["GET", "POST"])
@pytest.mark.parametrize("key", [{}, {"Idempotency_Key": "once"}])
async def test_a_reader_that_reconnects_at_the_door_gets_the_rest_and_no_second_answer(
    ana: Talker, door: str, key: dict[str, str]
) -> None:
    conversation = await ana.new_conversation()
    id_ = conversation.rpartition("/")[2]
    get = f"/text/generate/stream?prompt=Hello&conversation_id={id_}"
    path, body = (get, None) if door == "GET" else (f"{conversation}/runs", {"content": "Hello"})
    headers = {"Accept": "text/event-stream", **key}
    first = await ana.send(door, path, body, **headers)
    whole = frames(first.text)
    for after in (1, len(whole) - 1, len(whole)):
        again = await ana.send(door, path, body, **headers, Last_Event_ID=str(after))
        assert again.status_code == 200
        assert again.headers["Location"] == first.headers["Location"]
        assert frames(again.text) == whole[after:]
    assert len((await ana.send("GET", f"{conversation}/messages")).json()) == 2


async def test_a_reader_that_reconnects_to_what_was_never_asked_is_told_to_stop(
    ana: Talker,
) -> None:
    conversation = await ana.new_conversation()
    id_ = conversation.rpartition("/")[2]
    path = f"/text/generate/stream?prompt=Hello&conversation_id={id_}"
    assert (await ana.send("GET", path, Last_Event_ID="3")).status_code == 204
    await ana.ask(conversation, "Something else")
    assert (await ana.send("GET", path, Last_Event_ID="3")).status_code == 204
    missing = f"/text/generate/stream?prompt=Hello&conversation_id={uuid1()}"
    assert (await ana.send("GET", missing, Last_Event_ID="3")).status_code == 404


async def test_reasoning_and_tool_calls_are_events_and_parts(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    call = {"name": "look_up", "arguments": '{"city": "Sevilla"}', "id": "c1"}
    content = script("tools", reasoning="hm hm", text="Let me see.", tool_calls=[call])
    run = await ana.ask(conversation, content)
    seen = frames((await ana.send("GET", f"/runs/{run['id']}/events")).text)
    assert {kind for _, kind, _ in seen} == {"reasoning", "text", "tool_call", "done"}
    assert seen[-2][2] == {"call_id": "c1", "name": "look_up", "arguments": call["arguments"]}
    message = await ana.message(conversation, run["message_id"])
    assert [part["type"] for part in message["parts"]] == ["reasoning", "text", "tool_call"]
    assert message["content"] == "Let me see."


async def test_a_cursor_gives_what_came_after_it(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, script("cursor", pace_ms=2))
    path = f"/runs/{run['id']}/events"
    whole = frames((await ana.send("GET", path)).text)
    for after in range(len(whole)):
        by_query = await ana.send("GET", f"{path}?after={after}")
        by_header = await ana.send("GET", path, Last_Event_ID=str(after))
        assert by_query.status_code == by_header.status_code == 200
        assert frames(by_query.text) == frames(by_header.text) == whole[after:]


async def test_a_reader_that_has_seen_the_end_is_told_to_stop(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.start(conversation, script("ending", pace_ms=20))
    path = f"/runs/{run['id']}/events"
    ahead = await ana.send("GET", f"{path}?after=500")
    # The run was going on: this reader waited for events that never came.
    assert (ahead.status_code, frames(ahead.text)) == (200, [])
    done = frames((await ana.send("GET", path)).text)[-1][0]
    for cursor in (done, "500", "2147483647"):
        answer = await ana.send("GET", path, Last_Event_ID=cursor)
        assert (answer.status_code, frames(answer.text)) == (200, [])
        assert "retry: 86400000\n" in answer.text


async def test_a_stream_ends_when_its_reader_is_shut_out_though_nothing_happens(
    ana: Talker,
) -> None:
    conversation = await ana.new_conversation()
    run = await ana.start(conversation, script("silent", stall_after=2))
    queued = await ana.start(conversation, "And then?", on_busy="queue")
    reading = [ana.send("GET", f"/runs/{each['id']}/events") for each in (run, queued)]
    async with asyncio.timeout(15):
        *streams, logout = await asyncio.gather(*reading, ana.send("POST", "/auth/logout"))
    assert [stream.status_code for stream in streams] == [200, 200]
    assert logout.status_code == 204


@pytest.mark.parametrize("cursor", ["-1", "x", "1.5", "99999999999", "٣", " ", "2147483648"])
async def test_what_is_no_cursor_is_refused(ana: Talker, cursor: str) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, "Hello")
    refused = await ana.send("GET", f"/runs/{run['id']}/events?after={cursor}")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert "query.after" in refused.text


async def test_a_last_event_id_that_is_none_of_ours_is_refused(ana: Talker) -> None:
    run = await ana.ask(await ana.new_conversation(), "Hello")
    refused = await ana.send("GET", f"/runs/{run['id']}/events", Last_Event_ID="chatcmpl-1")
    assert refused.status_code == 422
    assert "Last-Event-ID" in refused.text


async def test_anothers_run_is_not_there(ana: Talker, bob: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, "Hello")
    missing = uuid1()
    for method, path in (
        ("GET", "/runs/{}"),
        ("GET", "/runs/{}/events"),
        ("POST", "/runs/{}/cancel"),
    ):
        foreign = await bob.send(method, path.format(run["id"]))
        absent = await bob.send(method, path.format(missing))
        assert foreign.status_code == absent.status_code == 404
        assert foreign.json() == absent.json()
        assert foreign.json()["code"] == "run_not_found"
    for method in ("GET", "POST"):
        body = {"content": "Hi"} if method == "POST" else None
        foreign = await bob.send(method, f"{conversation}/runs", body)
        assert (foreign.status_code, foreign.json()["code"]) == (404, "conversation_not_found")
    stolen = await bob.new_conversation()
    answer = await bob.send(
        "POST", f"{stolen}/runs", {"content": "Hi", "parent_id": run["message_id"]}
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "message_not_found")


async def test_a_busy_conversation_says_when_to_come_back(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.start(conversation, script("busy", pace_ms=100))
    busy = await ana.send("POST", f"{conversation}/runs", {"content": "And?"})
    assert (busy.status_code, busy.json()["code"]) == (409, "run_active")
    assert int(busy.headers["Retry-After"]) >= 1
    await ana.send("POST", f"/runs/{run['id']}/cancel")


async def test_a_queued_run_takes_its_turn_and_reads_what_was_answered_before(
    ana: Talker, provider: ScriptedProvider
) -> None:
    conversation = await ana.new_conversation()
    first = await ana.start(conversation, script("first", pace_ms=10))
    second = await ana.start(conversation, "And then?", on_busy="queue")
    assert (second["status"], second["attempt"], second["started_at"]) == ("queued", 0, None)
    await ana.ended(first)
    ended = await ana.ended(second)
    assert (ended["status"], ended["attempt"]) == ("completed", 1)
    told = [message["content"] for message in provider.calls[-1].messages]
    assert told == [script("first", pace_ms=10), DEFAULT_TEXT, "And then?"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"content": ""}, "content"),
        ({"content": 7}, "content"),
        ({"content": "x" * 100_001}, "content"),
        ({"content": "x", "parent_id": "none"}, "parent_id"),
        ({"content": "x", "on_busy": "wait"}, "on_busy"),
        ({"content": "x", "temperature": 3}, "temperature"),
        ({"content": "x", "temperature": "1"}, "temperature"),
        ({"content": "x", "top_p": 0}, "top_p"),
        ({"content": "x", "max_tokens": 0}, "max_tokens"),
        ({"content": "x", "seed": 2**63}, "seed"),
        ({"content": "x", "stop": ["a"] * 5}, "stop"),
        ({"content": "x", "tools": [{"type": "function"}]}, "tools"),
        ({"content": "x", "model_type": ""}, "model_type"),
        ({"content": "x", "user_id": "me"}, "user_id"),
        ({"content": "x", "status": "completed"}, "status"),
    ],
)
async def test_a_wrong_request_is_told_which_field(
    ana: Talker, body: dict[str, Any], field: str
) -> None:
    refused = await ana.send("POST", f"{await ana.new_conversation()}/runs", body)
    assert refused.status_code == 422
    assert f"body.{field}" in refused.text or f'"{field}"' in refused.text


@pytest.mark.parametrize("model", ["nobody:knows", "openai:", "local:smollm2"])
async def test_a_model_that_is_not_on_offer_is_refused(ana: Talker, model: str) -> None:
    conversation = await ana.new_conversation()
    refused = await ana.send("POST", f"{conversation}/runs", {"content": "x", "model_type": model})
    assert (refused.status_code, refused.json()["code"]) == (422, "model_not_found")
    assert (await ana.send("GET", f"{conversation}/messages")).json() == []


async def test_settings_reach_the_model(ana: Talker, provider: ScriptedProvider) -> None:
    await ana.ask(
        await ana.new_conversation(), "Hello", temperature=0.5, max_tokens=7, seed=1, stop=["x"]
    )
    body = provider.calls[-1].body
    assert {name: body[name] for name in ("temperature", "max_tokens", "seed", "stop")} == {
        "temperature": 0.5,
        "max_tokens": 7,
        "seed": 1,
        "stop": ["x"],
    }


async def test_an_answer_is_regenerated_beside_the_first(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    first = await ana.ask(conversation, "Hello")
    question = (await ana.message(conversation, first["message_id"]))["parent_id"]
    second = await ana.ask(conversation, None, parent_id=question)
    assert second["message_id"] != first["message_id"]
    answer = await ana.message(conversation, second["message_id"])
    assert answer["parent_id"] == question
    shown = (await ana.send("GET", conversation)).json()
    assert (shown["message_count"], shown["head_id"]) == (3, second["message_id"])


async def test_a_stored_message_is_answered_without_content(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    await ana.send("POST", f"{conversation}/messages", {"role": "user", "content": "Hello"})
    run = await ana.ask(conversation, None)
    assert (await ana.message(conversation, run["message_id"]))["content"] == DEFAULT_TEXT


async def test_there_must_be_something_to_answer(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    empty = await ana.send("POST", f"{conversation}/runs", {})
    assert empty.status_code == 422
    assert "body.content" in empty.text
    run = await ana.ask(conversation, "Hello")
    answered = await ana.send("POST", f"{conversation}/runs", {"parent_id": run["message_id"]})
    assert answered.status_code == 422
    assert "body.parent_id" in answered.text
    assert (await ana.send("GET", conversation)).json()["message_count"] == 2


async def test_an_edit_is_a_sibling_of_what_it_replaces(
    ana: Talker, provider: ScriptedProvider
) -> None:
    conversation = await ana.new_conversation()
    first = await ana.ask(conversation, "One")
    second = await ana.ask(conversation, "Two")
    asked_second = (await ana.message(conversation, second["message_id"]))["parent_id"]
    edited = await ana.ask(conversation, "Two, edited", parent_id=first["message_id"])
    asked_edited = (await ana.message(conversation, edited["message_id"]))["parent_id"]
    siblings = [
        (await ana.message(conversation, each))["parent_id"]
        for each in (asked_second, asked_edited)
    ]
    assert siblings == [first["message_id"]] * 2
    told = [message["content"] for message in provider.calls[-1].messages]
    assert told == ["One", DEFAULT_TEXT, "Two, edited"]


async def test_runs_are_listed_newest_first_in_pages(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    runs = [(await ana.ask(conversation, str(number)))["id"] for number in range(5)]
    target: str | None = f"{conversation}/runs?limit=2"
    listed: list[str] = []
    while target is not None:
        page = await ana.send("GET", target)
        listed += [run["id"] for run in page.json()]
        link = page.headers.get("Link")
        target = None if link is None else link.removeprefix("<").removesuffix('>; rel="next"')
    assert listed == runs[::-1]
    wrong = await ana.send("GET", f"{conversation}/runs?cursor=nonsense")
    assert wrong.status_code == 422


async def test_a_key_gives_the_same_run_again(ana: Talker, provider: ScriptedProvider) -> None:
    conversation = await ana.new_conversation()
    first = await ana.send(
        "POST", f"{conversation}/runs", {"content": "Once"}, Idempotency_Key="k1"
    )
    await ana.ended(first.json())
    again = await ana.send(
        "POST", f"{conversation}/runs", {"content": "Once"}, Idempotency_Key="k1"
    )
    assert again.status_code == 202
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert len(provider.calls) == 1
    streamed = await ana.send(
        "POST",
        f"{conversation}/runs",
        {"content": "Once"},
        Idempotency_Key="k1",
        Accept="text/event-stream",
    )
    assert frames(streamed.text)[-1][2]["id"] == first.json()["id"]


async def test_cancelling_twice_is_as_good_as_once(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.start(conversation, script("stop me", pace_ms=50))
    first = await ana.send("POST", f"/runs/{run['id']}/cancel")
    again = await ana.send("POST", f"/runs/{run['id']}/cancel")
    assert first.status_code == again.status_code == 200
    assert first.json()["status"] == again.json()["status"] == "cancelled"
    assert first.json()["ended_at"] == again.json()["ended_at"]


async def test_followers_of_a_corrected_answer_start_again_from_any_cursor(ana: Talker) -> None:
    conversation = await ana.new_conversation()
    run = await ana.ask(conversation, script("corrected", pace_ms=3))
    path = f"/runs/{run['id']}/events"
    last = int(frames((await ana.send("GET", path)).text)[-1][0])
    message = f"{conversation}/messages/{run['message_id']}"
    for correction in ("Short.", DEFAULT_TEXT + " And longer."):
        (await ana.send("PATCH", message, {"content": correction})).raise_for_status()
        for after in range(last + 1):
            seen = frames((await ana.send("GET", f"{path}?after={after}")).text)
            assert [kind for _, kind, _ in seen] == ["restart", "text", "done"]
            assert seen[1][2] == {"delta": correction}
        # The restart, the text and the end are numbered behind what was there.
        last += 3


async def test_models_are_listed_with_the_default_first(ana: Talker) -> None:
    models = (await ana.send("GET", "/models")).json()
    assert models[0]["name"] == "openai:scripted"
    assert models[0]["is_default"] is True


async def test_nobody_gets_anything_without_a_token(ana: Talker) -> None:
    for method, path in (
        ("GET", f"/runs/{uuid1()}"),
        ("GET", f"/runs/{uuid1()}/events"),
        ("POST", f"/runs/{uuid1()}/cancel"),
        ("GET", "/models"),
        ("GET", f"/text/generate/stream?prompt=x&conversation_id={uuid1()}"),
    ):
        assert (await ana.client.request(method, path)).status_code == 401
