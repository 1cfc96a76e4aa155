"""A PostgreSQL of a test's own, with nothing given up for speed, to be killed under load."""

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tertulia.storage import migrations
from tertulia.storage.embedded import EmbeddedPostgres
from tertulia.storage.embedded_account import server_account
from tertulia.storage.embedded_cluster import Cluster
from tertulia.storage.embedded_programs import run_program

_ENDS_S = 15.0


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server that can be made to fall, and started again."""

    home: Path
    server: EmbeddedPostgres

    @property
    def dsn(self) -> str:
        return self.server.dsn

    @property
    def cluster(self) -> Cluster:
        directory = self.home / "postgres"
        return Cluster(directory, server_account(directory))

    def pid(self) -> int:
        """Return the postmaster's."""
        postmaster = self.cluster.find_postmaster()
        assert postmaster is not None, "the server does not run"
        return postmaster.pid

    def kill(self) -> None:
        """`kill -9` the postmaster; its children find out and end."""
        os.kill(self.pid(), signal.SIGKILL)
        self._wait_until_gone()

    def stop_immediately(self) -> None:
        """`pg_ctl stop -m immediate`: as if the power had failed, but for the kernel's cache."""
        cluster = self.cluster
        run_program(
            cluster.account,
            "pg_ctl",
            *("stop", "-D", str(cluster.directory), "-m", "immediate", "-t", str(int(_ENDS_S))),
        )
        self._wait_until_gone()

    def start_again(self) -> float:
        """Start it, wait until it accepts connections and return when that was (monotonic)."""
        assert self.server.ensure_running(), "it ran already"
        return time.monotonic()

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + _ENDS_S
        while self.cluster.find_postmaster() is not None:
            assert time.monotonic() < deadline, "the server does not end"
            time.sleep(0.02)


@contextmanager
def durable_postgres(home: Path) -> Generator[PostgresServer]:
    """Start a PostgreSQL with its own settings for durability, migrated; stop it at the end."""
    # Making the cluster durable would take the most time; it holds nothing yet.
    with EmbeddedPostgres.start(home, lambda _line: None, extra={"fsync": "off"}):
        pass
    with EmbeddedPostgres.start(home, lambda _line: None) as server:
        migrations.upgrade(server.dsn)
        yield PostgresServer(home, server)
