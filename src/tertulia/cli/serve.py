"""`tertulia serve`: from nothing to a server, and back."""

import functools
import logging
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tertulia.app import create_app
from tertulia.bootstrap import UnsafeDatabase
from tertulia.cli.database import database
from tertulia.cli.errors import CommandFailed
from tertulia.cli.listening import bind, close, url_of
from tertulia.cli.progress import Terminal
from tertulia.cli.secret_key import keep_secret_key
from tertulia.cli.server import Hooks
from tertulia.cli.server import serve as serve_app
from tertulia.cli.settings import DataDir, load_settings
from tertulia.cli.workers import supervise
from tertulia.config import Settings
from tertulia.domain.errors import TertuliaError
from tertulia.storage.revisions import MigrationFailed, move
from tertulia.telemetry.logs import configure_logging

DRAIN_GRACE_S = 8.0
"""For draining, on top of what answers are given to end: the rest of a hand-over."""
WORKERS_GRACE_S = 10.0
"""The same for workers, which are killed then."""


def command() -> typer.Typer:
    """Return the command."""
    alone = typer.Typer(add_completion=False)
    alone.command()(serve)
    return alone


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes.")] = 1,
    data_dir: DataDir = None,
) -> None:
    """Serve. Without DATABASE_URL, on a PostgreSQL of its own in the data directory."""
    terminal = Terminal()
    settings = load_settings(data_dir)
    data = "DATABASE_URL" if settings.database_url else str(settings.data_dir)
    sockets = bind(host, port)
    url = url_of(sockets[0], host)
    try:
        with (
            _stopped_by_signals(),
            database(settings, terminal.step) as dsn,
        ):
            settings = _complete(settings, dsn)
            terminal.step("Migrating the database")
            move(dsn, "head", up=True)
            terminal.step("Loading models")
            task = functools.partial(run, settings)
            ready = functools.partial(_welcome, terminal, url, data)
            if workers == 1:
                served = task(sockets, ready)
            else:
                served = supervise(
                    task,
                    sockets,
                    workers,
                    end_s=settings.drain_s + WORKERS_GRACE_S,
                    ready=ready,
                    report=terminal.step,
                )
    except MigrationFailed as error:
        raise CommandFailed(f"The database cannot be migrated. {error}") from error
    except KeyboardInterrupt:
        # Told to stop before it served; what was started is stopped by now.
        served = True
    finally:
        close(sockets)
    if not served:
        raise CommandFailed("The server did not start; the lines above say why.")
    terminal.step("Stopped")


def run(
    settings: Settings,
    sockets: Sequence[socket.socket],
    ready: Callable[[], None],
) -> bool:
    """Serve in this process until told to stop. Return whether it ever served."""
    configure_logging(level=settings.log_level, stream=sys.stderr)
    # What it would say of starting and stopping is said above, in our words.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    app = create_app(settings)
    return serve_app(
        _ToldInWords(app, Terminal()),
        sockets,
        Hooks(ready=ready, drain=app.begin_drain),
        drain_s=settings.drain_s + DRAIN_GRACE_S,
        behind_proxy=settings.trust_proxy,
    )


class _ToldInWords:
    """The app; when its start fails for a reason that people can mend, without a traceback."""

    def __init__(self, app: ASGIApp, terminal: Terminal) -> None:
        self._app = app
        self._terminal = terminal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, or the lifespan."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def without_traceback(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                message = {"type": "lifespan.startup.failed"}
            await send(message)

        try:
            await self._app(scope, receive, without_traceback)
        except (TertuliaError, UnsafeDatabase, ValueError) as error:
            self._terminal.problem(str(error))


def _complete(settings: Settings, dsn: str) -> Settings:
    """Return the settings with what a server without settings makes for itself."""
    found = {"database_url": SecretStr(dsn)}
    if settings.secret_key is None:
        found["secret_key"] = SecretStr(keep_secret_key(settings.data_dir))
    return settings.model_copy(update=found)


@contextmanager
def _stopped_by_signals() -> Generator[None]:
    """Make SIGTERM and a closed terminal end the start as Ctrl-C does: with everything stopped."""
    chosen = [signal.SIGTERM]
    # `nohup` has it ignored, and means it.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        chosen.append(signal.SIGHUP)
    before = {signum: signal.signal(signum, _interrupt) for signum in chosen}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _interrupt(signum: int, _frame: object) -> None:
    if signum == signal.SIGHUP:
        # The server knows how to drain on SIGTERM.
        os.kill(os.getpid(), signal.SIGTERM)
        return
    raise KeyboardInterrupt


def _welcome(terminal: Terminal, url: str, data: str) -> None:
    """Say where to go and what to try first."""
    account = '{"email": "alice@example.com", "username": "alice", "password": "password123"}'
    chat = "tertulia chat" if url.endswith("//127.0.0.1:8000") else f"tertulia chat --url {url}"
    if "UV_RUN_RECURSION_DEPTH" in os.environ:
        # In a checkout the command is only on uv's path.
        chat = f"uv run {chat}"
    terminal.print(f"\nTertulia is ready at {url}\n", style="bold green")
    terminal.print("  Make an account, from another terminal:")
    terminal.print(f"    curl -X POST {url}/auth/register -H 'Content-Type: application/json' \\")
    terminal.print(f"      -d {shlex.quote(account)}")
    terminal.print(f"  Chat in that terminal:     {chat}")
    terminal.print(f"  See everything it can do:  {url}/docs")
    terminal.print(f"  Its data:                  {data}")
    terminal.print("  Stop it:                   Ctrl-C\n")
