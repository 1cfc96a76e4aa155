"""Commands as real processes, and what they say."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import psutil

Found = TypeVar("Found")

ROOT = Path(__file__).parents[2]


class Process:
    """A Python module that runs in a session of its own; killed, with its children, at the end."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        output: Path,
    ) -> None:
        self.output = output
        with output.open("wb") as file:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, words: str, *, within_s: float = 30.0) -> str:
        """Return the first line that holds `words`."""

        def found() -> str | None:
            lines = self.said().splitlines()
            line = next((line for line in lines if words in line), None)
            assert line or self._popen.poll() is None, self.said()
            return line

        return wait_until(found, within_s=within_s)

    def children(self) -> list[int]:
        """Return the pids of the workers."""
        return [
            child.pid
            for child in psutil.Process(self.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]

    def signal(self, signum: signal.Signals) -> None:
        self._popen.send_signal(signum)

    def wait(self, *, within_s: float = 30.0) -> int:
        return self._popen.wait(within_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            below = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            below = []
        for process in below:
            process.kill()
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()


def run(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    stdin: str = "",
    within_s: float = 60.0,
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=env,
        timeout=within_s,
        check=False,
    )


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], Found | None], *, within_s: float = 30.0) -> Found:
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + within_s
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
