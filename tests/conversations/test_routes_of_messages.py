"""The part of `test_routes` below `/conversations/{id}/messages`."""

from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.conversations.conftest import Person, next_of, refusal
from tests.conversations.running import AnsweredConversation

_LONG = "中" * 99_000


class TestMessages:
    async def test_show_everything_there_is(self, ana: Person) -> None:
        path = await ana.converse()
        message = await ana.say(path, "hello")
        assert (message["content"], message["parts"]) == ("hello", None)
        generated = {"run_id", "model_type", "is_success", "status_code", "total_tokens"}
        assert {message[name] for name in generated} == {None}
        assert await ana.get(f"{path}/messages/{message['id']}") == message
        assert await ana.get(f"{path}/messages") == [message]

    async def test_keep_their_role(self, ana: Person) -> None:
        path = await ana.converse()
        for role in ("user", "assistant", "system"):
            assert (await ana.say(path, "x", role=role))["role"] == role

    async def test_name_the_field_that_is_wrong_and_store_nothing(self, ana: Person) -> None:
        path = await ana.converse()
        answer = await ana.send("POST", f"{path}/messages", {"role": "tool", "content": ""})
        assert refusal(answer) == (422, "invalid_request")
        fields = {each["field"] for each in answer.json()["errors"]}
        assert fields == {"body.role", "body.content"}
        assert (await ana.get(path))["message_count"] == 0

    @pytest.mark.parametrize("query", ["", "order=desc", "branch=head", "branch=head&order=desc"])
    async def test_page_by_links_in_either_order(self, ana: Person, query: str) -> None:
        contents = [str(number) for number in range(12)]
        path = await ana.converse(*contents)
        expected = contents[::-1] if "desc" in query else contents
        assert await ana.read(path, f"{query}&limit=5") == expected
        assert await ana.read(path, f"{query}&limit=5&skip=3") == expected[3:]
        assert await ana.read(path, f"{query}&limit=12") == expected

    @pytest.mark.parametrize("query", ["", "order=desc", "branch=head", "branch=head&order=desc"])
    async def test_that_are_long_make_short_pages(self, ana: Person, query: str) -> None:
        contents = [f"{number}{_LONG}" for number in range(9)]
        path = await ana.converse(*contents)
        page = await ana.send("GET", f"{path}/messages?{query}")
        assert len(page.json()) < 5
        assert len(page.content) < 1.2 * 2**20
        expected = contents[::-1] if "desc" in query else contents
        assert await ana.read(path, query) == expected
        assert await ana.read(path, f"{query}&skip=2") == expected[2:]

    async def test_of_a_branch_are_read_on_although_the_head_moves(self, ana: Person) -> None:
        path = await ana.converse("1", "2", "3")
        first = await ana.send("GET", f"{path}/messages?branch=head&limit=1")
        await ana.say(path, "aside", parent_id=first.json()[0]["id"])
        link = next_of(first)
        assert link is not None
        rest = await ana.send("GET", link.replace("limit=1", "limit=9"))
        assert [each["content"] for each in rest.json()] == ["2", "3"]

    async def test_of_a_branch_past_its_end_are_none(self, ana: Person) -> None:
        path = await ana.converse("1", "2")
        assert await ana.get(f"{path}/messages?branch=head&skip=5") == []

    async def test_with_a_cursor_of_another_branch_are_refused(self, ana: Person) -> None:
        path = await ana.converse("1", "2", "3")
        first, second, _ = await ana.get(f"{path}/messages")
        link = next_of(await ana.send("GET", f"{path}/messages?branch={second['id']}&limit=1"))
        assert link is not None
        answer = await ana.send("GET", link.replace(second["id"], first["id"]))
        assert answer.json()["errors"][0]["field"] == "query.cursor"

    async def test_of_a_branch_that_is_not_there_are_not_found(self, ana: Person) -> None:
        path, other = await ana.converse("1"), await ana.converse("2")
        (message,) = await ana.get(f"{other}/messages")
        answer = await ana.send("GET", f"{path}/messages?branch={message['id']}")
        assert refusal(answer) == (404, "message_not_found")

    async def test_refuse_a_query_that_makes_no_sense(self, ana: Person) -> None:
        path = await ana.converse()
        for query in ("branch=tail", "order=up", "limit=0", "cursor=x", "branch=head&cursor=x"):
            assert (await ana.send("GET", f"{path}/messages?{query}")).status_code == 422

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    async def test_are_corrected_in_their_place(self, ana: Person, method: str) -> None:
        path = await ana.converse("1", "2")
        first, second = await ana.get(f"{path}/messages")
        answer = await ana.send(method, f"{path}/messages/{first['id']}", {"content": "one"})
        assert answer.status_code == 200
        corrected = answer.json()
        assert (corrected["content"], corrected["parts"]) == ("one", None)
        assert corrected["updated_at"] > corrected["created_at"]
        assert await ana.get(f"{path}/messages") == [corrected, second]

    async def test_leave_the_tree_whole_when_deleted(self, ana: Person) -> None:
        path = await ana.converse("1", "2", "3")
        first, second, third = await ana.get(f"{path}/messages")
        assert (await ana.send("DELETE", f"{path}/messages/{second['id']}")).status_code == 204
        assert (await ana.get(f"{path}/messages/{third['id']}"))["parent_id"] == first["id"]
        assert await ana.read(path, "branch=head") == ["1", "3"]
        await ana.send("DELETE", f"{path}/messages/{third['id']}")
        conversation = await ana.get(path)
        assert (conversation["head_id"], conversation["message_count"]) == (first["id"], 1)

    async def test_that_are_gone_are_not_found(self, ana: Person) -> None:
        path = await ana.converse("1")
        (message,) = await ana.get(f"{path}/messages")
        target = f"{path}/messages/{message['id']}"
        await ana.send("DELETE", target)
        for method, body in (("GET", None), ("PATCH", {"content": "x"}), ("DELETE", None)):
            assert refusal(await ana.send(method, target, body)) == (404, "message_not_found")


class TestAnswers:
    async def test_show_how_they_came_to_be(
        self,
        ana: Person,
        answered: AnsweredConversation,
        dsn: str,
    ) -> None:
        await _give_to(dsn, ana, answered)
        target = f"/conversations/{answered.id}/messages/{answered.run.message_id}"
        assert (await ana.get(target))["is_success"] is None
        await answered.end("because")
        shown = await ana.get(target)
        assert shown["content"] == "because"
        assert (shown["is_success"], shown["status_code"]) == (True, 200)
        assert (shown["prompt_tokens"], shown["response_tokens"], shown["total_tokens"]) == (
            3,
            1,
            4,
        )
        assert (shown["run_id"], shown["finish_reason"]) == (str(answered.run.id), "stop")
        assert isinstance(shown["latency_ms"], int)

    async def test_keep_the_conversation_from_other_messages(
        self, ana: Person, answered: AnsweredConversation, dsn: str
    ) -> None:
        await _give_to(dsn, ana, answered)
        answer = await ana.send(
            "POST",
            f"/conversations/{answered.id}/messages",
            {"role": "user", "content": "and?"},
        )
        assert refusal(answer) == (409, "run_active")
        assert int(answer.headers["Retry-After"]) >= 1


async def _give_to(dsn: str, person: Person, answered: AnsweredConversation) -> None:
    me: dict[str, Any] = await person.get("/auth/me")
    connection = await asyncpg.connect(dsn)
    for table in ("conversations", "runs"):
        await connection.execute(
            f"UPDATE {table} SET user_id = $1 WHERE user_id = $2",  # noqa: S608  one of two words
            UUID(me["id"]),
            answered.user_id,
        )
    await connection.close()
