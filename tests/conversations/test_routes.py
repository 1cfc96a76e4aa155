import asyncio
from uuid import uuid1

import httpx2

from tests.conversations.conftest import Person, next_of, refusal

NOWHERE = f"/conversations/{uuid1()}"

CONVERSATION_FIELDS = {
    "id",
    "title",
    "model_type",
    "is_archived",
    "metadata",
    "created_at",
    "updated_at",
    "message_count",
    "head_id",
}


class TestSecondSeed:
    async def test_works_literally(self, ana: Person) -> None:
        made = await ana.send(
            "POST",
            "/conversations",
            {"title": "Python 学习", "first_message": "如何学习 Python?"},
        )
        assert made.status_code == 201
        conversation = made.json()
        assert conversation["title"] == "Python 学习"
        assert conversation["message_count"] == 1
        path = f"/conversations/{conversation['id']}"
        listed = await ana.send("GET", "/conversations?skip=0&limit=10")
        assert listed.status_code == 200
        assert listed.json() == [conversation]
        said = await ana.send(
            "POST",
            f"{path}/messages",
            {"role": "assistant", "content": "推荐先学习 Python 基础..."},
        )
        assert said.status_code == 201
        assert said.json()["conversation_id"] == conversation["id"]
        assert await ana.read(path) == ["如何学习 Python?", "推荐先学习 Python 基础..."]
        patched = await ana.send("PATCH", path, {"is_archived": True})
        assert patched.status_code == 200
        assert (patched.json()["is_archived"], patched.json()["message_count"]) == (True, 2)
        assert await ana.get("/conversations?archived=false") == []
        assert (await ana.send("DELETE", path)).status_code == 204
        assert refusal(await ana.send("GET", path)) == (404, "conversation_not_found")


class TestFirstSeed:
    async def test_works_literally(self, ana: Person) -> None:
        made = await ana.send("POST", "/conversations", {"title": "t", "model_type": "a:b"})
        assert made.status_code == 201
        path = f"/conversations/{made.json()['id']}"
        put = await ana.send("PUT", path, {"title": "u", "model_type": "c:d"})
        assert put.status_code == 202
        assert (put.json()["title"], put.json()["model_type"]) == ("u", "c:d")
        assert [each["title"] for each in await ana.get("/conversations?skip=0&take=100")] == ["u"]
        assert (await ana.get(path))["title"] == "u"
        assert (await ana.send("DELETE", path)).status_code == 204


class TestCreateConversation:
    async def test_needs_nothing(self, ana: Person) -> None:
        made = (await ana.send("POST", "/conversations", {})).json()
        assert set(made) == CONVERSATION_FIELDS
        assert (made["title"], made["head_id"], made["message_count"]) == (None, None, 0)
        assert made["created_at"].endswith("Z")

    async def test_makes_the_first_message_the_head(self, ana: Person) -> None:
        made = (await ana.send("POST", "/conversations", {"first_message": "hi"})).json()
        (message,) = await ana.get(f"/conversations/{made['id']}/messages")
        assert message["id"] == made["head_id"]
        assert (message["role"], message["parent_id"]) == ("user", None)
        assert made == await ana.get(f"/conversations/{made['id']}")

    async def test_with_an_empty_first_message_has_none(self, ana: Person) -> None:
        answer = await ana.send("POST", "/conversations", {"title": "t", "first_message": ""})
        assert (answer.status_code, answer.json()["message_count"]) == (201, 0)

    async def test_keeps_its_owner_s_notes_until_they_are_replaced(self, ana: Person) -> None:
        body = {"metadata": {"project": "tertulia", "colour": "blue"}}
        made = (await ana.send("POST", "/conversations", body)).json()
        path = f"/conversations/{made['id']}"
        assert made["metadata"] == body["metadata"]
        renamed = (await ana.send("PATCH", path, {"title": "Blue"})).json()
        assert renamed["metadata"] == body["metadata"]
        changed = (await ana.send("PATCH", path, {"metadata": {"a": "b"}})).json()
        assert changed["metadata"] == {"a": "b"}

    async def test_names_the_field_that_is_wrong_and_stores_nothing(self, ana: Person) -> None:
        bodies: tuple[tuple[object, str], ...] = (
            ({"metadata": {"k": 1}}, "body.metadata.k"),
            ({"metadata": {str(n): "v" for n in range(17)}}, "body.metadata"),
            ({"title": " \t"}, "body.title"),
            ({"user_id": str(uuid1())}, "body.user_id"),
            ([], "body"),
        )
        for body, field in bodies:
            answer = await ana.send("POST", "/conversations", body)
            assert refusal(answer) == (422, "invalid_request")
            assert [each["field"] for each in answer.json()["errors"]] == [field]
        assert await ana.get("/conversations") == []

    async def test_keeps_a_title_to_the_character(self, ana: Person) -> None:
        for title in ("x" * 200, "𝄞" * 200, " a ", "<script>alert(1)</script>"):
            answer = await ana.send("POST", "/conversations", {"title": title})
            assert answer.json()["title"] == title


class TestListConversations:
    async def test_pages_by_links_to_the_end(self, ana: Person) -> None:
        made = [(await ana.send("POST", "/conversations", {})).json()["id"] for _ in range(23)]
        found: list[str] = []
        target: str | None = "/conversations"
        sizes: list[int] = []
        while target is not None:
            answer = await ana.send("GET", target)
            sizes.append(len(answer.json()))
            found += [each["id"] for each in answer.json()]
            target = next_of(answer)
        assert found == made[::-1]
        assert sizes == [10, 10, 3]

    async def test_links_keep_the_filters(self, ana: Person) -> None:
        for model in ("a:b", "c:d") * 3:
            await ana.send("POST", "/conversations", {"model_type": model})
        first = await ana.send("GET", "/conversations?model_type=a:b&limit=2&archived=false")
        second = await ana.send("GET", next_of(first) or "")
        assert [each["model_type"] for each in first.json() + second.json()] == ["a:b"] * 3
        assert next_of(second) is None

    async def test_takes_limit_by_either_name(self, ana: Person) -> None:
        for _ in range(4):
            await ana.send("POST", "/conversations", {})
        for query, count in (("limit=2", 2), ("take=3", 3), ("limit=2&take=2", 2), ("skip=3", 1)):
            assert len(await ana.get(f"/conversations?{query}")) == count

    async def test_names_the_parameter_that_is_wrong(self, ana: Person) -> None:
        for query, field in (
            ("limit=0", "query.limit"),
            ("limit=201", "query.limit"),
            ("take=1000000000", "query.take"),
            ("limit=1&take=2", "query.take"),
            ("skip=-1", "query.skip"),
            ("skip=10001", "query.skip"),
            ("limit=99999999999999999999999", "query.limit"),
            ("archived=perhaps", "query.archived"),
            ("cursor=nonsense", "query.cursor"),
            ("cursor=", "query.cursor"),
        ):
            answer = await ana.send("GET", f"/conversations?{query}")
            assert answer.status_code == 422, query
            assert [each["field"] for each in answer.json()["errors"]] == [field]

    async def test_of_another_list_the_cursor_is_refused(self, ana: Person) -> None:
        path = await ana.converse("a", "b")
        link = next_of(await ana.send("GET", f"{path}/messages?limit=1"))
        assert link is not None
        cursor = link.partition("cursor=")[2]
        answer = await ana.send("GET", f"/conversations?cursor={cursor}")
        assert answer.json()["errors"][0]["field"] == "query.cursor"


class TestUpdateConversation:
    async def test_changes_only_what_is_given(self, ana: Person) -> None:
        made = (await ana.send("POST", "/conversations", {"title": "t"})).json()
        path = f"/conversations/{made['id']}"
        changed = (await ana.send("PATCH", path, {"model_type": "a:b"})).json()
        assert changed == {
            **made,
            "model_type": "a:b",
            "updated_at": changed["updated_at"],
        }

    async def test_by_nulls_or_by_nothing_changes_nothing(self, ana: Person) -> None:
        made = (await ana.send("POST", "/conversations", {"title": "t"})).json()
        path = f"/conversations/{made['id']}"
        for body in ({}, {"title": None, "is_archived": None}):
            answer = await ana.send("PATCH", path, body)
            assert (answer.status_code, answer.json()) == (200, made)
        archived = await ana.send("PATCH", path, {"title": None, "is_archived": True})
        assert (archived.json()["title"], archived.json()["is_archived"]) == ("t", True)

    async def test_by_an_empty_title_is_untitled(self, ana: Person) -> None:
        made = (await ana.send("POST", "/conversations", {"title": "t"})).json()
        path = f"/conversations/{made['id']}"
        assert (await ana.send("PATCH", path, {"title": ""})).json()["title"] is None
        assert (await ana.get(path))["title"] is None

    async def test_by_put_keeps_what_is_left_out(self, ana: Person) -> None:
        made = (await ana.send("POST", "/conversations", {"model_type": "a:b"})).json()
        path = f"/conversations/{made['id']}"
        put = (await ana.send("PUT", path, {"title": "t", "is_archived": True})).json()
        assert (put["title"], put["model_type"], put["is_archived"]) == ("t", "a:b", True)

    async def test_refuses_what_it_does_not_know(self, ana: Person) -> None:
        path = await ana.converse()
        before = await ana.get(path)
        for method, body in (("PATCH", {"message_count": 0}), ("PUT", {})):
            assert (await ana.send(method, path, body)).status_code == 422
        assert await ana.get(path) == before

    async def test_switches_the_branch(self, ana: Person) -> None:
        path = await ana.converse("1", "2")
        first, second = await ana.get(f"{path}/messages")
        await ana.say(path, "2b", parent_id=first["id"])
        assert await ana.read(path, "branch=head") == ["1", "2b"]
        switched = await ana.send("PATCH", path, {"head_id": second["id"]})
        assert switched.json()["head_id"] == second["id"]
        await ana.say(path, "3")
        assert await ana.read(path, "branch=head") == ["1", "2", "3"]
        assert await ana.read(path) == ["1", "2", "2b", "3"]

    async def test_can_go_back_before_the_first_message(self, ana: Person) -> None:
        path = await ana.converse("1", "2")
        assert (await ana.send("PATCH", path, {"head_id": None})).json()["head_id"] is None
        assert await ana.read(path, "branch=head") == []
        await ana.say(path, "another beginning")
        assert await ana.read(path, "branch=head") == ["another beginning"]

    async def test_to_a_message_of_another_conversation_is_not_found(self, ana: Person) -> None:
        path, other = await ana.converse("1"), await ana.converse("2")
        (message,) = await ana.get(f"{other}/messages")
        answer = await ana.send("PATCH", path, {"head_id": message["id"], "title": "t"})
        assert refusal(answer) == (404, "message_not_found")
        assert (await ana.get(path))["title"] is None


class TestOthers:
    REQUESTS = (
        ("GET", "", None),
        ("PATCH", "", {"title": None}),
        ("PATCH", "", {"title": "mine"}),
        ("PATCH", "", {"head_id": str(uuid1())}),
        ("PUT", "", {"title": "mine"}),
        ("DELETE", "", None),
        ("GET", "/messages", None),
        ("GET", "/messages?branch=head", None),
        ("GET", "/messages?branch=MESSAGE", None),
        ("GET", "/messages?skip=5", None),
        ("POST", "/messages", {"role": "user", "content": "x"}),
        ("GET", "/messages/MESSAGE", None),
        ("PATCH", "/messages/MESSAGE", {"content": "x"}),
        ("PUT", "/messages/MESSAGE", {"content": "x"}),
        ("DELETE", "/messages/MESSAGE", None),
    )

    async def test_cannot_tell_what_is_there_from_what_is_not(
        self, ana: Person, bob: Person
    ) -> None:
        path = await ana.converse("secret")
        (message,) = await ana.get(f"{path}/messages")
        before = await ana.get(path), await ana.get(f"{path}/messages")
        for method, rest, body in self.REQUESTS:
            target = rest.replace("MESSAGE", message["id"])
            theirs = await bob.send(method, path + target, body)
            missing = await bob.send(method, NOWHERE + target, body)
            assert theirs.status_code == 404, (method, rest)
            assert theirs.content == missing.content, (method, rest)
            assert "secret" not in theirs.text
        assert (await ana.get(path), await ana.get(f"{path}/messages")) == before
        assert await bob.get("/conversations") == []

    async def test_messages_are_no_parents_of_mine(self, ana: Person, bob: Person) -> None:
        theirs = await ana.say(await ana.converse(), "theirs")
        mine = await bob.converse()
        answer = await bob.send(
            "POST",
            f"{mine}/messages",
            {"role": "user", "content": "x", "parent_id": theirs["id"]},
        )
        assert refusal(answer) == (404, "message_not_found")

    async def test_cursors_open_nothing(self, ana: Person, bob: Person) -> None:
        for _ in range(3):
            await ana.converse()
        link = next_of(await ana.send("GET", "/conversations?limit=1"))
        assert await bob.get(link or "") == []

    async def test_who_are_nobody_are_told_nothing(self, client: httpx2.AsyncClient) -> None:
        for method, rest, body in self.REQUESTS:
            answer = await client.request(method, NOWHERE + rest, json=body)
            assert answer.status_code in {401, 422}, (method, rest)
        assert (await client.get("/conversations")).status_code == 401
        assert (await client.post("/conversations", json={})).status_code == 401

    async def test_ids_that_are_none_are_refused(self, ana: Person) -> None:
        for id_ in ("1", "null", "../auth", "' OR 1=1 --", "%00", "0" * 5000):
            answer = await ana.send("GET", f"/conversations/{id_}")
            assert answer.status_code in {404, 422}, id_


class TestIdempotencyKey:
    async def test_makes_one_conversation(self, ana: Person) -> None:
        body = {"title": "t", "first_message": "hi"}
        first = await ana.send("POST", "/conversations", body, key="k")
        again = await ana.send("POST", "/conversations", body, key="k")
        assert (first.status_code, again.status_code) == (201, 201)
        assert first.json() == again.json()
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert len(await ana.get("/conversations")) == 1

    async def test_returns_the_thing_as_it_is_now(self, ana: Person) -> None:
        made = await ana.send("POST", "/conversations", {"title": "t"}, key="k")
        path = f"/conversations/{made.json()['id']}"
        await ana.send("PATCH", path, {"title": "u"})
        again = await ana.send("POST", "/conversations", {"title": "t"}, key="k")
        assert again.json()["title"] == "u"

    async def test_of_a_thing_that_is_deleted_makes_no_other(self, ana: Person) -> None:
        made = await ana.send("POST", "/conversations", {}, key="k")
        await ana.send("DELETE", f"/conversations/{made.json()['id']}")
        again = await ana.send("POST", "/conversations", {}, key="k")
        assert refusal(again) == (404, "conversation_not_found")
        assert await ana.get("/conversations") == []

    async def test_with_another_body_or_place_is_refused(self, ana: Person) -> None:
        path, other = await ana.converse(), await ana.converse()
        body = {"role": "user", "content": "x"}
        assert (await ana.send("POST", f"{path}/messages", body, key="k")).status_code == 201
        for target, another in (
            (f"{path}/messages", {"role": "user", "content": "y"}),
            (f"{other}/messages", body),
            ("/conversations", {}),
        ):
            answer = await ana.send("POST", target, another, key="k")
            assert refusal(answer) == (422, "idempotency_key_reused")

    async def test_of_another_user_is_unrelated(self, ana: Person, bob: Person) -> None:
        made = await ana.send("POST", "/conversations", {"title": "t"}, key="k")
        theirs = await bob.send("POST", "/conversations", {"title": "u"}, key="k")
        assert theirs.status_code == 201
        assert theirs.json()["id"] != made.json()["id"]

    async def test_of_fifty_requests_at_once_makes_one_message(self, ana: Person) -> None:
        path = await ana.converse()
        body = {"role": "user", "content": "once"}
        answers = await asyncio.gather(
            *(ana.send("POST", f"{path}/messages", body, key="k") for _ in range(50))
        )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
        assert (await ana.get(path))["message_count"] == 1

    async def test_of_a_request_that_failed_is_free(self, ana: Person) -> None:
        body = {"role": "user", "content": "x"}
        answer = await ana.send("POST", f"{NOWHERE}/messages", body, key="k")
        assert answer.status_code == 404
        assert (await ana.send("POST", "/conversations", {}, key="k")).status_code == 201
