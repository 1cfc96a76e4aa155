"""`/auth` as its clients see it: statuses, shapes, and who may."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest

from tertulia.auth.administration import UserAdministration
from tertulia.domain.ids import new_id

from .people import PASSWORD, Person, login, refusal

ACCOUNT: dict[str, Any] = {
    "email": "alice@example.com",
    "username": "alice",
    "password": PASSWORD,
}
LOGIN, CONFIRM = (401, "wrong_credentials"), (403, "wrong_password")


async def register(client: httpx2.AsyncClient, **changed: object) -> httpx2.Response:
    return await client.post("/auth/register", json={**ACCOUNT, **changed})


class TestRegister:
    async def test_answers_as_in_the_seed(self, client: httpx2.AsyncClient) -> None:
        answer = await register(client)
        assert answer.status_code == 201
        shown = answer.json()
        assert shown["email"] == "alice@example.com"
        assert shown["username"] == "alice"
        assert shown["is_active"] is True
        assert datetime.fromisoformat(shown["created_at"]).utcoffset() == timedelta(0)
        assert set(shown) == {"id", "email", "username", "is_active", "is_admin", "created_at"}

    async def test_of_a_taken_address_is_400(self, client: httpx2.AsyncClient) -> None:
        await register(client)
        answer = await register(client, email="ALICE@Example.com", username="another")
        assert refusal(answer) == (400, "email_taken")
        assert answer.json()["detail"] == "Email already registered"

    async def test_of_a_taken_name_is_400(self, client: httpx2.AsyncClient) -> None:
        await register(client)
        answer = await register(
            client, email="b@example.com", username="\uff21\uff2c\uff29\uff23\uff25"
        )
        assert refusal(answer) == (400, "username_taken")
        assert answer.json()["detail"] == "Username already taken"

    async def test_of_an_unknown_or_wrong_field_is_422_and_names_it(
        self, client: httpx2.AsyncClient
    ) -> None:
        wrong: list[tuple[str, Any]] = [
            ("is_admin", True),
            ("is_active", False),
            ("id", str(new_id())),
            ("password_hash", "x"),
            ("email", "alice"),
            ("email", None),
            ("email", ["alice@example.com"]),
            ("email", "a" * 95 + "@example.com"),
            ("username", "al"),
            ("username", "x" * 51),
            ("username", True),
            ("username", 12345),
            ("username", " alice"),
            ("username", "ali\u202ece"),
            ("password", "short"),
            ("password", "x" * 129),
            ("password", 12345678),
            ("password", {"$ne": ""}),
        ]
        for field, value in wrong:
            answer = await register(client, **{field: value})
            assert refusal(answer) == (422, "invalid_request"), (field, value)
            assert answer.json()["errors"][0]["field"] == f"body.{field}"
            assert "x" * 51 not in answer.text

    async def test_takes_passwords_of_any_script_up_to_128_characters(
        self, client: httpx2.AsyncClient
    ) -> None:
        password = "密🔑\t" + "x" * 125
        assert (await register(client, password=password)).status_code == 201
        assert (await login(client, "alice@example.com", password)).status_code == 200
        assert (await login(client, "alice@example.com", password[:-1])).status_code == 401


class TestLogin:
    async def test_answers_as_in_the_seed(self, client: httpx2.AsyncClient) -> None:
        await register(client)
        answer = await login(client, "alice@example.com")
        assert answer.status_code == 200
        tokens = answer.json()
        assert tokens["token_type"] == "bearer"
        assert tokens["expires_in"] == 1800
        assert set(tokens) == {"access_token", "token_type", "expires_in", "refresh_token"}
        assert answer.headers["cache-control"] == "no-store"

    async def test_of_nobody_and_with_a_wrong_password_are_the_same_401(
        self, client: httpx2.AsyncClient
    ) -> None:
        await register(client)
        wrong = await login(client, "alice@example.com", "password124")
        unknown = await login(client, "nobody@example.com")
        assert refusal(wrong) == (401, "wrong_credentials")
        assert wrong.json() == unknown.json()
        assert wrong.json()["detail"] == "Incorrect email or password"
        assert wrong.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("name", ["alice", "nobody"])
    async def test_with_fifty_wrong_passwords_is_429_and_says_until_when(
        self, client: httpx2.AsyncClient, name: str
    ) -> None:
        await register(client)
        for _ in range(50):
            answer = await login(client, f"{name}@example.com", "a guess")
            assert refusal(answer) == (401, "wrong_credentials")
        for password in ("a guess", PASSWORD):
            answer = await login(client, f"{name}@example.com", password)
            assert refusal(answer) == (429, "too_many_attempts")
            assert 880 < int(answer.headers["retry-after"]) <= 900
        assert (await register(client, email="b@example.com", username="bob")).status_code == 201
        assert (await login(client, "b@example.com")).status_code == 200

    async def test_with_an_empty_password_is_401(self, client: httpx2.AsyncClient) -> None:
        await register(client)
        assert (await login(client, "alice@example.com", "")).status_code == 401

    async def test_with_unknown_fields_is_422(self, client: httpx2.AsyncClient) -> None:
        body = {"email": "a@example.com", "password": PASSWORD, "remember": True}
        assert (await client.post("/auth/login", json=body)).status_code == 422

    async def test_of_an_inactive_user_is_403(
        self, client: httpx2.AsyncClient, administration: UserAdministration
    ) -> None:
        await register(client)
        await administration.set_active("alice@example.com", is_active=False)
        answer = await login(client, "alice@example.com")
        assert refusal(answer) == (403, "user_inactive")
        assert answer.json()["detail"] == "User is inactive"


class TestMe:
    async def test_shows_the_account(self, ana: Person) -> None:
        answer = await ana.me()
        assert answer.status_code == 200
        assert answer.json()["email"] == "ana@example.com"

    async def test_of_an_inactive_user_is_403(
        self, ana: Person, administration: UserAdministration
    ) -> None:
        await administration.set_active("ana@example.com", is_active=False)
        assert refusal(await ana.me()) == (403, "user_inactive")

    async def test_deletes_the_account(self, ana: Person) -> None:
        body = {"password": "password124"}
        assert refusal(await ana.send("DELETE", "/auth/me", body)) == (403, "wrong_password")
        body = {"password": PASSWORD}
        assert (await ana.send("DELETE", "/auth/me", body)).status_code == 204
        assert (await ana.me()).status_code == 401
        assert (await login(ana.client, "ana@example.com")).status_code == 401


class TestRefresh:
    async def test_gives_new_tokens(self, ana: Person) -> None:
        answer = await ana.refresh()
        assert answer.status_code == 200
        assert (await ana.me(answer.json()["access_token"])).status_code == 200

    async def test_used_twice_is_401_and_kills_the_family(self, ana: Person) -> None:
        tokens = (await ana.refresh()).json()
        assert refusal(await ana.refresh()) == (401, "refresh_token_reused")
        for token in (ana.access_token, tokens["access_token"]):
            assert (await ana.me(token)).status_code == 401
        assert (await ana.refresh(tokens["refresh_token"])).status_code == 401

    async def test_made_up_from_a_session_that_is_known_is_401_and_ends_nothing(
        self, ana: Person
    ) -> None:
        (session,) = (await ana.send("GET", "/auth/sessions")).json()
        made_up = f"rt_{UUID(session['id']).hex}_{'A' * 43}.{'A' * 43}"
        assert refusal(await ana.refresh(made_up)) == (401, "unauthenticated")
        assert (await ana.me()).status_code == 200
        assert (await ana.refresh()).status_code == 200

    async def test_with_something_else_is_401(self, ana: Person) -> None:
        for token in ("x", ana.access_token, "rt_" + "é" * 32, "sk-" + "a" * 43):
            assert (await ana.refresh(token)).status_code == 401


class TestLogout:
    async def test_kills_the_access_token_at_once(self, ana: Person) -> None:
        other = await Person.log_in(ana.client, "ana")
        assert (await ana.send("POST", "/auth/logout")).status_code == 204
        assert (await ana.me()).status_code == 401
        assert (await ana.refresh()).status_code == 401
        assert (await ana.send("POST", "/auth/logout")).status_code == 401
        assert (await other.me()).status_code == 200

    async def test_all_kills_every_session(self, ana: Person, bob: Person) -> None:
        other = await Person.log_in(ana.client, "ana")
        assert (await ana.send("POST", "/auth/logout-all")).status_code == 204
        assert [(await one.me()).status_code for one in (ana, other, bob)] == [401, 401, 200]


class TestPassword:
    async def test_change_ends_sessions_and_answers_with_a_new_one(self, ana: Person) -> None:
        body = {"current_password": PASSWORD, "new_password": "a new one"}
        answer = await ana.send("POST", "/auth/password", body)
        assert answer.status_code == 200
        assert (await ana.me()).status_code == 401
        assert (await ana.me(answer.json()["access_token"])).status_code == 200

    async def test_change_with_a_wrong_password_is_403(self, ana: Person) -> None:
        body = {"current_password": "password124", "new_password": "a new one"}
        answer = await ana.send("POST", "/auth/password", body)
        assert refusal(answer) == (403, "wrong_password")
        assert (await ana.me()).status_code == 200

    async def test_change_to_a_short_one_is_422(self, ana: Person) -> None:
        body = {"current_password": PASSWORD, "new_password": "short"}
        answer = await ana.send("POST", "/auth/password", body)
        assert refusal(answer) == (422, "invalid_request")
        assert PASSWORD not in answer.text


class TestGuessing:
    async def test_is_refused_alike_at_every_door(self, ana: Person) -> None:
        change = {"current_password": "a guess", "new_password": "a new one"}
        doors: list[tuple[str, str, dict[str, str], tuple[int, str]]] = [
            ("POST", "/auth/login", {"email": "ANA@example.com", "password": "a guess"}, LOGIN),
            ("POST", "/auth/password", change, CONFIRM),
            ("DELETE", "/auth/me", {"password": "a guess"}, CONFIRM),
        ]
        for number in range(50):
            method, path, body, expected = doors[number % 3]
            assert refusal(await ana.send(method, path, body)) == expected, number
        for method, path, body, _ in doors:
            answer = await ana.send(method, path, body)
            assert refusal(answer) == (429, "too_many_attempts"), path
            assert int(answer.headers["retry-after"]) > 0
        assert (await ana.me()).status_code == 200


class TestSessions:
    async def test_are_listed_with_the_current_one_marked(self, ana: Person, bob: Person) -> None:
        newer = await Person.log_in(ana.client, "ana")
        sessions = (await ana.send("GET", "/auth/sessions")).json()
        assert [one["is_current"] for one in sessions] == [False, True]
        seen_by_newer = (await newer.send("GET", "/auth/sessions")).json()
        assert [one["is_current"] for one in seen_by_newer] == [True, False]
        assert len((await bob.send("GET", "/auth/sessions")).json()) == 1
        assert set(sessions[0]) == {
            "id",
            "created_at",
            "refreshed_at",
            "expires_at",
            "is_current",
        }

    async def test_are_listed_in_pages(self, ana: Person) -> None:
        await Person.log_in(ana.client, "ana")
        first = await ana.send("GET", "/auth/sessions?limit=1")
        second = await ana.send("GET", first.links["next"]["url"])
        assert [len(page.json()) for page in (first, second)] == [1, 1]
        assert "next" not in second.links

    async def test_are_ended_one_by_one(self, ana: Person) -> None:
        other = await Person.log_in(ana.client, "ana")
        newest = (await ana.send("GET", "/auth/sessions")).json()[0]
        path = f"/auth/sessions/{newest['id']}"
        assert (await ana.send("DELETE", path)).status_code == 204
        assert (await other.me()).status_code == 401
        assert refusal(await ana.send("DELETE", path)) == (404, "session_not_found")

    async def test_of_others_are_as_missing(self, ana: Person, bob: Person) -> None:
        (theirs,) = (await bob.send("GET", "/auth/sessions")).json()
        foreign = await ana.send("DELETE", f"/auth/sessions/{theirs['id']}")
        missing = await ana.send("DELETE", f"/auth/sessions/{new_id()}")
        assert foreign.status_code == 404
        assert foreign.json() == missing.json()
        assert (await bob.me()).status_code == 200


class TestApiKeys:
    async def test_show_their_secret_once(self, ana: Person) -> None:
        body = {"name": "laptop", "expires_in_days": 30}
        answer = await ana.send("POST", "/auth/api-keys", body)
        assert answer.status_code == 201
        made = answer.json()
        created, expires = (
            datetime.fromisoformat(made[name]) for name in ("created_at", "expires_at")
        )
        assert expires - created == timedelta(days=30)
        (shown,) = (await ana.send("GET", "/auth/api-keys")).json()
        assert made == {**shown, "key": made["key"]}
        assert made["key"] not in str(shown)
        assert made["key"].startswith(shown["prefix"])

    async def test_are_taken_where_an_access_token_is(self, ana: Person) -> None:
        key = await ana.new_api_key()
        assert (await ana.me(key)).json() == (await ana.me()).json()
        (shown,) = (await ana.send("GET", "/auth/api-keys")).json()
        assert shown["last_used_at"] is not None

    async def test_make_no_other_keys_and_end_no_session_of_their_own(self, ana: Person) -> None:
        key = await ana.new_api_key()
        for path, body in [("/auth/api-keys", {"name": "another"}), ("/auth/logout", None)]:
            answer = await ana.send("POST", path, body, token=key)
            assert refusal(answer) == (403, "forbidden"), path
        assert len((await ana.send("GET", "/auth/api-keys")).json()) == 1
        assert (await ana.me()).status_code == 200

    async def test_do_not_stand_in_for_the_password(self, ana: Person) -> None:
        key = await ana.new_api_key()
        change = {"current_password": "a guess", "new_password": "a new one"}
        answer = await ana.send("POST", "/auth/password", change, token=key)
        assert refusal(answer) == (403, "wrong_password")
        answer = await ana.send("DELETE", "/auth/me", {"password": "a guess"}, token=key)
        assert refusal(answer) == (403, "wrong_password")

    async def test_list_sessions_and_keys_and_revoke_themselves(self, ana: Person) -> None:
        key = await ana.new_api_key()
        sessions = (await ana.send("GET", "/auth/sessions", token=key)).json()
        assert [session["is_current"] for session in sessions] == [False] * len(sessions)
        (shown,) = (await ana.send("GET", "/auth/api-keys", token=key)).json()
        path = f"/auth/api-keys/{shown['id']}"
        assert (await ana.send("DELETE", path, token=key)).status_code == 204
        assert (await ana.me(key)).status_code == 401

    async def test_are_revoked(self, ana: Person) -> None:
        key = await ana.new_api_key()
        (shown,) = (await ana.send("GET", "/auth/api-keys")).json()
        path = f"/auth/api-keys/{shown['id']}"
        assert (await ana.send("DELETE", path)).status_code == 204
        assert (await ana.me(key)).status_code == 401
        assert (await ana.send("GET", "/auth/api-keys")).json() == []
        assert refusal(await ana.send("DELETE", path)) == (404, "api_key_not_found")

    async def test_of_others_are_as_missing(self, ana: Person, bob: Person) -> None:
        key = await bob.new_api_key()
        (theirs,) = (await bob.send("GET", "/auth/api-keys")).json()
        foreign = await ana.send("DELETE", f"/auth/api-keys/{theirs['id']}")
        missing = await ana.send("DELETE", f"/auth/api-keys/{new_id()}")
        assert foreign.status_code == 404
        assert foreign.json() == missing.json()
        assert (await ana.send("GET", "/auth/api-keys")).json() == []
        assert (await bob.me(key)).status_code == 200

    async def test_with_wrong_fields_are_422(self, ana: Person) -> None:
        wrong: list[dict[str, Any]] = [
            {},
            {"name": ""},
            {"name": " "},
            {"name": "a\nb"},
            {"name": "x" * 101},
            {"name": True},
            {"name": "x", "expires_in_days": 0},
            {"name": "x", "expires_in_days": 3651},
            {"name": "x", "expires_in_days": True},
            {"name": "x", "expires_in_days": "30"},
            {"name": "x", "user_id": str(new_id())},
            {"name": "x", "key": "sk-mine"},
        ]
        for body in wrong:
            answer = await ana.send("POST", "/auth/api-keys", body)
            assert refusal(answer) == (422, "invalid_request"), body


class TestDeactivatedUser:
    async def test_finds_every_door_closed(
        self, ana: Person, administration: UserAdministration
    ) -> None:
        key = await ana.new_api_key()
        await administration.set_active("ANA@example.com", is_active=False)
        answers = [
            await ana.me(),
            await ana.me(key),
            await ana.refresh(),
            await ana.send("POST", "/auth/api-keys", {"name": "x"}),
            await ana.send("POST", "/auth/logout"),
            await login(ana.client, "ana@example.com"),
        ]
        assert [refusal(answer) for answer in answers] == [(403, "user_inactive")] * 6


class TestListLimits:
    @pytest.mark.parametrize("path", ["/auth/sessions", "/auth/api-keys"])
    async def test_are_bounded(self, ana: Person, path: str) -> None:
        for query in ("limit=0", "limit=201", "limit=x", "cursor=zzz", "cursor=" + "a" * 300):
            assert (await ana.send("GET", f"{path}?{query}")).status_code == 422, query


async def test_the_documentation_names_the_bearer_scheme(client: httpx2.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert described["paths"]["/auth/me"]["get"]["security"] == [{"bearer": []}]
    assert "security" not in described["paths"]["/auth/login"]["post"]
