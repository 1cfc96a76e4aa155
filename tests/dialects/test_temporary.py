"""What is not to be stored is missing to whoever reads or names it, and nobody is told of it."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid1

import pytest

from tests.dialects.conftest import Server
from tests.kit.pair import script
from tests.kit.person import Person
from tests.kit.stage import fetch_number
from tests.kit.waiting import until
from tests.kit.web_socket import connected

_ACTIVE = "SELECT count(*) FROM runs WHERE user_id = $1 AND status IN ('queued', 'running')"
_KEPT = "SELECT count(*) FROM conversations WHERE user_id = $1"


@asynccontextmanager
async def answering(ana: Person) -> AsyncGenerator[dict[str, Any]]:
    """Have a response written that is not to be stored; yield its run."""
    words = script("Aside", endless=True, pace_ms=20)
    body = {"model": "openai:scripted", "input": words, "store": False, "stream": True}
    url = f"{ana.urls[0]}/v1/responses"
    async with ana.client.stream("POST", url, headers=ana.headers, json=body) as answer:
        # It has a name because whoever drops the lines has left.
        lines = answer.aiter_lines()
        while not (line := await anext(lines)).startswith("data:"):
            pass
        response = json.loads(line.removeprefix("data:"))["response"]
        run_id = response["id"].removeprefix("resp_")
        yield (await ana.call("GET", f"/runs/{run_id}")).json()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/messages", None),
        ("GET", "/runs", None),
        ("PATCH", "", {"title": "Mine"}),
        ("PUT", "", {"title": "Mine"}),
        ("PATCH", "", {"head_id": "{message_id}"}),
        ("POST", "/messages", {"role": "user", "content": "x"}),
        ("POST", "/runs", {"content": "x"}),
        ("POST", "/runs", {"content": "x", "on_busy": "queue"}),
        ("POST", "/runs", {"content": "x", "on_busy": "interrupt"}),
        ("PATCH", "/messages/{message_id}", {"content": "x"}),
        ("DELETE", "/messages/{message_id}", None),
        ("DELETE", "", None),
    ],
)
async def test_nobody_reads_changes_or_deletes_it_by_its_name(
    ana: Person, method: str, path: str, body: dict[str, str] | None
) -> None:
    async with answering(ana) as run:
        names = {"message_id": run["message_id"]}
        filled = body and {name: value.format(**names) for name, value in body.items()}
        named = f"/conversations/{run['conversation_id']}{path.format(**names)}"
        answer = await ana.call(method, named, json=filled)
        assert (answer.status_code, answer.json()["code"]) == (404, "conversation_not_found")
        assert (await ana.call("GET", f"/runs/{run['id']}")).json()["status"] == "running"


async def test_who_holds_its_run_reads_and_ends_that(ana: Person, server: Server) -> None:
    async with answering(ana) as run, connected(ana.urls[0], ana.token) as socket:
        await socket.send(type="follow", run_id=run["id"])
        assert (await socket.next("event"))["event"] == "text"
        ended = (await ana.call("POST", f"/runs/{run['id']}/cancel")).json()
        assert ended["status"] == "cancelled"

    async def nothing_is_left() -> bool:
        return await fetch_number(server.dsn, _KEPT, ana.id) == 0

    await until(nothing_is_left, "it to be deleted", within_s=30)


async def test_a_socket_is_told_of_what_lasts_and_of_nothing_else(
    ana: Person, server: Server
) -> None:
    async with connected(ana.urls[0], ana.token) as socket:
        await socket.next("ready")
        async with answering(ana):
            pass
        for path, asked in (
            ("/v1/responses", {"input": f"Aside {uuid1().hex}", "store": False}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Aside"}]}),
            ("/v1/responses/compact", {"input": "Aside"}),
        ):
            answer = await ana.call("POST", path, json={"model": "openai:scripted", **asked})
            assert answer.status_code == 200, answer.text

        async def all_is_over() -> bool:
            left = [await fetch_number(server.dsn, query, ana.id) for query in (_ACTIVE, _KEPT)]
            return left == [0, 0]

        await until(all_is_over, "what is not stored to be deleted", within_s=30)
        lasting = await ana.new_conversation(title="Kept")
        assert (await socket.any())["conversation_id"] == lasting
        await ana.call("DELETE", f"/conversations/{lasting}")
        told = await socket.any()
        assert (told["what"], told["conversation_id"]) == ("conversation.deleted", lasting)
