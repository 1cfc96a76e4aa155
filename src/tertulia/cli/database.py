"""The database of a command: the one it is told, or the embedded one, started or joined."""

import asyncio
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from tertulia.cli.errors import CommandFailed
from tertulia.cli.progress import Report
from tertulia.cli.signals import stopped_by_signals, undisturbed
from tertulia.config import Settings
from tertulia.storage.embedded import EmbeddedPostgres, EmbeddedPostgresFailed
from tertulia.storage.inspection import DatabaseState, inspect
from tertulia.storage.revisions import MigrationFailed, move
from tertulia.storage.unreachable import DatabaseNotReady, why_not

ANSWER_S = 3.0
"""How long a command that somebody waits for gives a PostgreSQL to answer."""
_ATTEMPT_S = 5.0
_SHORTEST_ATTEMPT_S = 1.0
_PAUSE_S = 0.5
_SAY_EVERY_S = 5.0
_LOOK_S = 1.0


@contextmanager
def database(settings: Settings, report: Report, *, wait_s: float = ANSWER_S) -> Generator[str]:
    """Yield the DSN of a database that answers; what was started for it is stopped at the end.

    Inside, a signal raises `StoppedBySignal`.

    Args:
        settings: Say which PostgreSQL; none means the embedded one in the data directory.
        report: Gets a line for each step.
        wait_s: How long a PostgreSQL that we did not start is given to come up.

    Raises:
        CommandFailed: There is none; the text says why and what to do.
    """
    with stopped_by_signals():
        if settings.database_url is None:
            with _embedded(settings, report) as dsn:
                yield dsn
        else:
            url = settings.database_url.get_secret_value()
            wait_for_database(url, report, wait_s=wait_s)
            yield url


@contextmanager
def _embedded(settings: Settings, report: Report) -> Generator[str]:
    try:
        postgres = EmbeddedPostgres.start(settings.data_dir, report)
    except EmbeddedPostgresFailed as error:
        raise CommandFailed(str(error)) from error
    ended = threading.Event()
    keeper = threading.Thread(target=_keep_running, args=(postgres, ended, report), daemon=True)
    try:
        keeper.start()
        yield postgres.dsn
    finally:
        # Told to stop once more, we must not leave the server behind; this takes moments.
        with undisturbed():
            ended.set()
            keeper.join()
            try:
                if postgres.stop():
                    report("PostgreSQL stopped")
            except EmbeddedPostgresFailed as error:
                report(f"PostgreSQL was not stopped: {error}")


def wait_for_database(dsn: str, report: Report, *, wait_s: float = ANSWER_S) -> DatabaseState:
    """Return the state of the database at `dsn` once it answers.

    Raises:
        CommandFailed: It does not within `wait_s`, or refuses us in a way that will not change.
    """
    begin = time.monotonic()
    said = -_SAY_EVERY_S
    while True:
        left_s = wait_s - (time.monotonic() - begin)
        timeout_s = max(_SHORTEST_ATTEMPT_S, min(_ATTEMPT_S, left_s))
        try:
            return asyncio.run(inspect(dsn, timeout_s=timeout_s))
        except DatabaseNotReady as error:
            waited_s = time.monotonic() - begin
            if error.is_lasting:
                raise CommandFailed(
                    f"PostgreSQL cannot be used: {error}. {error.remedy}"
                ) from error
            if waited_s >= wait_s:
                raise CommandFailed(
                    f"PostgreSQL did not answer for {waited_s:.0f} s: {error}. {error.remedy}"
                ) from error
            if waited_s - said >= _SAY_EVERY_S:
                said = waited_s
                report(f"Waiting for PostgreSQL, up to {wait_s - waited_s:.0f} s more: {error}")
        time.sleep(_PAUSE_S)


def require_usable(state: DatabaseState, report: Report, *, is_production: bool) -> None:
    """Accept a database that can do the work, and in production only one that keeps what it stores.

    Args:
        state: Of the database.
        report: Gets one line about a forgetful database elsewhere.
        is_production: Whether what is stored matters.

    Raises:
        CommandFailed: It is not acceptable; the text says what to change.
    """
    if state.faults:
        raise CommandFailed("\n  ".join(["This PostgreSQL cannot be used.", *state.faults]))
    if not state.unsafe:
        return
    if is_production:
        refusal = (
            "This PostgreSQL may lose in a crash what it has acknowledged, which is refused where "
            "TERTULIA_ENVIRONMENT is production. Nothing was changed in it."
        )
        raise CommandFailed("\n  ".join([refusal, *map(str, state.unsafe)]))
    names = ", ".join(each.name for each in state.unsafe)
    report(f"Note: this PostgreSQL may lose answers in a crash (off: {names}); see tertulia doctor")


def migrate(dsn: str, revision: str = "head", *, up: bool = True) -> None:
    """Bring the schema at `dsn` up or down to `revision`.

    Raises:
        CommandFailed: It is where it was; the text says why.
    """
    try:
        move(dsn, revision, up=up)
    except MigrationFailed as error:
        raise CommandFailed(f"The database cannot be migrated. {error}") from error
    except OSError as error:
        raise CommandFailed(f"PostgreSQL went away: {why_not(error, dsn)}. Try again.") from error


def _keep_running(postgres: EmbeddedPostgres, ended: threading.Event, report: Report) -> None:
    """Start the server again whenever something kills it."""
    while not ended.wait(_LOOK_S):
        try:
            if postgres.ensure_running():
                report("PostgreSQL had been killed and runs again")
        except EmbeddedPostgresFailed as error:
            report(f"PostgreSQL was killed and does not start again: {error}")
