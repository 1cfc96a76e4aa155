"""A home for each test."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import is_alive, wait_until
from tests.cli.serving import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A place to run commands in; a PostgreSQL that was left there is killed at the end."""
    home = Home(tmp_path)
    yield home
    if pid := home.postgres_pid():
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))
