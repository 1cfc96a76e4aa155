"""Where a measurement takes place: a data directory, its PostgreSQL, servers, load."""

import asyncio
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg

from benchmarks.load.jobs import HOST
from benchmarks.people import MODEL_TYPE, PASSWORD, SECRET_KEY, People
from benchmarks.processes import PROJECT, Started, memory_bytes
from tertulia.auth.passwords import Passwords
from tertulia.storage.embedded import EmbeddedPostgres
from tertulia.storage.migrations import upgrade

_RELOAD_S = 0.3
_PEER_START_S = 300.0
"""Importing gigabytes and migrating takes a minute where the disk is slow."""
_NO_SETTINGS = ("PATH", "LANG", "LC_ALL", "TMPDIR")
_STATEMENT = re.compile(rb"LOG:  (?:execute|statement)")
_SETTINGS = re.compile(r"TERTULIA_|DATABASE_URL|SECRET_KEY|PG|.*_API_KEY|.*_BASE_URL")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be asked."""

    stage: "Stage"
    name: str
    port: int
    pid: int
    """Of its first process; its workers are children of that."""

    def memory_bytes(self) -> int:
        """Return what its processes hold."""
        return memory_bytes(self.pid)


class Stage:
    """One data directory, and everything that runs on it until the stage is closed.

    Attributes:
        directory: Of data and logs.
        postgres: The product's own, with the product's settings.
        people: Makes users.
        say: Tells whoever waits how far it is.
        upstream: The provider of language models.
    """

    def __init__(self, directory: Path, stack: ExitStack, say: Callable[[str], None]) -> None:
        self.directory = directory
        self._stack = stack
        self.say = say
        self._servers: dict[tuple[str, ...], Server] = {}
        self.data_dir = directory / "data"
        self.postgres = EmbeddedPostgres.start(self.data_dir, lambda _line: None)
        stack.callback(self.postgres.stop)
        upgrade(self.postgres.dsn)
        self._sql = stack.enter_context(psycopg.connect(self.postgres.dsn, autocommit=True))
        self.people = People(self.postgres.dsn, asyncio.run(_password_hash()))
        self.upstream = self._serve("upstream", "benchmarks.upstream")

    @property
    def dsn(self) -> str:
        """The product's database."""
        return self.postgres.dsn

    def product(self, **settings: str) -> Server:
        """Return `tertulia serve` with these settings, started if it does not run."""
        return self._serve(
            "Tertulia", "tertulia", *self._serve_words(), cwd=self.directory, settings=settings
        )

    @contextmanager
    def started_product(self, **settings: str) -> Generator[Server]:
        """Run the product for as long as the block does."""
        with Started(
            "tertulia",
            *self._serve_words(),
            log=self.directory / "started.log",
            env=self._environment(settings),
            cwd=self.directory,
        ) as process:
            yield Server(self, "Tertulia", process.port(), process.pid)

    @contextmanager
    def started_peer(self, name: str, python: Path, app: str, **env: str) -> Generator[Server]:
        """Run another product for as long as the block does, in a directory of its own.

        Args:
            name: Of the product.
            python: Of the environment that it is installed in.
            app: `module:attribute`, for uvicorn.
            env: Its settings. None of ours reach it, and its home is that directory.
        """
        home = self.peer_home(name)
        known = {each: os.environ[each] for each in _NO_SETTINGS if each in os.environ}
        with Started(
            "benchmarks.peers.serving",
            app,
            log=self.directory / f"{name}.log",
            env={**known, "HOME": str(home), "PYTHONPATH": str(PROJECT), **env},
            cwd=home,
            python=python,
        ) as process:
            yield Server(self, name, process.port(_PEER_START_S), process.pid)

    def peer_home(self, name: str) -> Path:
        """Return the directory of another product, made if it is not there."""
        home = self.directory / name
        home.mkdir(exist_ok=True)
        return home

    def leave_postgres(self) -> None:
        """Let PostgreSQL stop whenever no server of the product runs; only these can go on."""
        self._sql.close()
        self.postgres.stop()

    def yardstick(self, module: str, **settings: str) -> Server:
        """Return a server of `benchmarks.yardsticks`, started if it does not run."""
        return self._serve(module, f"benchmarks.yardsticks.{module}", settings=settings)

    def other_database(self, name: LiteralString) -> str:
        """Make an empty database of that name unless there is one; return its DSN."""
        found = self._sql.execute("SELECT FROM pg_database WHERE datname = %s", [name])
        if found.fetchone() is None:
            self._sql.execute(f"CREATE DATABASE {name}")
        return self.dsn.replace("/tertulia?", f"/{name}?", 1)

    def write_transactions(self) -> int:
        """Return how many transactions have ever written anything; asking is not one."""
        row = self._sql.execute(
            "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
        assert row is not None, "a function returns something"
        return int(row[0])

    @contextmanager
    def logged_statements(self) -> Generator[Callable[[], int]]:
        """Have PostgreSQL log every statement; yield how to count those so far."""
        log = self.data_dir / "postgres.log"
        self._sql.execute("ALTER SYSTEM SET log_statement = 'all'")
        self._sql.execute("SELECT pg_reload_conf()")
        try:
            time.sleep(_RELOAD_S)
            begin = log.stat().st_size
            yield lambda: len(_STATEMENT.findall(log.read_bytes()[begin:]))
        finally:
            self._sql.execute("ALTER SYSTEM RESET log_statement")
            self._sql.execute("SELECT pg_reload_conf()")
            time.sleep(_RELOAD_S)

    def postgres_pid(self) -> int:
        """Return the number of PostgreSQL's first process."""
        return int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])

    def _serve(
        self,
        name: str,
        module: str,
        *arguments: str,
        cwd: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Server:
        key = (name, *arguments, *(f"{k}={v}" for k, v in (settings or {}).items()))
        if key not in self._servers:
            log = self.directory / f"{name}.log"
            env = self._environment(settings or {})
            process = self._stack.enter_context(
                Started(module, *arguments, log=log, env=env, cwd=cwd)
            )
            self._servers[key] = Server(self, name, process.port(), process.pid)
        return self._servers[key]

    def _serve_words(self) -> list[str]:
        return ["serve", "--port", "0", "--data-dir", str(self.data_dir)]

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return ours without what would be a setting, with those of the benchmark."""
        plain = {name: value for name, value in os.environ.items() if not _SETTINGS.match(name)}
        upstream = self._servers.get(("upstream",))
        url = f"http://{HOST}:{upstream.port}/v1" if upstream else ""
        # A checkout elsewhere may be measured: `PYTHONPATH=…/src`.
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(PROJECT)]))
        return {
            **plain,
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "SECRET_KEY": SECRET_KEY,
            "TERTULIA_LOCAL_MODEL": "false",
            "TERTULIA_DEFAULT_MODEL": MODEL_TYPE,
            "OPENAI_BASE_URL": url,
            "BENCH_DSN": self.dsn,
            **settings,
        }


@contextmanager
def new_stage(say: Callable[[str], None]) -> Generator[Stage]:
    """Build a stage of its own, and leave nothing of it behind."""
    directory = Path(tempfile.mkdtemp(prefix="tertulia-bench-"))
    try:
        with ExitStack() as stack:
            yield Stage(directory, stack, say)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _password_hash() -> str:
    passwords = Passwords()
    try:
        return await passwords.hash(PASSWORD)
    finally:
        passwords.close()
