"""open-webui: chats of signed-in users, each a JSON document with all of its messages."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import Bench
from benchmarks.load.jobs import NUMBER
from benchmarks.peers.contender import APPENDED_TO, ITEMS, MESSAGES
from benchmarks.peers.environments import python_with
from benchmarks.people import PASSWORD, SECRET_KEY, message_text, settle
from benchmarks.requests import call, get, post
from benchmarks.stage import Server

NAME = "open-webui 0.12.4"
_REQUIREMENTS = ("open-webui==0.12.4",)
_SIZE = "2.5 GB; 7 where PyTorch comes for GPUs, which UV_TORCH_BACKEND=cpu prevents"
_MODEL = "bench"
_AT = 1_700_000_000
_LIST = "/api/v1/chats/?page=1"
_SETTINGS = {
    # As its own command says.
    "FROM_INIT_PY": "true",
    "DATABASE_POOL_SIZE": "16",
    # It shall look for nothing on the network, and load no model that it would need for search.
    "OFFLINE_MODE": "true",
    "ENABLE_OLLAMA_API": "false",
    "ENABLE_OPENAI_API": "false",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
}


@dataclass(frozen=True, slots=True)
class OpenWebui:
    """A server of it, and its first user."""

    server: Server
    dsn: str
    token: str
    chats: list[str]

    @property
    def more_and_less(self) -> str:
        """What it does more and less."""
        return (
            f"{NAME} looks its user up each time. Its list (`GET /chats/`) is a page of up to 60 "
            "and does not say how many messages there are. A page is all of a chat "
            "(`GET /chats/{id}`). An append is a history of one message (`POST /chats/{id}`), "
            "put into the chat's document and a row of its own; the answer is all of the chat."
        )

    def listing(self) -> list[str]:
        """Return the request for the newest chats."""
        return [get(_LIST, self.token)]

    def pages(self) -> list[str]:
        """Return requests for each chat."""
        return [get(f"/api/v1/chats/{chat}", self.token) for chat in self.chats]

    def appends(self) -> list[str]:
        """Return requests that add a message to new chats, each time another one."""
        made = [_new_chat(self.server, self.token) for _ in range(APPENDED_TO)]
        settle(self.dsn)
        name = f"message-{NUMBER}"
        message = {**_message(MESSAGES + 1), "id": name, "parentId": _name(MESSAGES)}
        body = {"chat": {"history": {"messages": {name: message}, "currentId": name}}}
        return [post(f"/api/v1/chats/{chat}", body, self.token) for chat in made]


@contextmanager
def started(bench: Bench) -> Generator[OpenWebui]:
    """Install it, run it, sign somebody up and have them chat."""
    stage = bench.stage
    python = python_with("open-webui", _REQUIREMENTS, _SIZE, bench.say)
    dsn = stage.other_database("open_webui")
    settings = {
        **_SETTINGS,
        "DATA_DIR": str(stage.peer_home(NAME)),
        # The driver that it brings.
        "DATABASE_URL": dsn.replace("postgresql:", "postgresql+psycopg:", 1),
        "WEBUI_SECRET_KEY": SECRET_KEY,
    }
    bench.say(f"  starting {NAME}")
    with stage.started_peer(NAME, python, "open_webui.main:app", **settings) as server:
        user = {"name": "First", "email": "first@example.com", "password": PASSWORD}
        token = call(server.port, "POST", "/api/v1/auths/signup", user)["token"]
        chats = [_new_chat(server, token) for _ in range(ITEMS)]
        listed = call(server.port, "GET", _LIST, None, token)
        assert len(listed) == ITEMS, listed
        chat = call(server.port, "GET", f"/api/v1/chats/{chats[0]}", None, token)
        assert len(chat["chat"]["history"]["messages"]) == MESSAGES, chat
        settle(dsn)
        yield OpenWebui(server, dsn, token, chats)


def _new_chat(server: Server, token: str) -> str:
    """Make a chat with its messages, as its own pages do; return its id."""
    messages = {_name(seq): _message(seq) for seq in range(1, MESSAGES + 1)}
    history = {"messages": messages, "currentId": _name(MESSAGES)}
    chat = {"title": "Chat", "models": [_MODEL], "history": history, "timestamp": _AT}
    made = call(server.port, "POST", "/api/v1/chats/new", {"chat": chat}, token)
    return made["id"]


def _name(seq: int) -> str:
    return f"message-{seq}"


def _message(seq: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": _name(seq),
        "parentId": _name(seq - 1) if seq > 1 else None,
        "childrenIds": [_name(seq + 1)] if seq < MESSAGES else [],
        "content": message_text(seq),
        "timestamp": _AT + seq,
    }
    if seq % 2:
        return {**message, "role": "user", "models": [_MODEL]}
    return {**message, "role": "assistant", "model": _MODEL, "done": True}
