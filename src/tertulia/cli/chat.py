"""`tertulia chat`: a conversation in the terminal, through nothing but the HTTP API."""

import sys
import unicodedata
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from tertulia.cli.chat_client import (
    PATIENCE_S,
    ApiRefused,
    ChatClient,
    ServerUnreachable,
    url_encoded,
)
from tertulia.cli.errors import CommandFailed
from tertulia.cli.logins import KeptLogin, config_dir
from tertulia.cli.progress import Terminal

HELP = """\
/new            begin another conversation
/list           your latest conversations
/open NUMBER    go on with one of them (also: /open ID)
/history        what was said in this one
/quit           leave (also: Ctrl-D)
Ctrl-C          while an answer streams: stop it"""

LISTED = 20
START_PATIENCE_S = 3.0
"""How long a server may take to answer at the start; later it may be restarting."""
SHOWN = 100
"""The newest messages that /history shows."""


def command() -> typer.Typer:
    """Return the command."""
    alone = typer.Typer(add_completion=False)
    alone.command()(chat)
    return alone


def chat(
    url: Annotated[str, typer.Option(envvar="TERTULIA_URL", help="Where the server is.")] = (
        "http://127.0.0.1:8000"
    ),
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TERTULIA_TOKEN",
            help="An API key or access token; better in the environment, where ps cannot see it.",
        ),
    ] = None,
    conversation: Annotated[
        str | None, typer.Option("--open", help="The id of a conversation to go on with.")
    ] = None,
    logout: Annotated[
        bool, typer.Option("--logout", help="End the login that is kept for that server.")
    ] = False,
) -> None:
    """Chat in the terminal, with history, streaming and resume. A login is kept for next time."""
    url = _checked(url)
    terminal = Terminal()
    kept = None if token else KeptLogin(config_dir(), url)
    client = ChatClient(url, token=token, kept=kept, patience_s=START_PATIENCE_S)
    try:
        if logout:
            _log_out(client, terminal)
            return
        who = client.call("GET", "/auth/me") if token else _enter(client, terminal)
        client.patience_s = PATIENCE_S
        terminal.step(f"Hello {printable(who['username'])}. /help shows what you can do here.")
        _Chat(client, terminal).talk(conversation)
    except ServerUnreachable as error:
        raise CommandFailed(
            f"{url} does not answer: {printable(str(error))}. Start a server with `tertulia serve`,"
            " or name another with --url."
        ) from error
    except ApiRefused as refusal:
        raise CommandFailed(printable(str(refusal))) from refusal


def _checked(url: str) -> str:
    """Return the server's URL without a trailing slash."""
    try:
        split = urlsplit(url)
        is_url = split.scheme in {"http", "https"} and bool(split.hostname) and split.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise CommandFailed("--url must look like http://127.0.0.1:8000", exit_code=2)
    return url.rstrip("/")


def _log_out(client: ChatClient, terminal: Terminal) -> None:
    if client.kept is None:
        raise CommandFailed("--logout is for a login, not for a token: leave TERTULIA_TOKEN out.")
    if client.kept.find() is None:
        terminal.step(f"You are not logged in at {client.url}.")
        return
    try:
        client.log_out()
    except ServerUnreachable as error:
        raise CommandFailed(
            f"The login is forgotten here, but {client.url} could not be told "
            f"({printable(str(error))}): there it goes on until it ends by itself."
        ) from error
    except OSError as error:
        raise CommandFailed(f"The login cannot be forgotten: {error}.") from error
    terminal.step(f"Logged out of {client.url}.")


def printable(text: str) -> str:
    """Return `text` without control characters, with which a model could command the terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def _enter(client: ChatClient, terminal: Terminal) -> dict[str, Any]:
    """Go on with the login that is kept, or log in or register, as often as it takes."""
    if client.kept and client.kept.find():
        try:
            client.renew()
            return client.call("GET", "/auth/me")
        except ApiRefused as refusal:
            if not refusal.ends_login:
                raise
            terminal.step(f"Your login at {client.url} has ended.")
    # Nobody types a password for a server that is not there.
    client.call("GET", "/health")
    if not sys.stdin.isatty():
        raise CommandFailed(
            "There is no terminal to log in at: put an API key into TERTULIA_TOKEN.", exit_code=2
        )
    while True:
        choice: str = typer.prompt("Log in or register? [l/r]", default="l", show_default=False)
        email: str = typer.prompt("E-mail")
        try:
            if choice.lower().startswith("r"):
                username: str = typer.prompt("Username")
                password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
                client.register(email, username, password)
            else:
                client.log_in(email, typer.prompt("Password", hide_input=True))
        except ApiRefused as refusal:
            terminal.problem(printable(str(refusal)))
        else:
            if client.kept is None:
                terminal.step(f"This login is for now only: {config_dir()} cannot be written.")
            return client.call("GET", "/auth/me")


class _Chat:
    """One person's time at the terminal."""

    def __init__(self, client: ChatClient, terminal: Terminal) -> None:
        self._client = client
        self._terminal = terminal
        self._conversation_id: str | None = None
        self._listed: list[str] = []

    def talk(self, conversation_id: str | None) -> None:
        """Answer the person until they leave."""
        if conversation_id:
            self._open(conversation_id)
        while True:
            try:
                line = input("you> " if sys.stdin.isatty() else "").strip()
            except (EOFError, KeyboardInterrupt):
                self._terminal.print()
                return
            if line == "/quit":
                return
            try:
                self._obey(line)
            except ApiRefused as refusal:
                self._terminal.problem(printable(str(refusal)))

    def _obey(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        match command:
            case "":
                return
            case "/help":
                self._terminal.print(HELP)
            case "/new":
                self._conversation_id = None
                self._terminal.step("A new conversation begins with your next line.")
            case "/list":
                self._list()
            case "/open":
                self._open(argument.strip())
            case "/history":
                self._history()
            case _ if command.startswith("/"):
                self._terminal.problem(f"There is no {command}; /help shows what there is.")
            case _:
                self._say(line)

    def _list(self) -> None:
        found = self._client.call("GET", f"/conversations?limit={LISTED}")
        self._listed = [each["id"] for each in found]
        for number, each in enumerate(found, start=1):
            title = printable(each["title"] or "untitled")
            self._terminal.print(f"{number:>3}  {title}  ({each['message_count']} messages)")

    def _open(self, which: str) -> None:
        if which.isdecimal() and 0 < int(which) <= len(self._listed):
            which = self._listed[int(which) - 1]
        found = self._client.call("GET", f"/conversations/{url_encoded(which)}")
        self._conversation_id = found["id"]
        self._terminal.step(f"You are in: {printable(found['title'] or 'untitled')}")
        self._resume()

    def _resume(self) -> None:
        """Show the rest of an answer that is being written right now."""
        runs = self._client.call("GET", f"/conversations/{self._conversation_id}/runs?limit=1")
        if runs and runs[0]["status"] in {"queued", "running"}:
            self._show(runs[0]["id"])

    def _history(self) -> None:
        if self._conversation_id is None:
            self._terminal.step("Nothing was said yet.")
            return
        path = (
            f"/conversations/{self._conversation_id}/messages?branch=head&order=desc&limit={SHOWN}"
        )
        for message in reversed(self._client.call("GET", path)):
            who = "you" if message["role"] == "user" else message["role"]
            self._terminal.print(f"{who}> {printable(message['content'])}")

    def _say(self, content: str) -> None:
        if self._conversation_id is None:
            self._conversation_id = self._client.call("POST", "/conversations", {})["id"]
        run = self._client.start_run(str(self._conversation_id), content)
        self._show(run["id"])

    def _show(self, run_id: str) -> None:
        """Print the answer as it comes; Ctrl-C stops it at the server, and what there is stays."""
        try:
            self._print_events(run_id)
        except KeyboardInterrupt:
            self._client.call("POST", f"/runs/{run_id}/cancel")
            self._terminal.print()
            self._terminal.step("Stopped.")

    def _print_events(self, run_id: str) -> None:
        for event in self._client.follow(run_id):
            match event.kind:
                case "text":
                    sys.stdout.write(printable(event.data["delta"]))
                    sys.stdout.flush()
                case "restart":
                    self._terminal.print()
                    self._terminal.step("The answer starts again.")
                case "done":
                    self._terminal.print()
                    if error := event.data.get("error"):
                        self._terminal.problem(printable(str(error["message"])))
                case _:
                    pass
