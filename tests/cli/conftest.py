"""A home for each test."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import is_alive, wait_until
from tests.cli.serving import Home

_DIRECTORIES = "tertulia-test-"


@pytest.fixture
def home() -> Iterator[Home]:
    """A place to run commands in; a PostgreSQL that was left there is killed at the end.

    Not in pytest's own temporary directory, which every other run of pytest closes to all but its
    owner: root's PostgreSQL, which is another user's, would lose its files.
    """
    with tempfile.TemporaryDirectory(prefix=_DIRECTORIES) as directory:
        home = Home(Path(directory))
        yield home
        if pid := home.postgres_pid():
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid))


@pytest.fixture(scope="session")
def used_data_dir() -> Iterator[Path]:
    """The data directory of a server that has never had a user."""
    with tempfile.TemporaryDirectory(prefix=_DIRECTORIES) as directory:
        home = Home(Path(directory))
        done = home.command("db", "upgrade")
        assert done.returncode == 0, done.stderr
        yield home.data_dir


@pytest.fixture
def used_home(home: Home, used_data_dir: Path) -> Home:
    """A home whose database is there: making one takes longer than most tests."""
    # With the owners of its files: root's PostgreSQL is another user's.
    subprocess.run(["cp", "-a", str(used_data_dir), str(home.data_dir)], check=True)  # noqa: S607
    return home
