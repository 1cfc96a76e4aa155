"""A home for each test."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import is_alive, wait_until
from tests.cli.serving import Home


@pytest.fixture
def home() -> Iterator[Home]:
    """A place to run commands in; a PostgreSQL that was left there is killed at the end.

    Not in pytest's own temporary directory, which every other run of pytest closes to all but its
    owner: root's PostgreSQL, which is another user's, would lose its files.
    """
    with tempfile.TemporaryDirectory(prefix="tertulia-test-") as directory:
        home = Home(Path(directory))
        yield home
        if pid := home.postgres_pid():
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid))
