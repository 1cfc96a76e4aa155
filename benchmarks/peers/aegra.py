"""aegra-api: threads of LangGraph's, whose state is kept as checkpoints."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks.bench import Bench
from benchmarks.peers.contender import APPENDED_TO, ITEMS, MESSAGES
from benchmarks.peers.environments import python_with
from benchmarks.people import message_text, settle
from benchmarks.requests import call, get, post
from benchmarks.stage import Server

# The last that runs on Python 3.11; later ones were not tried.
NAME = "aegra-api 0.6.0"
_REQUIREMENTS = (
    "aegra-api==0.6.0",
    # SQLAlchemy 2.1 brings it no longer by itself, and this version does not ask for it.
    "greenlet",
    # uvicorn's parts in C (httptools, uvloop), which it does not ask for either: in its favour.
    "uvicorn[standard]",
)
_POOL = "16"
_GRAPH = "chat"
_NODE = "model"
_SEARCH = {"limit": ITEMS}
_GRAPH_FILE = f"""
from langgraph.graph import END, START, MessagesState, StateGraph

graph = StateGraph(MessagesState)
graph.add_node("{_NODE}", lambda state: {{"messages": []}})
graph.add_edge(START, "{_NODE}")
graph.add_edge("{_NODE}", END)
"""
_NO_EXTENSION = (
    """
    CREATE FUNCTION uuid_generate_v4() RETURNS uuid LANGUAGE sql
    AS 'SELECT gen_random_uuid()'
    """,
    # Its migrations create the extension if it is not there; the bundled PostgreSQL lacks it.
    """
    INSERT INTO pg_extension
        (oid, extname, extowner, extnamespace, extrelocatable, extversion)
    SELECT pg_nextoid('pg_extension', 'oid', 'pg_extension_oid_index'), 'uuid-ossp',
        current_user::regrole, 'public'::regnamespace, true, '1.1'
    """,
)


@dataclass(frozen=True, slots=True)
class Aegra:
    """A server of it. It has no accounts unless somebody programs them."""

    server: Server
    dsn: str
    threads: list[str]

    @property
    def more_and_less(self) -> str:
        """What it does more and less."""
        return (
            f"{NAME} asks nobody who they are. Its list (`POST /threads/search`) does not say how "
            "many messages there are. A page is all of a thread's state, an append a new "
            "checkpoint, which stores all messages once more (`/threads/{id}/state`)."
        )

    def listing(self) -> list[str]:
        """Return the request for the newest threads."""
        return [post("/threads/search", _SEARCH)]

    def pages(self) -> list[str]:
        """Return requests for the state of each thread."""
        return [get(f"/threads/{thread}/state") for thread in self.threads]

    def appends(self) -> list[str]:
        """Return requests that add to the state of new threads."""
        body = _update([_message(MESSAGES + 1)])
        made = [_new_thread(self.server) for _ in range(APPENDED_TO)]
        settle(self.dsn)
        return [post(f"/threads/{thread}/state", body) for thread in made]


@contextmanager
def started(bench: Bench) -> Generator[Aegra]:
    """Install it, run it and fill it."""
    stage = bench.stage
    python = python_with("aegra-api", _REQUIREMENTS, "160 MB", bench.say)
    dsn = stage.other_database("aegra")
    with psycopg.connect(dsn, autocommit=True) as sql:
        for statement in _NO_EXTENSION:
            sql.execute(statement)
    home = stage.peer_home(NAME)
    (home / "graph.py").write_text(_GRAPH_FILE)
    (home / "aegra.json").write_text(json.dumps({"graphs": {_GRAPH: "./graph.py:graph"}}))
    bench.say(f"  starting {NAME}")
    with stage.started_peer(
        NAME,
        python,
        "aegra_api.main:app",
        DATABASE_URL=dsn,
        ENV_MODE="PRODUCTION",
        SQLALCHEMY_POOL_SIZE=_POOL,
        LANGGRAPH_MAX_POOL_SIZE=_POOL,
        LANGSMITH_TRACING="false",
    ) as server:
        threads = [_new_thread(server) for _ in range(ITEMS)]
        listed = call(server.port, "POST", "/threads/search", _SEARCH)
        assert len(listed) == ITEMS, listed
        state = call(server.port, "GET", f"/threads/{threads[0]}/state", None)
        assert len(state["values"]["messages"]) == MESSAGES, state
        settle(dsn)
        yield Aegra(server, dsn, threads)


def _new_thread(server: Server) -> str:
    """Make a thread with its messages; return its id."""
    made = call(server.port, "POST", "/threads", {})
    path = f"/threads/{made['thread_id']}"
    # Which graph it is for is forgotten when it is made with it.
    call(server.port, "PATCH", path, {"metadata": {"graph_id": _GRAPH}})
    messages = [_message(seq) for seq in range(1, MESSAGES + 1)]
    call(server.port, "POST", f"{path}/state", _update(messages))
    return made["thread_id"]


def _update(messages: list[dict[str, str]]) -> dict[str, Any]:
    return {"values": {"messages": messages}, "as_node": _NODE}


def _message(seq: int) -> dict[str, str]:
    return {"type": "human" if seq % 2 else "ai", "content": message_text(seq)}
