"""A compaction stands for all of a conversation, or it is not made."""

from typing import Any
from uuid import uuid1

from tests.dialects.conftest import Server
from tests.dialects.openai.responses.test_sdk import MODEL
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.stage import fetch_number

KEPT = "SELECT count(*) FROM conversations WHERE user_id = $1"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def compact(person: Person, *, key: str | None = None, **body: Any) -> Any:  # noqa: ANN401  JSON
    headers = {"Idempotency-Key": key} if key else {}
    path = "/v1/responses/compact"
    return await person.call("POST", path, json={"model": MODEL, **body}, headers=headers)


def told(server: Server, tag: str) -> list[str]:
    """Return what the model was told in the only call in which somebody says `tag`."""
    (call,) = server.calls(tag)
    return [message["content"] for message in call["messages"]]


def words(answer: Any) -> list[str]:  # noqa: ANN401  JSON
    assert answer.status_code == 200, answer.text
    output = answer.json()["output"]
    return [item["content"][0]["text"] for item in output if item["type"] == "message"]


async def conversation_of(ana: Person, count: int, say: str) -> str:
    """Make a conversation of so many messages; return its name."""
    made = (await ana.call("POST", "/v1/conversations", json={})).json()["id"]
    for begin in range(0, count, 20):
        items = [user(f"{say} {number}") for number in range(begin, min(begin + 20, count))]
        path = f"/v1/conversations/{made}/items"
        assert (await ana.call("POST", path, json={"items": items})).status_code == 200
    return made


async def test_of_many_messages_all_are_told(ana: Person, server: Server) -> None:
    tag = f"t{uuid1().hex}"
    sent = [user(f"{tag} {number}") for number in range(700)]

    answer = await compact(ana, input=sent)

    assert told(server, tag)[:-1] == [f"{tag} {number}" for number in range(700)]
    assert words(answer) == [f"{tag} {number}" for number in range(700)]


async def test_of_a_long_history_all_is_told(ana: Person, server: Server) -> None:
    tag = f"t{uuid1().hex}"
    name = await conversation_of(ana, 260, tag)
    body = {"model": MODEL, "conversation": name, "input": f"{tag} last"}
    response = (await ana.call("POST", "/v1/responses", json=body)).json()

    answer = await compact(ana, previous_response_id=response["id"])

    (call,) = (call for call in server.calls(tag) if "summary" in str(call["messages"][-1]))
    said = [message["content"] for message in call["messages"]]
    expected = [f"{tag} {number}" for number in range(260)] + [f"{tag} last"]
    assert [each for each in said if each.startswith(tag)] == expected
    assert words(answer) == expected


async def test_of_long_messages_all_are_told(ana: Person, server: Server) -> None:
    tag = f"t{uuid1().hex}"
    sent = [user(f"{tag}{number}" + "x" * 400_000) for number in range(5)]
    answer = await compact(ana, input=sent)
    assert [each[:33] for each in told(server, tag)[:-1]] == [tag] * 5
    # As many of the newest as leave room for what is to come.
    assert words(answer) == []


async def test_what_no_request_can_hold_is_refused_and_leaves_nothing(
    ana: Person, server: Server
) -> None:
    made = await conversation_of(ana, 1, "Hello")
    path = f"/v1/conversations/{made}/items"
    for _ in range(9):
        items = {"items": [user("x" * 1_000_000)]}
        assert (await ana.call("POST", path, json=items)).status_code == 200
    body = {"model": MODEL, "conversation": made, "input": "And?"}
    response = (await ana.call("POST", "/v1/responses", json=body)).json()
    before = await fetch_number(server.dsn, KEPT, ana.id)

    answer = await compact(ana, previous_response_id=response["id"])

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "8388608 characters" in error["message"]
    assert await fetch_number(server.dsn, KEPT, ana.id) == before


async def test_what_the_provider_cannot_read_is_refused_and_leaves_nothing(
    ana: Person, server: Server
) -> None:
    said = '{"error": {"message": "maximum context length is 8 tokens, you asked for 9"}}'
    # What is asked for ends with our words; a script is read up to where it ends.
    scripted = script("Go", status=400, error_body=said)

    answer = await compact(ana, input=[user("Hello")], instructions=scripted)

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "8 tokens, you asked for 9" in error["message"]
    assert await fetch_number(server.dsn, KEPT, ana.id) == 0


async def test_a_compaction_of_a_compaction_repeats_no_summary(ana: Person) -> None:
    once = (await compact(ana, input=[user("We launch on Tuesday")])).json()["output"]
    answer = await compact(ana, input=[*once, user("At noon")])
    assert words(answer) == ["We launch on Tuesday", "At noon"]


async def test_a_retry_with_its_key_is_one_compaction(ana: Person, server: Server) -> None:
    tag = f"t{uuid1().hex}"
    one = await compact(ana, input=[user(tag)], key=tag)
    two = await compact(ana, input=[user(tag)], key=tag)
    assert one.json() == two.json()
    assert "idempotent-replayed" not in one.headers
    assert two.headers["idempotent-replayed"] == "true"
    assert len(server.calls(tag)) == 1
    other = await compact(ana, input=[user("Else")], key=tag)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_reused")


async def test_what_is_being_written_is_not_compacted(ana: Person) -> None:
    body = {"model": MODEL, "input": script("Go", pace_ms=50, repeat=20), "background": True}
    response = (await ana.call("POST", "/v1/responses", json=body)).json()
    answer = await compact(ana, previous_response_id=response["id"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "run_active")
    await ana.call("POST", f"/v1/responses/{response['id']}/cancel")
