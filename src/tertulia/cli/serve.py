"""`tertulia serve`: from nothing to a server, and back."""

import functools
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tertulia.app import create_app
from tertulia.cli.database import database, migrate, require_usable, wait_for_database
from tertulia.cli.errors import CommandFailed
from tertulia.cli.listening import bind, close, url_of
from tertulia.cli.progress import Terminal
from tertulia.cli.secret_key import keep_secret_key
from tertulia.cli.server import Hooks
from tertulia.cli.server import serve as serve_app
from tertulia.cli.settings import DataDir, load_settings
from tertulia.cli.signals import StoppedBySignal
from tertulia.cli.users import with_users
from tertulia.cli.welcome import Welcome
from tertulia.cli.workers import supervise
from tertulia.config import Settings
from tertulia.domain.errors import TertuliaError
from tertulia.storage.revisions import newest_revision
from tertulia.telemetry.logs import configure_logging

DRAIN_GRACE_S = 10.0
"""For draining, on top of what answers are given to end: the rest of a hand-over, and closing."""
WORKERS_GRACE_S = 12.0
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
    sockets = bind(host, port)
    welcome = Welcome(
        terminal,
        url=url_of(sockets[0], host),
        data="DATABASE_URL" if settings.database_url else str(settings.data_dir),
    )
    try:
        with database(settings, terminal.step, wait_s=settings.database_wait_s) as dsn:
            settings = _complete(settings, dsn)
            _prepare(settings, dsn, terminal, welcome)
            served = _run_all(settings, sockets, workers, terminal, welcome.show)
    except StoppedBySignal:
        # What was started is stopped by now. Once it served, stopping is what it was to do.
        if not welcome.is_shown:
            terminal.step("Stopped before it was ready")
            raise
        served = True
    finally:
        close(sockets)
    if not served:
        raise CommandFailed("The server did not start; the lines above say why.")
    terminal.step("Stopped")


def _prepare(settings: Settings, dsn: str, terminal: Terminal, welcome: Welcome) -> None:
    """Make the database fit to be served from, once for all workers.

    Raises:
        CommandFailed: It cannot be; nothing was changed in it if it is unsafe.
    """
    state = wait_for_database(dsn, terminal.step, wait_s=settings.database_wait_s)
    is_production = settings.environment == "production"
    require_usable(state, terminal.step, is_production=is_production)
    if state.revision != newest_revision():
        terminal.step("Migrating the database")
        migrate(dsn)
    welcome.has_accounts = with_users(dsn, lambda users: users.list_users(limit=1)).items != []
    terminal.step("Loading models")


def _run_all(
    settings: Settings,
    sockets: Sequence[socket.socket],
    workers: int,
    terminal: Terminal,
    ready: Callable[[], None],
) -> bool:
    """Serve until told to stop, in this process or in several. Return whether it ever served."""
    task = functools.partial(run, settings)
    if workers == 1:
        return task(sockets, ready)
    return supervise(
        task,
        sockets,
        workers,
        end_s=settings.drain_s + WORKERS_GRACE_S,
        ready=ready,
        report=terminal.step,
    )


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
        except (TertuliaError, ValueError) as error:
            self._terminal.problem(str(error))
        except Exception as error:  # noqa: BLE001  nobody else would say why it does not start
            self._terminal.problem(f"{type(error).__name__}: {error}")


def _complete(settings: Settings, dsn: str) -> Settings:
    """Return the settings with what a server without settings makes for itself."""
    found = {"database_url": SecretStr(dsn)}
    if settings.secret_key is None:
        found["secret_key"] = SecretStr(keep_secret_key(settings.data_dir))
    return settings.model_copy(update=found)
