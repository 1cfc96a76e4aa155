"""An attacker with an account of their own, and one without; see `attacks` for what they send."""

import asyncio
import base64
import hmac
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid1

import httpx2
import jwt
import pytest

from tertulia.domain.ids import new_id
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.pair import asked, calls_of, script
from tests.kit.replica import SECRET_KEY, Replica
from tests.kit.stage import fetch, fresh_database, model_env, run, scripted_provider
from tests.kit.waiting import until

from .attacks import FOREIGN, LITERAL, REFRESH_TOKENS, Attack, all_attacks

pytestmark = pytest.mark.xdist_group("attacks")

PASSWORD = "correct horse battery"
# Not `api_keys`: using one is written down there.
TABLES = ("users", "sessions", "conversations", "messages", "runs", "idempotency_keys")
STORED = " UNION ALL ".join(
    f"SELECT '{table}' AS name, count(*), max(xmin::text::bigint) AS changed FROM {table}"  # noqa: S608  the names above
    for table in TABLES
)


@dataclass
class User:
    """Somebody with a conversation, an answered message, a session and a key."""

    client: httpx2.Client
    token: str
    refresh_token: str
    things: dict[str, str]


@dataclass(frozen=True)
class Stage:
    """The server, its owner of things and its attacker."""

    dsn: str
    url: str
    provider_url: str
    victim: User
    attacker: User

    def names(self) -> dict[str, str]:
        theirs = {f"their_{name}": value for name, value in self.victim.things.items()}
        return {**self.attacker.things, **theirs, "missing": str(new_id())}


@pytest.fixture(scope="module")
def stage(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home: Path = tmp_path_factory.mktemp("attacks")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(home / "calls") as base_url,
        Replica(dsn, home / "replica.log", env=model_env(base_url)) as replica,
        httpx2.Client(base_url=replica.url, trust_env=False, timeout=20) as one,
        httpx2.Client(base_url=replica.url, trust_env=False, timeout=20) as two,
    ):
        yield Stage(dsn, replica.url, base_url, furnished(one), furnished(two))
        assert PASSWORD not in replica.log.read_text()


def account() -> dict[str, str]:
    name = f"u{uuid1().hex}"
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD}


def furnished(client: httpx2.Client) -> User:
    """Register, log in, and make one of everything."""
    made = account()
    assert client.post("/auth/register", json=made).status_code == 201
    login = {"email": made["email"], "password": PASSWORD}
    tokens = client.post("/auth/login", json=login).json()
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    conversation = client.post("/conversations", json={"title": "Secret plans"}).json()["id"]
    started = client.post(f"/conversations/{conversation}/runs", json={"content": "hi"}).json()
    while client.get(f"/runs/{started['id']}").json()["status"] in ("queued", "running"):
        time.sleep(0.05)
    messages = client.get(f"/conversations/{conversation}/messages").json()
    things = {
        "conversation": conversation,
        "message": messages[0]["id"],
        "run": started["id"],
        "session": client.get("/auth/sessions").json()[0]["id"],
        "key": client.post("/auth/api-keys", json={"name": "key"}).json()["id"],
    }
    return User(client, tokens["access_token"], tokens["refresh_token"], things)


@pytest.fixture
def nothing_is_stored(stage: Stage) -> Iterator[None]:
    """Whatever the test does, no row is added, removed or changed, and the server is well."""
    before = run(fetch(stage.dsn, STORED))
    yield
    assert run(fetch(stage.dsn, STORED)) == before
    assert stage.victim.client.get("/health").status_code == 200
    assert stage.victim.client.get("/auth/me").status_code == 200


def filled(value: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401  any JSON
    """Return it with the names of things replaced by their ids."""
    match value:
        case str():
            for name, found in names.items():
                value = value.replace(f"{{{name}}}", found)
            return value
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {key: filled(member, names) for key, member in items}
        case _:
            return value


def assert_refused(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The refusal has the one shape and tells no secret."""
    assert answer.status_code == status, answer.text[:500]
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert isinstance(body["code"], str)
    assert set(body) <= {"detail", "code", "errors"}
    for secret in (PASSWORD, "correct horse", SECRET_KEY, "Traceback", "asyncpg", "SELECT "):
        assert secret not in answer.text
    assert "set-cookie" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    return body


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize(
    "attack", [pytest.param(attack, id=name) for name, attack in all_attacks()]
)
def test_is_refused_with_the_reason(stage: Stage, attack: Attack) -> None:
    names = stage.names()
    headers = dict(attack.headers)
    content: bytes | None = attack.raw
    if attack.raw is not None:
        headers.setdefault("Content-Type", "application/json")
    answer = stage.attacker.client.send(
        stage.attacker.client.build_request(
            attack.method,
            stage.url + filled(attack.path, names),
            headers=headers,
            content=content,
            json=filled(attack.body, names),
        )
    )
    body = assert_refused(answer, attack.status)
    if attack.code is not None:
        assert body["code"] == attack.code
    if attack.field is not None:
        assert attack.field in [error["field"] for error in body["errors"]]


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize(("method", "path", "body"), FOREIGN)
def test_another_users_thing_is_missing(stage: Stage, method: str, path: str, body: Any) -> None:  # noqa: ANN401  any JSON
    names = stage.names()
    missing = {
        name: names["missing"] if name.startswith("their_") else value
        for name, value in names.items()
    }
    client = stage.attacker.client
    theirs, nobodys = (
        client.request(method, filled(path, each), json=filled(body, each))
        for each in (names, missing)
    )
    assert_refused(theirs, 404)
    assert (theirs.status_code, theirs.content) == (nobodys.status_code, nobodys.content)


@pytest.mark.parametrize("text", LITERAL)
def test_a_text_is_only_a_text(stage: Stage, text: str) -> None:
    client = stage.attacker.client
    made = client.post("/conversations", json={"title": text, "first_message": text})
    assert made.status_code == 201
    assert made.json()["title"] == text
    assert "set-cookie" not in made.headers
    path = f"/conversations/{made.json()['id']}"
    assert client.get(path).json()["title"] == text
    assert [each["content"] for each in client.get(f"{path}/messages").json()] == [text]
    found = client.get("/conversations", params={"model_type": text})
    assert (found.status_code, found.json()) == (200, [])
    assert client.delete(path).status_code == 204


def claims(stage: Stage, **changed: Any) -> dict[str, Any]:  # noqa: ANN401  any claim
    """Return what the attacker's own token says, changed."""
    said: dict[str, Any] = jwt.decode(  # pyright: ignore[reportUnknownMemberType]  its key may be of a library that is not installed
        stage.attacker.token, options={"verify_signature": False}
    )
    return {name: value for name, value in {**said, **changed}.items() if value is not None}


def signed(stage: Stage, key: str = SECRET_KEY, **changed: Any) -> str:  # noqa: ANN401  any claim
    return jwt.encode(claims(stage, **changed), key, algorithm="HS256")  # pyright: ignore[reportUnknownMemberType]  as above


def unsigned(stage: Stage) -> str:
    return jwt.encode(claims(stage), "", algorithm="none")  # pyright: ignore[reportUnknownMemberType]  as above


def with_sha_512(stage: Stage) -> str:
    """Sign with the right key; PyJWT itself would refuse one that is short for this algorithm."""
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS512", "typ": "JWT"}, claims(stage))
    )
    signature = hmac.digest(SECRET_KEY.encode(), head + b"." + body, "sha512")
    return b".".join([head, body, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def bent(stage: Stage) -> str:
    head, body, signature = stage.attacker.token.split(".")
    return f"{head}.{body[:-2]}AA.{signature}"


HOUR_AGO = int(datetime.now(UTC).timestamp()) - 3600
TOKENS: dict[str, Callable[[Stage], str]] = {
    "nothing": lambda _: "",
    "garbage": lambda _: "garbage",
    "two dots": lambda _: "..",
    "no signature asked for": unsigned,
    "another key": lambda stage: signed(stage, SECRET_KEY[::-1]),
    "another algorithm": with_sha_512,
    "a changed body": bent,
    "expired": lambda stage: signed(stage, exp=HOUR_AGO),
    "no end": lambda stage: signed(stage, exp=None),
    "an end in words": lambda stage: signed(stage, exp="tomorrow"),
    "an end beyond time": lambda stage: signed(stage, exp=10**12),
    "an end beyond the platform's time": lambda stage: signed(stage, exp=10**18),
    "a longer end than was given": lambda stage: signed(stage, exp=HOUR_AGO - 10**9),
    "another type": lambda stage: signed(stage, typ="refresh"),
    "no type": lambda stage: signed(stage, typ=None),
    "another issuer": lambda stage: signed(stage, iss="evil"),
    "no session": lambda stage: signed(stage, sid=None),
    "an unknown session": lambda stage: signed(stage, sid=str(new_id())),
    "another user's session": lambda stage: signed(stage, sid=stage.victim.things["session"]),
    "another user": lambda stage: signed(stage, sub=victim_id(stage)),
    "a user that is a list": lambda stage: signed(stage, sub=["a"]),
    "a user that is SQL": lambda stage: signed(stage, sub="' OR 1=1--"),
    "a refresh token": lambda stage: stage.attacker.refresh_token,
    "an unknown API key": lambda _: "sk-" + "A" * 43,
    "a short API key": lambda _: "sk-",
    "an API key with a wildcard": lambda _: "sk-" + "%" * 43,
    "another token behind it": lambda stage: f"{stage.attacker.token} {stage.victim.token}",
    "a long token": lambda _: "a" * 9000,
}


def victim_id(stage: Stage) -> str:
    return str(stage.victim.client.get("/auth/me").json()["id"])


# Each asks for who asks in a way of its own: by a statement for that, or by the one that does it.
DOORS: Sequence[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/auth/me", None),
    ("GET", "/conversations", None),
    ("GET", "/conversations?model_type=nobody&archived=true", None),
    ("GET", "/conversations/{%s}", None),
    ("GET", "/conversations/{%s}/messages", None),
    ("GET", "/conversations/{%s}/messages?skip=1000", None),
    ("GET", "/conversations/{%s}/messages?branch=head&order=desc", None),
    ("GET", "/conversations/{%s}/messages?branch={missing}", None),
    ("POST", "/conversations/{%s}/messages", {"role": "user", "content": "x"}),
    ("POST", "/conversations/{%s}/messages", {"role": "user", "content": "x", "parent_id": None}),
    (
        "POST",
        "/conversations/{%s}/messages",
        {"role": "user", "content": "x", "parent_id": "{missing}"},
    ),
    ("POST", "/conversations/{%s}/runs", {"content": "x"}),
    ("POST", "/conversations/{%s}/runs", {"content": "hi"}),  # which was asked
    ("POST", "/conversations/{%s}/runs", {"content": "x", "on_busy": "queue"}),
    ("POST", "/conversations/{%s}/runs", {"content": "x", "model_type": "no:such"}),
    ("POST", "/conversations/{%s}/runs", {"content": "x", "parent_id": "{missing}"}),
    ("GET", "/text/generate/stream?prompt=x&conversation_id={%s}", None),
]
"""`%s`: a conversation of the attacker's, of another user's, of nobody's."""
RECONNECT = {"Accept": "text/event-stream", "Last-Event-ID": "0"}


def assert_shut(stage: Stage, token: str, status: int, names: Mapping[str, str]) -> None:
    """Whoever comes with the token is turned away at every door, however they knock."""
    with httpx2.Client(base_url=stage.url, trust_env=False, timeout=20) as client:
        client.headers["Authorization"] = f"Bearer {token}".strip()
        for method, path, body in DOORS:
            for whose in ("conversation", "their_conversation", "missing"):
                target = filled(path.replace("%s", whose), names)
                for headers in ({}, {"Idempotency-Key": str(new_id())}, RECONNECT):
                    sent = filled(body, names)
                    answer = client.request(method, target, json=sent, headers=headers)
                    assert_refused(answer, status)
                    if status == 401:
                        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("kind", TOKENS)
def test_opens_nothing(stage: Stage, kind: str) -> None:
    assert_shut(stage, TOKENS[kind](stage), 401, stage.names())


HEADERS: dict[str, Callable[[str], list[tuple[str, str]]]] = {
    "none": lambda _: [],
    "without a scheme": lambda token: [("Authorization", token)],
    "another scheme": lambda token: [("Authorization", f"Basic {token}")],
    "a scheme of its own": lambda token: [("Authorization", f"Token {token}")],
    "two headers": lambda token: [("Authorization", f"Bearer {token}")] * 2,
    "one good and one bad": lambda token: [
        ("Authorization", f"Bearer {token}"),
        ("Authorization", "Bearer x"),
    ],
    "a cookie": lambda token: [("Cookie", f"access_token={token}; session={token}")],
    "a proxy's header": lambda token: [("Proxy-Authorization", f"Bearer {token}")],
    "a header that a proxy would set": lambda _: [("X-Forwarded-User", "admin")],
}


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("kind", HEADERS)
def test_is_no_authorization(stage: Stage, kind: str) -> None:
    headers = HEADERS[kind](stage.attacker.token)
    # Whatever else is wrong.
    for path in (
        "/auth/me",
        "/conversations?limit=0",
        f"/conversations/{new_id()}/messages?skip=x",
    ):
        answer = httpx2.get(stage.url + path, headers=headers, trust_env=False)
        assert_refused(answer, 401)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("token", REFRESH_TOKENS)
def test_a_made_up_refresh_token_ends_no_session(stage: Stage, token: str) -> None:
    names = {name: value.replace("-", "") for name, value in stage.names().items()}
    body = {"refresh_token": filled(token, names)}
    answer = httpx2.post(f"{stage.url}/auth/refresh", json=body, trust_env=False)
    assert assert_refused(answer, 401)["code"] == "unauthenticated"


@pytest.mark.usefixtures("nothing_is_stored")
def test_who_guesses_must_wait_and_is_told_for_how_long(stage: Stage) -> None:
    guess = {"email": f"{new_id()}@example.com", "password": "a guess"}
    with httpx2.Client(base_url=stage.url, trust_env=False, timeout=20) as client:
        for _ in range(50):
            assert_refused(client.post("/auth/login", json=guess), 401)
        answer = client.post("/auth/login", json=guess)
        assert assert_refused(answer, 429)["code"] == "too_many_attempts"
        assert 0 < int(answer.headers["retry-after"]) <= 900


@pytest.mark.usefixtures("nothing_is_stored")
async def test_a_crowd_that_guesses_is_turned_away_and_never_left_in_doubt(stage: Stage) -> None:
    async with httpx2.AsyncClient(base_url=stage.url, trust_env=False, timeout=20) as client:
        guesses = [{"email": f"{new_id()}@example.com", "password": "a guess"} for _ in range(90)]
        answers = await asyncio.gather(
            *(client.post("/auth/login", json=guess) for guess in guesses)
        )
    refused = {(answer.status_code, answer.json()["code"]) for answer in answers}
    assert refused <= {(401, "wrong_credentials"), (503, "overloaded")}
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)


@pytest.mark.usefixtures("nothing_is_stored")
def test_a_token_in_the_url_opens_nothing(stage: Stage) -> None:
    for name in ("token", "access_token", "api_key"):
        url = f"{stage.url}/auth/me?{name}={stage.attacker.token}"
        assert_refused(httpx2.get(url, trust_env=False), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_may_be_written_in_any_case(stage: Stage, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {stage.attacker.token}"}
    assert httpx2.get(f"{stage.url}/auth/me", headers=headers, trust_env=False).status_code == 200


def test_what_was_revoked_opens_nothing(stage: Stage) -> None:
    with httpx2.Client(base_url=stage.url, trust_env=False) as client:
        leaver = furnished(client)
        key = client.post("/auth/api-keys", json={"name": "leaked"}).json()
        key_header = {"Authorization": f"Bearer {key['key']}"}
        assert client.get("/auth/me", headers=key_header).status_code == 200
        assert_refused(client.post("/auth/logout", headers=key_header), 403)
        assert client.delete(f"/auth/api-keys/{key['id']}").status_code == 204
        assert_refused(client.get("/auth/me", headers=key_header), 401)
        assert client.post("/auth/logout").status_code == 204
        assert_shut(stage, leaver.token, 401, {**stage.names(), **leaver.things})
        refresh = {"refresh_token": leaver.refresh_token}
        assert_refused(client.post("/auth/refresh", json=refresh), 401)


def test_a_closed_account_opens_nothing(stage: Stage) -> None:
    with httpx2.Client(base_url=stage.url, trust_env=False) as client:
        leaver = furnished(client)
        user_id = client.get("/auth/me").json()["id"]
        run(fetch(stage.dsn, "UPDATE users SET is_active = false WHERE id = $1", user_id))
        assert_shut(stage, leaver.token, 403, {**stage.names(), **leaver.things})
        assert_refused(client.get(f"/runs/{leaver.things['run']}/events"), 403)


async def test_closing_an_account_stops_what_is_written_for_it(
    stage: Stage, tmp_path: Path
) -> None:
    with httpx2.Client(base_url=stage.url, trust_env=False, timeout=20) as client:
        leaver = furnished(client)
        email = client.get("/auth/me").json()["email"]
        content = script(f"leaver {new_id()}", text="word " * 20, stall_after=3)
        path = f"/conversations/{leaver.things['conversation']}/runs"
        running, queued = (
            client.post(path, json={"content": content, "on_busy": "queue"}).json()["id"]
            for _ in range(2)
        )

        def asked_for() -> list[dict[str, Any]]:
            return [call for call in calls_of(stage.provider_url) if asked(call) == content]

        await until(lambda: any(call["tokens_sent"] == 3 for call in asked_for()), "the model")
        await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "tertulia", "user", "deactivate", email],
            env={**os.environ, "DATABASE_URL": stage.dsn, "SECRET_KEY": SECRET_KEY},
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
    ids = [running, queued]
    rows = await fetch(stage.dsn, "SELECT status FROM runs WHERE id = ANY($1::uuid[])", ids)
    assert [row["status"] for row in rows] == ["cancelled"] * 2
    await until(lambda: all(call["disconnected"] for call in asked_for()), "the executor to stop")
    assert len(asked_for()) == 1


@pytest.mark.usefixtures("nothing_is_stored")
def test_the_host_header_is_never_repeated(stage: Stage) -> None:
    headers = {"Host": "evil.example.com", "X-Forwarded-Host": "evil.example.com"}
    for path in ("/conversations/", "/conversations?limit=1", "/nowhere", "/auth/me", "/docs"):
        answer = stage.attacker.client.get(path, headers=headers)
        assert "evil" not in answer.text
        assert "evil" not in str(answer.headers)


@pytest.mark.usefixtures("nothing_is_stored")
def test_a_request_id_that_is_no_word_is_replaced(stage: Stage) -> None:
    for wrong in ("<script>", "a b", "x" * 65, "a;b", "{0}"):
        answer = stage.attacker.client.get("/health", headers={"X-Request-ID": wrong})
        assert answer.headers["x-request-id"] != wrong


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /conversations?model_type=%s HTTP/1.1\r\nHost: a\r\n" % (b"a" * 1_000_000), 431),
        (b"GET /auth/me HTTP/1.1\r\nHost: a\r\nX-Long: %s\r\n" % (b"a" * 1_000_000), 431),
        (b"GET /auth/me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\0b\r\n", 400),
        (b"GET /auth/me HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1\r\n 2\r\n", 400),
        (b"GET /auth/me HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n", 400),
        (b"POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n", 400),
        (b"POST /auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n", 400),
        (b"GET\0 / HTTP/1.1\r\nHost: a\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
    ids=[
        *("a million bytes of query", "a million bytes of header", "NUL in a header"),
        *("a line break in a header", "two lengths", "a negative length", "a length of 20 digits"),
        *("NUL in the method", "TLS"),
    ],
)
def test_what_is_hardly_http_is_refused(stage: Stage, head: bytes, status: int) -> None:
    host, port = stage.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(head + b"\r\n")
            answer = connection.recv(65_536)
        except ConnectionResetError:
            pytest.fail("the connection was reset before the refusal could be read")
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:300]
    assert b'"code":"' in answer


@pytest.mark.usefixtures("nothing_is_stored")
def test_a_cursor_beyond_the_end_has_nothing_more(stage: Stage) -> None:
    path = f"/runs/{stage.attacker.things['run']}/events"
    answer = stage.attacker.client.get(path, params={"after": 2**31 - 1})
    assert answer.status_code == 200
    assert "data:" not in answer.text
