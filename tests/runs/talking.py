"""Somebody who talks to the application without a socket."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx2

Json: TypeAlias = dict[str, Any]

_PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Talker:
    client: httpx2.AsyncClient
    token: str

    async def send(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> httpx2.Response:
        """Send a request; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(
            method, path, json=body, headers={"Authorization": f"Bearer {self.token}", **named}
        )

    async def new_conversation(self) -> str:
        made = await self.send("POST", "/conversations", {"title": "A talk"})
        return f"/conversations/{made.raise_for_status().json()['id']}"

    async def start(self, conversation: str, content: str | None, **fields: object) -> Json:
        """Start a run, which must be accepted; return it."""
        body = {"content": content, **fields} if content is not None else fields
        answer = await self.send("POST", f"{conversation}/runs", body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    async def ended(self, run: Json) -> Json:
        """Wait for the run to end and return it."""
        async with asyncio.timeout(10):
            while True:
                found = (await self.send("GET", f"/runs/{run['id']}")).json()
                if found["status"] not in ("queued", "running"):
                    return found
                await asyncio.sleep(0.02)

    async def ask(self, conversation: str, content: str | None, **fields: object) -> Json:
        """Start a run and wait for its end."""
        return await self.ended(await self.start(conversation, content, **fields))

    async def message(self, conversation: str, message_id: str) -> Json:
        found = await self.send("GET", f"{conversation}/messages/{message_id}")
        return found.raise_for_status().json()


async def join(client: httpx2.AsyncClient, name: str) -> Talker:
    email = f"{name}@example.com"
    account = {"email": email, "username": name, "password": _PASSWORD}
    (await client.post("/auth/register", json=account)).raise_for_status()
    answer = await client.post("/auth/login", json={"email": email, "password": _PASSWORD})
    return Talker(client, answer.raise_for_status().json()["access_token"])


def frames(body: str) -> list[tuple[str, str, Any]]:
    """Return id, type and decoded data of every event of a stream."""
    found: list[tuple[str, str, Any]] = []
    for frame in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line)
        if "data" in fields:
            found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found
