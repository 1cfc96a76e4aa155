"""Both seeds, literally: every `curl` of the second and the flow of the first."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.replica import Replica
from tests.kit.stage import fresh_database, model_env, scripted_provider

pytestmark = pytest.mark.xdist_group("seeds")

SEED_URL = "http://localhost:8000"
ALICE = {"email": "alice@example.com", "username": "alice", "password": "password123"}

REGISTER = """
curl -X POST "http://localhost:8000/auth/register" \\
  -H "Content-Type: application/json" \\
  -d '{
    "email": "alice@example.com",
    "username": "alice",
    "password": "password123"
  }'
"""
LOGIN = """
curl -X POST "http://localhost:8000/auth/login" \\
  -H "Content-Type: application/json" \\
  -d '{
    "email": "alice@example.com",
    "password": "password123"
  }'
"""
CREATE_CONVERSATION = """
curl -X POST "http://localhost:8000/conversations" \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -d '{
    "title": "Python 学习",
    "first_message": "如何学习 Python？"
  }'
"""  # noqa: RUF001  the seed's own words
LIST_CONVERSATIONS = """
curl -X GET "http://localhost:8000/conversations?skip=0&limit=10" \\
  -H "Authorization: Bearer YOUR_TOKEN"
"""
CREATE_MESSAGE = """
curl -X POST "http://localhost:8000/conversations/{conversation_id}/messages" \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -d '{
    "role": "assistant",
    "content": "推荐先学习 Python 基础..."
  }'
"""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: Any


class Shell:
    """Runs the seed's commands; without `curl` the same bytes go out another way."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.token = ""

    def run(self, command: str, **names: str) -> Answer:
        command = command.strip().replace(SEED_URL, self.url).replace("YOUR_TOKEN", self.token)
        for name, value in names.items():
            command = command.replace(f"{{{name}}}", value)
        return _curl(command) if shutil.which("curl") else _send(command)


def _curl(command: str) -> Answer:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} --silent --noproxy '*' --write-out '\\n%{{http_code}}'"],
        capture_output=True,
        check=True,
        text=True,
        timeout=20,
    )
    body, _, status = done.stdout.rpartition("\n")
    return Answer(int(status), json.loads(body))


def _send(command: str) -> Answer:
    method, url = re.findall(r'-X (\w+) "([^"]+)"', command)[0]
    headers = dict(line.split(": ", 1) for line in re.findall(r'-H "([^"]+)"', command))
    body = re.search(r"-d '(.*)'", command, re.DOTALL)
    content = body[1].encode() if body else b""
    got = httpx2.request(method, url, headers=headers, content=content, trust_env=False)
    return Answer(got.status_code, got.json())


@pytest.fixture(scope="module")
def replica(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replica]:
    home: Path = tmp_path_factory.mktemp("seeds")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(home / "calls") as base_url,
        Replica(dsn, home / "replica.log", env=model_env(base_url)) as replica,
    ):
        yield replica


def test_every_curl_of_the_second_seed(replica: Replica) -> None:
    shell = Shell(replica.url)

    registered = shell.run(REGISTER)
    assert registered.status == 201
    assert set(registered.body) >= {"id", "email", "username", "is_active", "created_at"}
    assert registered.body["email"] == "alice@example.com"
    assert registered.body["is_active"] is True
    again = shell.run(REGISTER)
    assert (again.status, again.body["detail"]) == (400, "Email already registered")
    same_name = shell.run(REGISTER.replace("alice@", "other@"))
    assert (same_name.status, same_name.body["detail"]) == (400, "Username already taken")

    logged_in = shell.run(LOGIN)
    assert logged_in.status == 200
    assert logged_in.body["token_type"] == "bearer"
    shell.token = logged_in.body["access_token"]
    wrong = shell.run(LOGIN.replace("password123", "password124"))
    assert (wrong.status, wrong.body["detail"]) == (401, "Incorrect email or password")

    made = shell.run(CREATE_CONVERSATION)
    assert made.status == 201
    assert made.body["title"] == "Python 学习"
    assert made.body["message_count"] == 1
    assert made.body["is_archived"] is False

    listed = shell.run(LIST_CONVERSATIONS)
    assert listed.status == 200
    assert [each["id"] for each in listed.body] == [made.body["id"]]
    assert set(listed.body[0]) >= {
        *("id", "title", "is_archived", "created_at", "updated_at", "message_count")
    }

    message = shell.run(CREATE_MESSAGE, conversation_id=made.body["id"])
    assert message.status == 201
    assert set(message.body) >= {"id", "conversation_id", "role", "content", "created_at"}
    assert message.body["content"] == "推荐先学习 Python 基础..."
    assert shell.run(LIST_CONVERSATIONS).body[0]["message_count"] == 2


@pytest.fixture
def client(replica: Replica) -> Iterator[httpx2.Client]:
    """A client that has logged in."""
    name = f"bob{time.monotonic_ns()}"
    with httpx2.Client(base_url=replica.url, trust_env=False, timeout=20) as client:
        account = {"email": f"{name}@example.com", "username": name, "password": "password123"}
        assert client.post("/auth/register", json=account).status_code == 201
        login = {"email": account["email"], "password": "password123"}
        token = client.post("/auth/login", json=login).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def test_the_rest_of_the_second_seeds_routes(client: httpx2.Client) -> None:
    made = client.post("/conversations", json={"title": "One", "first_message": "Hi"}).json()
    path = f"/conversations/{made['id']}"
    assert client.get("/auth/me").json()["is_active"] is True
    assert client.get(path).json()["message_count"] == 1
    patched = client.patch(path, json={"is_archived": True})
    assert (patched.status_code, patched.json()["is_archived"]) == (200, True)
    assert client.patch(path, json={"title": "Two"}).json()["title"] == "Two"
    assert len(client.get("/conversations", params={"archived": True}).json()) == 1
    assert client.get("/conversations", params={"archived": False}).json() == []
    messages = client.get(f"{path}/messages", params={"skip": 0, "limit": 50}).json()
    assert [(each["role"], each["content"]) for each in messages] == [("user", "Hi")]
    deleted = client.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")
    gone = client.get(path)
    assert (gone.status_code, gone.json()["detail"]) == (404, "Conversation not found")
    assert client.get("/health").json() == {"status": "ok"}


def test_conversations_as_in_the_first_seed(client: httpx2.Client) -> None:
    made = client.post("/conversations", json={"title": "A", "model_type": "openai:scripted"})
    assert made.status_code == 201
    assert made.json()["model_type"] == "openai:scripted"
    others = [client.post("/conversations", json={"title": title}).json() for title in "BCD"]
    page = client.get("/conversations", params={"skip": 1, "take": 2})
    assert [each["title"] for each in page.json()] == ["C", "B"]
    path = f"/conversations/{made.json()['id']}"
    put = client.put(path, json={"title": "A2", "model_type": "openai:other"})
    assert (put.status_code, put.json()["title"]) == (202, "A2")
    assert put.json()["model_type"] == "openai:other"
    for each in others:
        assert client.delete(f"/conversations/{each['id']}").status_code == 204


def test_an_answer_is_streamed_stored_and_names_its_conversation(client: httpx2.Client) -> None:
    made = client.post("/conversations", json={}).json()
    assert made["title"] is None
    asked = {"prompt": "What is a tertulia? 什么", "conversation_id": made["id"]}
    with client.stream("GET", "/text/generate/stream", params=asked) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        frames = "".join(stream.iter_text()).split("\n\n")
    said, done = _heard(frames)
    assert done["status"] == "completed"

    messages = client.get(f"/conversations/{made['id']}/messages").json()
    assert [each["role"] for each in messages] == ["user", "assistant"]
    assert messages[0]["content"] == asked["prompt"]
    answer = messages[1]
    assert answer["content"] == said
    assert answer["is_success"] is True
    assert answer["status_code"] == 200
    assert answer["total_tokens"] == answer["prompt_tokens"] + answer["response_tokens"]

    deadline = time.monotonic() + 10
    while not (title := client.get(f"/conversations/{made['id']}").json()["title"]):
        assert time.monotonic() < deadline, "no title was written"
        time.sleep(0.1)
    assert 0 < len(title) <= 80


def _heard(frames: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the text and the run as `done` shows it."""
    text = ""
    for frame in frames:
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line[1:])
        match fields.get("event"):
            case "text":
                text += json.loads(fields["data"])["delta"]
            case "done":
                return text, json.loads(fields["data"])
            case _:
                pass
    raise AssertionError(f"the stream ended without `done`: {frames}")
