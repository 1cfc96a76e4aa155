"""The database of a command: the one it is told, or the embedded one, started or joined."""

import asyncio
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from tertulia.cli.errors import CommandFailed
from tertulia.cli.progress import Report
from tertulia.config import Settings
from tertulia.storage.embedded import EmbeddedPostgres, EmbeddedPostgresFailed
from tertulia.storage.inspection import DatabaseNotReady, DatabaseState, inspect

_PAUSE_S = 0.5
_SAY_EVERY_S = 5.0
_LOOK_S = 1.0


@contextmanager
def database(settings: Settings, report: Report) -> Generator[str]:
    """Yield the DSN of a database that answers; what was started for it is stopped at the end.

    Args:
        settings: Say which PostgreSQL; none means the embedded one in the data directory.
        report: Gets a line for each step.

    Raises:
        CommandFailed: There is none; the text says why and what to do.
    """
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        wait_for_database(url, report, wait_s=settings.database_wait_s)
        yield url
        return
    try:
        postgres = EmbeddedPostgres.start(settings.data_dir, report)
    except EmbeddedPostgresFailed as error:
        raise CommandFailed(str(error)) from error
    ended = threading.Event()
    keeper = threading.Thread(target=_keep_running, args=(postgres, ended, report), daemon=True)
    keeper.start()
    try:
        yield postgres.dsn
    finally:
        # Told to stop once more, we must not leave the server behind; this takes moments.
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in signals}
        ended.set()
        keeper.join()
        try:
            if postgres.stop():
                report("PostgreSQL stopped")
        except EmbeddedPostgresFailed as error:
            report(f"PostgreSQL was not stopped: {error}")
        for signum, handler in before.items():
            signal.signal(signum, handler)


def wait_for_database(dsn: str, report: Report, *, wait_s: float = 5.0) -> DatabaseState:
    """Return the state of the database at `dsn` once it answers.

    Raises:
        CommandFailed: It does not within `wait_s`, or refuses us in a way that will not change.
    """
    begin = time.monotonic()
    said = -_SAY_EVERY_S
    while True:
        try:
            return asyncio.run(inspect(dsn))
        except DatabaseNotReady as error:
            waited_s = time.monotonic() - begin
            if error.is_lasting:
                raise CommandFailed(f"PostgreSQL refuses the connection: {error}.") from error
            if waited_s > wait_s:
                raise CommandFailed(
                    f"PostgreSQL did not answer for {waited_s:.0f} s: {error}. Check DATABASE_URL, "
                    "and that the server runs and can be reached from here."
                ) from error
            if waited_s - said >= _SAY_EVERY_S:
                said = waited_s
                report(f"Waiting for PostgreSQL, {wait_s - waited_s:.0f} s more ({error})")
        time.sleep(_PAUSE_S)


def _keep_running(postgres: EmbeddedPostgres, ended: threading.Event, report: Report) -> None:
    """Start the server again whenever something kills it."""
    while not ended.wait(_LOOK_S):
        try:
            if postgres.ensure_running():
                report("PostgreSQL had been killed and runs again")
        except EmbeddedPostgresFailed as error:
            report(f"PostgreSQL was killed and does not start again: {error}")
