"""Tertulia's HTTP API as a terminal needs it: calls that are tried again, streams that resume."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from tertulia.cli.logins import KeptLogin
from tertulia.domain.ids import new_id

SILENCE_S = 45.0
"""A server sends a comment every 15 s; after three are missing the connection is taken for dead."""
PATIENCE_S = 60.0
"""How long a server may be away before we give up."""
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0

_PLAIN_WORDS = (("String should have", "It needs"), ("Input should be", "It must be"))


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

    @property
    def ends_login(self) -> bool:
        """Whether the login is over, or closed, rather than this one request refused."""
        return self.status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}


class ServerUnreachable(Exception):  # noqa: N818  named for what happened
    """Nobody answered for as long as the client is patient; the text says why not."""


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
        kept: Where the refresh token is kept for the next start, and shared with other chats; None
            keeps it nowhere.
        patience_s: How long the server may be away before we give up.
    """

    url: str
    token: str | None = None
    refresh_token: str | None = None
    kept: KeptLogin | None = None
    patience_s: float = PATIENCE_S

    def log_in(self, email: str, password: str) -> None:
        """Log in and keep the tokens.

        Raises:
            ApiRefused: Wrong credentials, or an inactive user.
        """
        self.token = None
        tokens = self.call("POST", "/auth/login", {"email": email, "password": password})
        with self._turn():
            self._take(tokens)

    def register(self, email: str, username: str, password: str) -> None:
        """Make an account and log in to it."""
        body = {"email": email, "username": username, "password": password}
        self.call("POST", "/auth/register", body)
        self.log_in(email, password)

    def renew(self) -> None:
        """Trade the refresh token, ours or the one that another chat has left, for new tokens.

        Raises:
            ApiRefused: The login has ended. It is forgotten.
            ServerUnreachable: The server is away; try again.
        """
        with self._turn():
            refresh_token = (self.kept.find() if self.kept else None) or self.refresh_token
            body = {"refresh_token": refresh_token or ""}
            try:
                with self._open_once("POST", "/auth/refresh", body, {}, authorized=False) as new:
                    tokens = json.loads(new.read())
            except ApiRefused as refusal:
                if refusal.ends_login:
                    self._forget()
                raise
            except (OSError, http.client.HTTPException) as error:
                raise ServerUnreachable(_why(error)) from error
            self._take(tokens)

    def log_out(self) -> None:
        """End the kept login, at the server too.

        Raises:
            ServerUnreachable: The server could not be told. The login is forgotten here all the
                same.
            OSError: It cannot be forgotten: the file cannot be written.
        """
        try:
            self.renew()
            self.call("POST", "/auth/logout")
        except ApiRefused as refusal:
            # It may have ended already.
            if not refusal.ends_login:
                raise
        finally:
            with self._turn():
                self._forget()

    def start_run(self, conversation_id: str, content: str) -> dict[str, Any]:
        """Send a message and return the run that answers it. Sent again, it is still sent once."""
        path = f"/conversations/{conversation_id}/runs"
        return self.call("POST", path, {"content": content}, {"Idempotency-Key": str(new_id())})

    def follow(self, run_id: str) -> Iterator[ServerEvent]:
        """Yield the run's events to its `done`, reconnecting where the connection breaks."""
        cursor = ""
        why = "the stream ends before the answer does"
        deadline, pause_s = time.monotonic() + self.patience_s, _FIRST_PAUSE_S
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
                        deadline, pause_s = time.monotonic() + self.patience_s, _FIRST_PAUSE_S
            except (OSError, http.client.HTTPException, ServerUnreachable) as error:
                why = _why(error)
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
        deadline, pause_s = time.monotonic() + self.patience_s, _FIRST_PAUSE_S
        while True:
            try:
                with self._open(method, path, body, headers or {}) as response:
                    text = response.read()
                return json.loads(text) if text else None
            except (OSError, http.client.HTTPException, ServerUnreachable) as error:
                if not may_repeat or time.monotonic() > deadline:
                    raise ServerUnreachable(_why(error)) from error
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
        self.renew()
        return self._open_once(method, path, body, headers)

    def _open_once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        *,
        authorized: bool = True,
    ) -> http.client.HTTPResponse:
        request = urllib.request.Request(  # noqa: S310  the scheme is checked where the URL is given
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", "Content-Type": "application/json", **headers},
        )
        if self.token and authorized:
            # Not sent along where a redirect leads.
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            return self._opener().open(request, timeout=SILENCE_S)
        except urllib.error.HTTPError as error:
            with error:
                refusal = _refusal(error.code, error.read())
            if error.code == http.client.SERVICE_UNAVAILABLE:
                raise ServerUnreachable(str(refusal)) from error
            raise refusal from error

    def _opener(self) -> urllib.request.OpenerDirector:
        if urllib.parse.urlsplit(self.url).hostname in _THIS_MACHINE:
            # A proxy in the environment would look for the server on its own machine.
            return urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return urllib.request.build_opener()

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Take turns with other chats of this user, as far as that is possible here."""
        with ExitStack() as stack:
            if self.kept:
                try:
                    stack.enter_context(self.kept.alone())
                except OSError:
                    # Nothing can be kept in such a place, so nothing is shared either.
                    self.kept = None
            yield

    def _take(self, tokens: Mapping[str, Any]) -> None:
        self.token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]
        if self.kept:
            try:
                self.kept.keep(tokens["refresh_token"])
            except OSError:
                self.kept = None

    def _forget(self) -> None:
        self.token = self.refresh_token = None
        if self.kept:
            self.kept.forget()


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
        return ApiRefused(status, "", f"The server answered with status {status}: no Tertulia?")
    said = cast("dict[str, Any]", answer)
    return ApiRefused(status, str(said.get("code", "")), _in_words(said) or f"Status {status}.")


def _in_words(said: Mapping[str, Any]) -> str:
    """Return the reason of a refusal in whole sentences."""
    if said.get("code") != "invalid_request" or not said.get("errors"):
        return _sentence(str(said.get("detail", "")))
    wrong = [(str(each["field"]), str(each["message"])) for each in said["errors"]]
    return " ".join(
        f"{field.rpartition('.')[2].replace('_', ' ').capitalize()}: {_sentence(message)}"
        for field, message in wrong
    )


def _sentence(text: str) -> str:
    """Return a validator's words as a sentence."""
    text = text.removeprefix("Value error, ").strip()
    for formal, plain in _PLAIN_WORDS:
        text = text.replace(formal, plain)
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _why(error: Exception) -> str:
    """Return why a server does not answer."""
    reason = getattr(error, "reason", None)
    match reason if isinstance(reason, Exception) else error:
        case ConnectionRefusedError():
            return "nothing listens there"
        case TimeoutError():
            return f"no answer in {SILENCE_S:.0f} s"
        case socket.gaierror():
            return "no host of that name is known"
        case ServerUnreachable() | OSError() as known:
            return str(known).rstrip(".")
        case other:
            return f"that is no Tertulia ({type(other).__name__})"
