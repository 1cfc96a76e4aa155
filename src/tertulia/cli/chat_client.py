"""Tertulia's HTTP API as a terminal needs it: calls that are tried again, streams that resume."""

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tertulia.domain.ids import new_id

SILENCE_S = 45.0
"""A server sends a comment every 15 s; after three are missing the connection is taken for dead."""
PATIENCE_S = 60.0
"""How long a server may be away before we give up."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0


class ApiRefused(Exception):  # noqa: N818  named for what happened
    """The server answered, and the answer is no.

    Attributes:
        status: HTTP status.
        code: Tertulia's stable code for the reason; empty if somebody else answered.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        self.status = status
        self.code = code
        super().__init__(detail)


class ServerUnreachable(Exception):  # noqa: N818  named for what happened
    """Nobody answered for `PATIENCE_S`."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event: what it is called, its data, and the cursor behind it."""

    kind: str
    data: dict[str, Any]
    cursor: str


@dataclass(slots=True)
class ChatClient:
    """One user at one server.

    Attributes:
        url: Without a trailing slash.
        token: An access token or an API key; replaced when it is refreshed.
        refresh_token: If known, buys a new access token when the old one has expired.
    """

    url: str
    token: str | None = None
    refresh_token: str | None = None

    def log_in(self, email: str, password: str) -> None:
        """Log in and keep the tokens.

        Raises:
            ApiRefused: Wrong credentials, or an inactive user.
        """
        self._keep(self.call("POST", "/auth/login", {"email": email, "password": password}))

    def register(self, email: str, username: str, password: str) -> None:
        """Make an account and log in to it."""
        body = {"email": email, "username": username, "password": password}
        self.call("POST", "/auth/register", body)
        self.log_in(email, password)

    def start_run(self, conversation_id: str, content: str) -> dict[str, Any]:
        """Send a message and return the run that answers it. Sent again, it is still sent once."""
        path = f"/conversations/{conversation_id}/runs"
        return self.call("POST", path, {"content": content}, {"Idempotency-Key": str(new_id())})

    def follow(self, run_id: str) -> Iterator[ServerEvent]:
        """Yield the run's events to its `done`, reconnecting where the connection breaks."""
        cursor = ""
        why = "the stream ends before the answer does"
        deadline, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while time.monotonic() < deadline:
            headers = {"Accept": "text/event-stream"}
            if cursor:
                headers["Last-Event-ID"] = cursor
            try:
                with self._open("GET", f"/runs/{run_id}/events", None, headers) as response:
                    for event in parse_events(response):
                        cursor = event.cursor or cursor
                        yield event
                        if event.kind == "done":
                            return
                        deadline, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
            except (OSError, http.client.HTTPException, ServerUnreachable) as error:
                why = str(error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise ServerUnreachable(why)

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # noqa: ANN401  JSON
        """Return the answer's JSON, trying again while the server is away or restarts.

        Raises:
            ApiRefused: The server says no.
            ServerUnreachable: It is away for too long, or (for a change that carries no
                `Idempotency-Key`) at all.
        """
        may_repeat = method == "GET" or "Idempotency-Key" in (headers or {})
        deadline, pause_s = time.monotonic() + PATIENCE_S, _FIRST_PAUSE_S
        while True:
            try:
                with self._open(method, path, body, headers or {}) as response:
                    text = response.read()
                return json.loads(text) if text else None
            except (OSError, http.client.HTTPException, ServerUnreachable) as error:
                if not may_repeat or time.monotonic() > deadline:
                    raise ServerUnreachable(str(error)) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _open(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        try:
            return self._open_once(method, path, body, headers)
        except ApiRefused as refusal:
            if refusal.status != http.client.UNAUTHORIZED or not self.refresh_token:
                raise
        refresh_token, self.refresh_token = self.refresh_token, None
        with self._open_once("POST", "/auth/refresh", {"refresh_token": refresh_token}, {}) as new:
            self._keep(json.loads(new.read()))
        return self._open_once(method, path, body, headers)

    def _open_once(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(  # noqa: S310  the scheme is checked where the URL is given
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", "Content-Type": "application/json", **headers},
        )
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            return urllib.request.urlopen(request, timeout=SILENCE_S)  # noqa: S310  the same
        except urllib.error.HTTPError as error:
            with error:
                refusal = _refusal(error.code, error.read())
            if error.code == http.client.SERVICE_UNAVAILABLE:
                raise ServerUnreachable(str(refusal)) from error
            raise refusal from error

    def _keep(self, tokens: Mapping[str, Any]) -> None:
        self.token = tokens["access_token"]
        self.refresh_token = tokens.get("refresh_token")


def parse_events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """Yield the server-sent events in `lines` (each up to its LF); comments are passed over.

    As the HTML standard says (section 9.2.6), as far as Tertulia's server makes use of it; an
    event that its end cuts off is none.
    """
    kind, data, cursor = "", list[str](), ""
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    kind = value
                case "data":
                    data.append(value)
                case "id":
                    cursor = value
                case _:
                    pass
        elif data:
            yield ServerEvent(kind or "message", json.loads("\n".join(data)), cursor)
            kind, data = "", []


def url_encoded(value: str) -> str:
    """Return `value` as one segment of a path."""
    return urllib.parse.quote(value, safe="")


def _refusal(status: int, body: bytes) -> ApiRefused:
    try:
        answer: object = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        return ApiRefused(status, "", f"The server answered with status {status}.")
    said = cast("dict[str, Any]", answer)
    return ApiRefused(status, str(said.get("code", "")), str(said.get("detail", status)))
