"""`useChat` against a server: what it sends, as it sends it, and what it shows then."""

import asyncio
from typing import Any
from uuid import uuid1

import pytest

from tests.dialects.ai_sdk.client import ChatClient, chunks_of, read, said, text_of
from tests.dialects.conftest import Server
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.provider_script import Json
from tests.kit.waiting import until

TOOL: Json = {
    "type": "function",
    "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}},
}


def new_chat(person: Person) -> ChatClient:
    """Return a chat that the client has just made up."""
    return ChatClient(person, f"chat-{uuid1().hex[:12]}")


def asks_for(tag: str, **fields: Any) -> str:  # noqa: ANN401  see `Script`
    call = {"name": "look_up", "arguments": '{"city": "Sevilla"}', "id": f"call-{tag}"}
    return script(tag, text="Look:", tool_calls=[call], **fields)


async def test_a_chat_that_the_client_made_up_is_made_and_found_again(
    server: Server, ana: Person
) -> None:
    chat = new_chat(ana)
    first = await chat.send(script("ui-1", text="One two", reasoning="hm hm"))
    assert text_of(first) == "One two"
    assert first["id"] == first["metadata"]["messageId"]
    assert text_of(await chat.send(script("ui-2", text="Three"))) == "Three"
    [call] = server.calls("ui-2")
    assert [message["role"] for message in call["messages"]] == ["user", "assistant", "user"]
    shown = await chat.history()
    assert [message["role"] for message in shown] == ["user", "assistant"] * 2
    assert [shown[1], shown[3]] == [chat.messages[1], chat.messages[3]]
    conversation = first["metadata"]["conversationId"]
    again = ChatClient(ana, conversation, shown)
    assert text_of(await again.send(script("ui-3", text="Four"))) == "Four"
    assert len(await chat.history()) == 6
    found = await ana.call("GET", f"/conversations/{conversation}")
    assert found.json()["message_count"] == 6


async def test_the_model_settings_and_metadata_of_the_body_are_used(
    server: Server, ana: Person
) -> None:
    chat = new_chat(ana)
    await chat.send(
        "ui-settings",
        model="openai:scripted",
        metadata={"project": "x"},
        temperature=0.5,
        topP=0.9,
        maxOutputTokens=50,
        tools=[TOOL],
        toolChoice="auto",
    )
    [call] = server.calls("ui-settings")
    body = call["body"]
    assert (body["temperature"], body["top_p"], body["tool_choice"]) == (0.5, 0.9, "auto")
    assert body["tools"] == [TOOL]


async def test_the_same_message_posted_at_once_is_stored_once(ana: Person) -> None:
    chat = new_chat(ana)
    messages = [said(script("ui-twice", text="Once"))]
    answers = await asyncio.gather(*(chat.post(messages) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert "Once" in [text_of(read(chunks_of(answer.text))) for answer in answers]
    [_, shown] = await chat.history()
    assert text_of(shown) == "Once"


async def test_the_same_message_posted_at_once_is_refused_by_name_if_it_may_not_interrupt(
    ana: Person,
) -> None:
    chat = new_chat(ana)
    messages = [said(script("ui-reject", text="Once", pace_ms=200))]
    answers = await asyncio.gather(*(chat.post(messages, onBusy="reject") for _ in range(8)))
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] + [409] * 7
    refused = {answer.json()["code"] for answer in answers if answer.status_code == 409}
    assert refused == {"run_active"}


async def test_a_chat_whose_id_cannot_stand_in_an_address_is_refused(ana: Person) -> None:
    for name in ("%2E%2E", "%252F"):
        refused = await ana.call("GET", f"/ai-sdk/chat/{name}/messages")
        assert refused.status_code in (404, 422), refused.text


async def test_an_answer_is_resumed_from_its_start_and_gone_on_with_when_the_client_left(
    ana: Person,
) -> None:
    chat = new_chat(ana)
    expected = "word " * 40 + "end"
    chat.messages.append(said(script("ui-leave", text=expected, pace_ms=20)))
    body = {"id": chat.id, "messages": chat.messages, "trigger": "submit-message"}
    async with ana.client.stream(
        "POST", f"{ana.urls[0]}/ai-sdk/chat", json=body, headers=ana.headers
    ) as answer:
        async for line in answer.aiter_lines():
            if "text-delta" in line:
                break
    joined, again = await asyncio.gather(chat.resume(), chat.resume())
    assert joined is not None
    assert joined == again
    assert text_of(read(joined)) == expected
    assert await chat.resume() is None
    assert await chat.resume("?ended=true") == joined
    assert [text_of(message) for message in (await chat.history())[1:]] == [expected]


async def test_a_stopped_answer_keeps_what_it_said(ana: Person) -> None:
    chat = new_chat(ana)
    sending = asyncio.ensure_future(chat.send(script("ui-stop", text="word " * 900, pace_ms=20)))
    await until(lambda: _is_active(chat), "the answer to begin", within_s=30)
    stopped = await ana.call("POST", f"/ai-sdk/chat/{chat.id}/stop")
    assert stopped.status_code == 204
    message = await sending
    assert len(text_of(message)) < 4_500
    # How much was received of it is settled a moment after it was stopped.
    stored = list(map(_without_usage, (await chat.history())[1:]))
    assert stored in ([_without_usage(message)], [])
    assert (await ana.call("POST", f"/ai-sdk/chat/{chat.id}/stop")).status_code == 204
    assert text_of(await chat.send(script("ui-then", text="Well"))) == "Well"


def _without_usage(message: Json) -> Json:
    metadata = {name: value for name, value in message["metadata"].items() if name != "usage"}
    return {**message, "metadata": metadata}


async def _is_active(chat: ChatClient) -> bool:
    path = f"/ai-sdk/chat/{chat.id}/stream"
    async with chat.person.client.stream(
        "GET", chat.person.urls[0] + path, headers=chat.person.headers
    ) as answer:
        return answer.status_code == 200


async def test_a_send_interrupts_unless_it_says_otherwise(ana: Person) -> None:
    chat = new_chat(ana)
    sending = asyncio.ensure_future(chat.send(script("ui-busy", text="word " * 900, pace_ms=20)))
    await until(lambda: _is_active(chat), "the answer to begin", within_s=30)
    refused = await chat.post([said("Me too", "u9")], onBusy="reject")
    assert (refused.status_code, refused.json()["code"]) == (409, "run_active")
    other = ChatClient(ana, chat.id)
    assert text_of(await other.send(script("ui-over", text="Over"))) == "Over"
    await sending


async def test_an_answer_is_written_anew_beside_the_first(ana: Person) -> None:
    chat = new_chat(ana)
    first = await chat.send(script("ui-again", text="Yes"))
    second = await chat.regenerate()
    third = await chat.regenerate(messageId=second["id"])
    assert len({first["id"], second["id"], third["id"]}) == 3
    assert [message["id"] for message in (await chat.history())[1:]] == [third["id"]]
    conversation = first["metadata"]["conversationId"]
    stored = (await ana.call("GET", f"/conversations/{conversation}/messages")).json()
    assert [message["role"] for message in stored] == ["user", *["assistant"] * 3]
    assert {message["parent_id"] for message in stored[1:]} == {stored[0]["id"]}


@pytest.mark.parametrize("tells", ["all", "the last"])
async def test_an_edit_stands_beside_what_was_said_first(ana: Person, tells: str) -> None:
    chat = new_chat(ana)
    await chat.send(script("ui-edit-1", text="One"))
    await chat.send(script("ui-edit-2", text="Two"))
    for at, words in ((2, "ui-edit-3"), (2, "ui-edit-4"), (0, "ui-edit-5")):
        edited = said(script(words, text=f"Edited {words}"), chat.messages[at]["id"])
        chat.messages = [*chat.messages[:at], edited]
        if tells == "all":
            answer = await chat.go_on(messageId=edited["id"])
        else:
            posted = await ana.call(
                "POST",
                "/ai-sdk/chat",
                json={"id": chat.id, "message": edited, "messageId": edited["id"]},
            )
            answer = read(chunks_of(posted.text))
            chat.messages.append({"role": "assistant", **answer})
        assert text_of(answer) == f"Edited {words}"
        shown = await chat.history()
        assert [text_of(each) for each in shown] == [text_of(each) for each in chat.messages]
    assert len(shown) == 2


async def test_what_is_told_twice_is_stored_once(ana: Person) -> None:
    chat = new_chat(ana)
    words = script("ui-twice", text="Good", status=400, fail_times=1)
    failed = await chat.post([said(words)])
    assert [chunk["type"] for chunk in chunks_of(failed.text)][-3] == "error"
    again = await chat.post([said(words)], trigger="regenerate-message")
    assert text_of(read(chunks_of(again.text))) == "Good"
    assert len(await chat.history()) == 2


async def test_the_outputs_of_the_clients_tools_go_on_in_the_same_message(
    server: Server, ana: Person
) -> None:
    chat = new_chat(ana)
    asked = await chat.send(asks_for("ui-tool", then=[{"text": "Sunny."}]), tools=[TOOL])
    tool = asked["parts"][2]
    assert (tool["state"], tool["input"]) == ("input-available", {"city": "Sevilla"})
    tool |= {"state": "output-available", "output": {"sun": True}}
    chat.messages = [chat.messages[0], {**asked, "role": "assistant"}]
    posted = await chat.post(chat.messages, messageId=asked["id"], tools=[TOOL])
    chunks = chunks_of(posted.text)
    step = read(chunks)
    assert step["id"] == asked["id"]
    assert text_of(step) == "Sunny."
    assert step["metadata"]["messageId"] != asked["id"]
    told = server.calls("ui-tool")[-1]["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool"]
    assert told[-1]["content"] == '{"sun": true}'
    [_, shown] = await chat.history()
    assert shown["parts"] == [*asked["parts"], *step["parts"]]
    replayed = await chat.resume("?ended=true")
    assert replayed is not None
    assert read(replayed)["parts"] == shown["parts"]
    chat.messages = [chat.messages[0], {**shown, "role": "assistant"}]
    assert text_of(await chat.send(script("ui-thanks", text="Welcome"))) == "Welcome"
    assert len(await chat.history()) == 4


async def test_outputs_that_come_with_the_next_words_are_told_too(
    server: Server, ana: Person
) -> None:
    chat = new_chat(ana)
    asked = await chat.send(asks_for("ui-late"), tools=[TOOL])
    asked["parts"][2] |= {"state": "output-error", "errorText": "No such city"}
    await chat.send(script("ui-later", text="Then not"))
    [call] = server.calls("ui-later")
    assert [message["role"] for message in call["messages"]] == [
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert call["messages"][2]["content"] == "No such city"


async def test_history_comes_in_pages(ana: Person) -> None:
    chat = new_chat(ana)
    for number in range(4):
        await chat.send(script(f"ui-page-{number}", text=f"Answer {number}"))
    shown: list[Json] = []
    path = f"/ai-sdk/chat/{chat.id}/messages?limit=3"
    sizes: list[int] = []
    while path:
        page = await ana.call("GET", path)
        shown = [*page.json(), *shown]
        sizes.append(len(page.json()))
        path = page.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert [text_of(message) for message in shown[1::2]] == [f"Answer {n}" for n in range(4)]
    assert len(shown) == 8
    assert max(sizes) <= 3


async def test_a_chat_that_nobody_has_spoken_in_is_empty(ana: Person) -> None:
    chat = new_chat(ana)
    assert await chat.history() == []
    assert await chat.resume() is None
    assert (await ana.call("POST", f"/ai-sdk/chat/{chat.id}/stop")).status_code == 204


async def test_two_users_never_meet(ana: Person, bob: Person) -> None:
    chat = new_chat(ana)
    answer = await chat.send(script("ui-mine", text="Secret"))
    theirs = answer["metadata"]["conversationId"]
    for method, what in (("GET", "stream"), ("GET", "messages"), ("POST", "stop")):
        refused = await bob.call(method, f"/ai-sdk/chat/{theirs}/{what}")
        assert (refused.status_code, refused.json()["code"]) == (404, "conversation_not_found")
    foreign = ChatClient(bob, theirs)
    refused = await foreign.post([said("Hi")])
    assert (refused.status_code, refused.json()["code"]) == (404, "conversation_not_found")
    refused = await foreign.post(
        chat.messages, trigger="regenerate-message", messageId=answer["id"]
    )
    assert refused.status_code == 404
    same_name = ChatClient(bob, chat.id)
    await same_name.send(script("ui-yours", text="Mine"))
    assert len(await same_name.history()) == len(await chat.history()) == 2


async def test_many_tabs_that_begin_one_chat_at_once_are_in_one(ana: Person) -> None:
    name = f"race-{uuid1().hex}"
    tabs = [ChatClient(ana, name) for _ in range(6)]
    bodies = [[said(script(f"ui-race-{n}", text=f"R{n}"), f"u{n}")] for n in range(6)]
    answers = await asyncio.gather(
        *(tab.post(body, onBusy="queue") for tab, body in zip(tabs, bodies, strict=True))
    )
    assert [text_of(read(chunks_of(each.text))) for each in answers] == [f"R{n}" for n in range(6)]
    conversation = read(chunks_of(answers[0].text))["metadata"]["conversationId"]
    found = await ana.call("GET", f"/conversations/{conversation}")
    assert found.json()["message_count"] == 12


async def test_a_repeated_request_finds_its_answer(ana: Person) -> None:
    chat = new_chat(ana)
    body = {"id": chat.id, "messages": [said(script("ui-once", text="Once"))]}
    key = {"Idempotency-Key": uuid1().hex}
    first, again = [
        await ana.call("POST", "/ai-sdk/chat", json=body, headers=key) for _ in range(2)
    ]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert chunks_of(first.text)[1:-1] == chunks_of(again.text)[1:-1]
    assert len(await chat.history()) == 2


async def test_an_answer_to_nobody_cannot_be_written_anew(ana: Person) -> None:
    made = await ana.call("POST", "/conversations", json={})
    path = f"/conversations/{made.json()['id']}/messages"
    for words in ("One", "Two"):
        stored = await ana.call("POST", path, json={"role": "assistant", "content": words})
    chat = ChatClient(ana, made.json()["id"])
    refused = await chat.post([], trigger="regenerate-message", messageId=stored.json()["id"])
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "body.messages"


def _body(**more: Any) -> Json:  # noqa: ANN401  JSON
    return {"id": "c", "messages": [said("Hi")], **more}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": []}, "body.id"),
        (_body(id=""), "body.id"),
        (_body(id="a/b"), "body.id"),
        (_body(id="a%2fb"), "body.id"),
        (_body(id="."), "body.id"),
        (_body(id=".."), "body.id"),
        (_body(id="x" * 201), "body.id"),
        (_body(modle="x"), "body.modle"),
        (_body(messages=[]), "body.messages"),
        (_body(messages=[said("Hi", role="assistant")]), "body.messages[0]"),
        (_body(messages=[said("Hi", role="system")]), "body.messages[0]"),
        (_body(messages=[said("Hi", role="boss")]), "body.messages[0].role"),
        (_body(messages=[{"id": "u", "role": "user"}]), "body.messages[0].parts"),
        (_body(messages=[said("")]), "body.messages[0].parts"),
        ({"id": "c", "message": said("")}, "body.message.parts"),
        (_body(message=said("Hi")), "body"),
        (_body(messages=[], trigger="regenerate-message"), "body.messages"),
        (_body(trigger="dance"), "body.trigger"),
        (_body(messageId=""), "body.messageId"),
        (_body(onBusy="later"), "body.onBusy"),
        (_body(temperature=3), "body.temperature"),
        (_body(maxOutputTokens=0), "body.maxOutputTokens"),
        (_body(metadata={"": "x"}), "body.metadata"),
        (_body(tools=[{"type": "function"}]), "body.tools[0].function"),
        (_body(mcp=["nothing"]), "body.mcp[0]"),
    ],
)
async def test_what_is_wrong_is_named(ana: Person, body: Json, field: str) -> None:
    refused = await ana.call("POST", "/ai-sdk/chat", json=body)
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["field"].startswith(field), refused.text


async def test_who_is_nobody_is_refused(server: Server, ana: Person) -> None:
    answer = await ana.client.post(f"{server.url}/ai-sdk/chat", json=_body())
    assert answer.status_code == 401
    unknown = await ana.call("POST", "/ai-sdk/chat", json=_body(model="openai:nothing"))
    assert (unknown.status_code, unknown.json()["code"]) == (422, "model_not_found")
    assert (await ana.call("HEAD", "/ai-sdk/chat/c/stream")).status_code == 405
