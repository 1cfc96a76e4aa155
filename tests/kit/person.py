"""Somebody who uses the API: an account, its token, and the patience to try again."""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid1

import httpx2

PASSWORD = "correct horse battery"
_TIMEOUT = httpx2.Timeout(20.0)
_PASSING_STATUSES = frozenset({409, 503})


class Person:
    """A user with a client of their own.

    Args:
        urls: The replicas, taken in turn when one does not answer.
    """

    def __init__(self, urls: Sequence[str], *, connections: int = 100) -> None:
        self.urls = list(urls)
        self.name = f"u{uuid1().hex}"
        self.token = ""
        self.id = ""
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self.client = httpx2.AsyncClient(timeout=_TIMEOUT, limits=limits, trust_env=False)
        self._turns = itertools.count()

    @classmethod
    def known(cls, person: "Person", urls: Sequence[str]) -> Self:
        """Return the same user with another client, which need not log in."""
        again = cls(urls)
        again.name, again.id, again.token = person.name, person.id, person.token
        return again

    async def __aenter__(self) -> Self:
        if self.token:
            return self
        account = {"email": f"{self.name}@example.com", "username": self.name, "password": PASSWORD}
        made = await self.call("POST", "/auth/register", json=account)
        assert made.status_code == 201, made.text
        self.id = made.json()["id"]
        login = {"email": account["email"], "password": PASSWORD}
        self.token = (await self.call("POST", "/auth/login", json=login)).json()["access_token"]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.client.aclose()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        url: str | None = None,
    ) -> httpx2.Response:
        """Ask the first replica, or the one named, once."""
        return await self.client.request(
            method,
            (url or self.urls[0]) + path,
            json=json,
            headers={**self.headers, **(headers or {})},
        )

    async def insist(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        key: str | None = None,
        within_s: float = 20.0,
    ) -> httpx2.Response:
        """Ask one replica after the other until one gives an answer that is not "later"."""
        headers = {"Idempotency-Key": key} if key else {}
        deadline = time.monotonic() + within_s
        while True:
            url = self.urls[next(self._turns) % len(self.urls)]
            try:
                answer = await self.call(method, path, json=json, headers=headers, url=url)
            except httpx2.TransportError:
                answer = None
            if answer is not None and answer.status_code not in _PASSING_STATUSES:
                return answer
            assert time.monotonic() < deadline, f"{method} {path}: {answer and answer.text}"
            await asyncio.sleep(0.05)

    async def new_conversation(self, **fields: object) -> str:
        """Make a conversation, however long it takes, and return its id."""
        made = await self.insist("POST", "/conversations", json=fields, key=uuid1().hex)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    async def start_run(self, conversation_id: str, content: str, **fields: object) -> str:
        """Have a message answered and return the run's id."""
        started = await self.insist(
            "POST",
            f"/conversations/{conversation_id}/runs",
            json={"content": content, **fields},
            key=uuid1().hex,
        )
        assert started.status_code == 202, started.text
        return str(started.json()["id"])

    async def end_of(self, run_id: str, *, within_s: float = 30.0) -> dict[str, Any]:
        """Wait for the run to end and return it."""
        deadline = time.monotonic() + within_s
        while True:
            run: dict[str, Any] = (await self.insist("GET", f"/runs/{run_id}")).json()
            if run["status"] not in ("queued", "running"):
                return run
            assert time.monotonic() < deadline, run
            await asyncio.sleep(0.1)
