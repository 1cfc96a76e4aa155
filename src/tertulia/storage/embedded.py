"""The embedded PostgreSQL: started by the first who needs it, shared, stopped by the last.

In the data directory:

    postgres/            the cluster
    postgres.log         what the server says
    postgres.run/        its Unix socket (or a short private directory that postgres.run names)
    postgres.start.lock  held while somebody starts or stops the server
    postgres.use.lock    shared by everybody who uses it

Both locks are `flock`s: the kernel releases them with the process, however it ended, so there is
no such thing as a stale one.
"""

import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import quote

from tertulia.storage.embedded_account import (
    Account,
    EmbeddedPostgresFailed,
    let_pass,
    let_read,
    server_account,
)
from tertulia.storage.embedded_cluster import (
    PORT,
    SUPERUSER,
    Cluster,
    Postmaster,
    remove_half_made,
)
from tertulia.storage.embedded_programs import installation
from tertulia.storage.file_lock import FileLock

__all__ = ["DATABASE", "EmbeddedPostgres", "EmbeddedPostgresFailed"]

DATABASE = "tertulia"
LOG_LIMIT_BYTES = 20 * 1024 * 1024
"""A longer log is emptied at the next start."""
SOCKET_PATH_LIMIT_BYTES = 100
"""Linux allows 107 bytes for the path of a Unix socket, macOS 103."""

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "max_connections": "200",
        # Otherwise the log would keep what users wrote: the values of a key that exists already,
        # the row that a constraint refuses.
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "shared_buffers": "128MB",
        "idle_in_transaction_session_timeout": "60s",
    }
)
"""What differs from PostgreSQL's defaults. Nothing here gives up durability."""

_NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
_START_TIMEOUT_S = 300.0
"""A start takes a fraction of a second; recovery from a crash under heavy writing may take long."""
_POLL_S = 0.05


class EmbeddedPostgres:
    """A running embedded PostgreSQL, and this process's right to use it.

    Attributes:
        dsn: For asyncpg: `postgresql://tertulia@/tertulia?host=<socket directory>`.
        joined: Whether it was running already, started by another process.
    """

    def __init__(self, home: "_Home", use: FileLock, socket_dir: Path, *, joined: bool) -> None:
        self.dsn = f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(socket_dir))}&port={PORT}"
        self.joined = joined
        self._home = home
        self._use: FileLock | None = use

    @classmethod
    def start(
        cls,
        data_dir: Path,
        report: Callable[[str], None],
        *,
        extra: Mapping[str, str] = _NO_SETTINGS,
    ) -> Self:
        """Start the PostgreSQL of `data_dir`, or join it if it runs. Blocks until it answers.

        Args:
            data_dir: Made if missing; nobody else may list it.
            report: Gets a line for people at each step that may take a moment.
            extra: PostgreSQL settings on top of `SETTINGS`; `fsync=off` is for tests only.

        Raises:
            EmbeddedPostgresFailed: It cannot be used; the text says what to do.
        """
        home = _Home(_make_private(data_dir), extra, report)
        with home.start_lock():
            use = FileLock(home.use_lock_path)
            try:
                # Never waits: whoever wants it alone holds the start lock as well.
                use.share()
                postmaster, joined = home.bring_up()
                return cls(home, use, postmaster.socket_dir, joined=joined)
            except BaseException:
                home.leave(use)
                raise

    def ensure_running(self) -> bool:
        """Start the server again if something killed it. Return whether that was needed.

        Raises:
            EmbeddedPostgresFailed: It cannot be started.
        """
        if self._use is None or self._home.cluster().find_postmaster():
            return False
        with self._home.start_lock():
            _, joined = self._home.bring_up()
            return not joined

    def stop(self) -> bool:
        """Give up the right to use it; the last user stops the server. May be called twice.

        Returns:
            Whether the server is stopped now; False if others still use it.
        """
        if self._use is None:
            return False
        use, self._use = self._use, None
        with self._home.start_lock():
            return self._home.leave(use)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class _Home:
    """The data directory, and what is done in it while the start lock is held."""

    data_dir: Path
    extra: Mapping[str, str]
    report: Callable[[str], None]

    @property
    def use_lock_path(self) -> Path:
        return self.data_dir / "postgres.use.lock"

    def start_lock(self) -> FileLock:
        lock = FileLock(self.data_dir / "postgres.start.lock")
        try:
            lock.acquire(self.report)
        except BaseException:
            lock.close()
            raise
        return lock

    def cluster(self) -> Cluster:
        directory = self.data_dir / "postgres"
        return Cluster(
            directory, server_account(directory), is_durable=self.extra.get("fsync") != "off"
        )

    def bring_up(self) -> tuple[Postmaster, bool]:
        """Return the running server, and whether it was running before."""
        cluster = self.cluster()
        found = cluster.find_postmaster()
        try:
            if found:
                self.report("Joining the PostgreSQL that already runs in this data directory")
                postmaster = self._wait_until_ready(cluster)
            else:
                self._prepare(cluster)
                self.report("Starting PostgreSQL")
                postmaster = cluster.start(
                    self._socket_dir(cluster.account),
                    self._log(),
                    {**SETTINGS, **self.extra},
                    timeout_s=_START_TIMEOUT_S,
                )
            cluster.ensure_database(DATABASE, postmaster.socket_dir)
        except OSError as error:
            raise EmbeddedPostgresFailed(
                f"The data directory {str(self.data_dir)!r} cannot be used: {error}. Make it "
                "writable, free some space, or name another with --data-dir."
            ) from error
        return postmaster, found is not None

    def leave(self, use: FileLock) -> bool:
        """Release `use`; stop the server if nobody else uses it. Return whether it is stopped."""
        try:
            if not use.try_exclusive():
                return False
            cluster = self.cluster()
            stopped = cluster.stop()
            if stopped:
                self._forget_socket_dir()
            return stopped
        finally:
            use.close()

    def _prepare(self, cluster: Cluster) -> None:
        """Make the cluster if there is none, and let the account that runs it reach it."""
        account = cluster.account
        if account:
            programs = installation() / "bin"
            let_pass([self.data_dir, programs], account, self.report)
            if not (programs / "postgres").stat().st_mode & stat.S_IROTH:
                let_read(programs.parent, account)
        remove_half_made(self.data_dir)
        if not (cluster.directory / "PG_VERSION").exists():
            self.report(f"Creating a PostgreSQL database in {cluster.directory}")
            cluster.create()
        cluster.require_version()
        if account and cluster.directory.stat().st_uid != account.uid:
            account.give_tree(cluster.directory)

    def _wait_until_ready(self, cluster: Cluster) -> Postmaster:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            postmaster = cluster.find_postmaster()
            if postmaster and postmaster.is_ready:
                return postmaster
            if time.monotonic() > deadline:
                raise EmbeddedPostgresFailed(
                    f"PostgreSQL is not ready after {_START_TIMEOUT_S:.0f} s; it may be recovering "
                    f"from a crash. Its log is {str(self._log_path)!r}."
                )
            time.sleep(_POLL_S)

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "postgres.log"

    def _log(self) -> Path:
        path = self._log_path
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(descriptor).st_size > LOG_LIMIT_BYTES:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
        return path

    @property
    def _run_path(self) -> Path:
        return self.data_dir / "postgres.run"

    def _socket_dir(self, account: Account | None) -> Path:
        """Return a private directory whose path every client can use for a Unix socket."""
        path = self._run_path
        # Commas separate hosts for clients and directories for the server; others need quoting.
        plain = re.fullmatch(r"[A-Za-z0-9/._+=@~-]+", str(path)) is not None
        if plain and len(f"{path}/.s.PGSQL.{PORT}") <= SOCKET_PATH_LIMIT_BYTES:
            path.mkdir(mode=0o700, exist_ok=True)
        else:
            path = self._short_socket_dir(account)
        if account:
            account.give(path)
        path.chmod(0o700)
        return path

    def _short_socket_dir(self, account: Account | None) -> Path:
        """Return the directory that `postgres.run` names, or make one and write it there."""
        owner = account.uid if account else os.geteuid()
        if self._run_path.is_file():
            remembered = Path(self._run_path.read_text())
            if _is_private(remembered, owner):
                return remembered
        # Root's runtime directory is closed to the account that runs the server.
        runtime = None if account else os.environ.get("XDG_RUNTIME_DIR")
        base = runtime if runtime and os.access(runtime, os.W_OK) else tempfile.gettempdir()
        if len(base) > SOCKET_PATH_LIMIT_BYTES // 2:
            base = "/tmp"  # noqa: S108  mkdtemp makes a private directory with a random name
        path = Path(tempfile.mkdtemp(prefix="tertulia-", dir=base))
        self._run_path.write_text(str(path))
        return path

    def _forget_socket_dir(self) -> None:
        """Remove the short socket directory; the next start makes another."""
        if not self._run_path.is_file():
            return
        try:
            Path(self._run_path.read_text()).rmdir()
        except OSError:
            # Not empty, or gone: nothing of ours is left in it that matters.
            return
        self._run_path.unlink()


def _make_private(data_dir: Path) -> Path:
    """Return `data_dir` with no links in it, made if missing."""
    # The account that root's server runs as must pass through.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        data_dir.mkdir(mode=mode, parents=True, exist_ok=True)
        return data_dir.resolve()
    except OSError as error:
        raise EmbeddedPostgresFailed(
            f"The data directory {str(data_dir)!r} cannot be made ({error.strerror}). Name a "
            "directory that can be written with --data-dir."
        ) from error


def _is_private(directory: Path, owner_uid: int) -> bool:
    try:
        status = directory.lstat()
    except OSError:
        return False
    mode = status.st_mode
    return stat.S_ISDIR(mode) and status.st_uid == owner_uid and stat.S_IMODE(mode) == 0o700  # noqa: PLR2004  a mode
