"""`tertulia doctor`: what is wrong here, and what to do about it."""

import asyncio
import os
import shutil
from pathlib import Path

import typer

from tertulia.bootstrap import build_models
from tertulia.cli.database import database, wait_for_database
from tertulia.cli.errors import CommandFailed
from tertulia.cli.progress import Terminal
from tertulia.cli.secret_key import keep_secret_key
from tertulia.cli.settings import DataDir, load_settings
from tertulia.config import Settings
from tertulia.domain.models import ProviderFailed
from tertulia.storage.revisions import newest_revision

DISK_FREE_BYTES_MIN = 1024**3
RESERVED_CONNECTIONS = 10
"""That PostgreSQL should have left for others, such as superusers and migrations."""


def command() -> typer.Typer:
    """Return the command."""
    alone = typer.Typer(add_completion=False)
    alone.command()(doctor)
    return alone


def doctor(data_dir: DataDir = None) -> None:
    """Check settings, database, models and disk. Exits with 1 if anything is wrong."""
    # What it finds is what it was asked for: all of it on standard output, in order.
    terminal = Terminal(steps_on_stdout=True)
    wrong = 0
    try:
        settings = load_settings(data_dir)
    except CommandFailed as failure:
        terminal.problem(str(failure))
        raise typer.Exit(failure.exit_code) from failure
    terminal.good("The settings can be read.")
    for check in (_check_disk, _check_key, _check_database, _check_models):
        try:
            for line in check(settings, terminal):
                terminal.good(line)
        except CommandFailed as failure:
            wrong += 1
            terminal.problem(str(failure))
    if wrong:
        failed = "One of the checks above" if wrong == 1 else f"{wrong} of the checks above"
        terminal.print(f"{failed} failed. Mend that, and run this again.", style="bold")
        raise typer.Exit(1)
    terminal.print("All is well. Start with: tertulia serve", style="bold")


def _check_disk(settings: Settings, _terminal: Terminal) -> list[str]:
    if settings.database_url is not None:
        # Nothing is kept here.
        return []
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        raise CommandFailed(
            f"{str(place)!r} is not writable: change that, or name another with --data-dir."
        )
    free = shutil.disk_usage(place).free
    if free < DISK_FREE_BYTES_MIN:
        raise CommandFailed(
            f"Only {free // 1024**2} MiB are free at {str(place)!r}: free at least 1 GiB."
        )
    return [f"{free / 1024**3:.0f} GiB are free for data at {place}."]


def _check_key(settings: Settings, _terminal: Terminal) -> list[str]:
    if settings.secret_key is not None:
        return ["The secret key comes from the settings."]
    path = Path(settings.data_dir, "secret_key")
    if not path.exists():
        return ["A secret key will be made at the first start."]
    keep_secret_key(settings.data_dir)
    return [f"The secret key is in {path}, for its owner only."]


def _check_database(settings: Settings, terminal: Terminal) -> list[str]:
    with database(settings, terminal.step) as dsn:
        state = wait_for_database(dsn, terminal.step)
    if state.faults or state.unsafe:
        unsafe = [f"It may lose answers in a crash: {each}" for each in state.unsafe]
        raise CommandFailed("\n  ".join([f"PostgreSQL {state.version}:", *state.faults, *unsafe]))
    if state.max_connections < settings.pool_size + RESERVED_CONNECTIONS:
        raise CommandFailed(
            f"PostgreSQL allows {state.max_connections} connections, and each worker takes up to "
            f"{settings.pool_size}: raise max_connections, or lower TERTULIA_POOL_SIZE."
        )
    lines = [f"PostgreSQL {state.version} answers."]
    newest = newest_revision()
    if state.revision is None:
        return [*lines, "It is empty; `tertulia serve` will migrate it."]
    if state.revision != newest:
        return [
            *lines,
            f"It is at revision {state.revision}; `tertulia serve` brings it to {newest}.",
        ]
    return [*lines, f"It is at the newest revision, {newest}."]


def _check_models(settings: Settings, _terminal: Terminal) -> list[str]:
    try:
        return asyncio.run(_ask_providers(settings))
    except ValueError as error:
        raise CommandFailed(f"{error}.") from error


async def _ask_providers(settings: Settings) -> list[str]:
    """Ask every provider for its models: the one thing that costs nothing and needs it alive."""
    catalog = build_models(settings)
    lines = [f"Who names no model is answered by {catalog.default}."]
    silent: list[str] = []
    try:
        for name, provider in catalog.providers.items():
            try:
                models = await provider.models()
            except ProviderFailed as failure:
                silent.append(
                    f"The provider {name!r} cannot list its models: {failure.message}. Check its "
                    "base URL and key, and the network."
                )
            else:
                lines.append(f"The provider {name} offers {len(models)} models.")
    finally:
        await catalog.close()
    if silent:
        raise CommandFailed("\n  ".join(silent))
    return lines
