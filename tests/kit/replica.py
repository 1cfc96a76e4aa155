"""A real server process (with its workers), to be killed, frozen and stopped by tests."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

SECRET_KEY = "kit-4fHq0Zb8nW1xTt7yLr2vJc5uEo9sGd3m"
_READY = re.compile(r"ready at (http://\S+)")
_START_S = 60.0


class Replica:
    """`tertulia serve` on a database of the test's."""

    def __init__(
        self,
        dsn: str,
        log: Path,
        *,
        workers: int = 1,
        port: int = 0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.url = ""
        self.log = log
        self._port = port
        self._workers = workers
        self._env = {
            **{name: value for name, value in os.environ.items() if not _is_a_setting(name)},
            "DATABASE_URL": dsn,
            "SECRET_KEY": SECRET_KEY,
            "TERTULIA_LOCAL_MODEL": "false",
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until it serves; after the first time on the same port."""
        with self.log.open("ab") as log:
            begin = log.tell()
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tertulia", "serve", "--host", "127.0.0.1"),
                    *("--port", str(self._port), "--workers", str(self._workers)),
                ],
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # A group of its own, so that one signal reaches all of it and nothing else.
                start_new_session=True,
                # No `.env` of whoever runs the tests.
                cwd=self.log.parent,
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            said = self.log.read_bytes()[begin:].decode(errors="replace")
            if ready := _READY.search(said):
                self.url = ready.group(1)
                self._port = int(self.url.rpartition(":")[2])
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the replica did not start:\n{self.log.read_text()[-4000:]}")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the replica has not been started"
        return self._process

    def worker_pids(self) -> list[int]:
        """The processes that serve: the children if there are several, else the one."""
        if self._workers == 1:
            return [self.process.pid]
        children = psutil.Process(self.process.pid).children()
        return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal to every process of the replica."""
        os.killpg(self.process.pid, signum)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End every process of it at once, with no chance to say anything."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.wait()

    def stop(self, timeout_s: float = 30.0) -> int:
        """Ask it to stop, as a service manager does, and return its exit status."""
        self.process.terminate()
        return self.process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self if self._process else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port() -> int:
    """Return a port that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_a_setting(name: str) -> bool:
    return name.startswith(("TERTULIA_", "OPENAI_", "ANTHROPIC_")) or name in (
        "DATABASE_URL",
        "SECRET_KEY",
    )
