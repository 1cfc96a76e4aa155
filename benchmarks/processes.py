"""Processes that are started here: their start, their words, their end, and what they cost."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

PROJECT = Path(__file__).parents[1]
START_S = 60.0
_END_S = 20.0
_READY = re.compile(r"ready at http://[^:]+:(\d+)")


class Started:
    """A process in a session of its own: Ctrl-C reaches only who started it, who then ends it.

    Args:
        module: Of Python.
        arguments: What it is told.
        log: Where its standard error goes.
        env: All of its environment; None: ours.
        cwd: Where it stands; None: where this project is.
        python: Of which environment; None: ours.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        python: Path | None = None,
    ) -> None:
        self._log = log
        self._heard = b""
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python or sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                cwd=cwd or PROJECT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number; its children have others."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None, "a pipe"
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def line(self, within_s: float = START_S) -> str:
        """Return the next line that it writes.

        Raises:
            RuntimeError: None came in time, or it has ended; with the end of its log.
        """
        assert self._process.stdout is not None, "a pipe"
        deadline = time.monotonic() + within_s
        while b"\n" not in self._heard:
            left_s = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self._process.stdout], [], [], left_s)
            piece = os.read(self._process.stdout.fileno(), 65_536) if readable else b""
            if not piece:
                said = self._log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self._process.args!r} said nothing more:\n{said}")
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode(errors="replace")

    def port(self, within_s: float = START_S) -> int:
        """Wait until it says that it serves, for so long after each other line; return where."""
        while not (ready := _READY.search(self.line(within_s))):
            pass
        return int(ready[1])

    def wait(self, within_s: float) -> int:
        """Wait for its end and return its status.

        Raises:
            subprocess.TimeoutExpired: It goes on.
        """
        return self._process.wait(within_s)

    def stop(self) -> None:
        """End it and everything it started: as a service manager does, then without asking."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of CPU that were used in a time."""

    seconds: float
    app_s: float
    postgres_s: float
    foreign_cores: float
    """What everybody else used of the machine, on average."""


class Meter:
    """Reads what processes and their children cost. Make it when all of them are there.

    Args:
        app: The server that is measured.
        postgres: The database's first process.
    """

    def __init__(self, *, app: Sequence[int], postgres: int) -> None:
        self._app, self._postgres = _trees(app), _trees([postgres])
        # All that is started here; the rest of the machine is foreign.
        self._ours = list({*self._app, *self._postgres, *_trees([os.getpid()])})
        self._began = self._read()

    def begin(self) -> None:
        """Begin anew."""
        self._began = self._read()

    def so_far(self) -> Cost:
        """Return what has been used since the processes began."""
        now, app_s, postgres_s, *_ = self._read()
        return Cost(now, app_s, postgres_s, 0.0)

    def end(self) -> Cost:
        """Return what was used since then; takes less than a millisecond."""
        seconds, app_s, postgres_s, ours_s, machine_s = (
            now - then for now, then in zip(self._read(), self._began, strict=True)
        )
        return Cost(seconds, app_s, postgres_s, max(0.0, (machine_s - ours_s) / seconds))

    def _read(self) -> tuple[float, ...]:
        return (
            time.monotonic(),
            _cpu_s(self._app),
            _cpu_s(self._postgres),
            _cpu_s(self._ours),
            _machine_s(),
        )


def memory_bytes(pid: int) -> int:
    """Return what a process and its children hold: a shared page counts in parts (PSS).

    Where there is no such figure (macOS), what would be free without the process (USS).
    """
    total = 0
    for process in _trees([pid]):
        with suppress(psutil.NoSuchProcess):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.uss)
    return total


def _trees(pids: Sequence[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in pids:
        root = psutil.Process(pid)
        found += [root, *root.children(recursive=True)]
    return found


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Return what they have used, with those of their children that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def _machine_s() -> float:
    """Return what all processors have done, and what the machine below took from them."""
    times = psutil.cpu_times()
    idle: float = times.idle + getattr(times, "iowait", 0.0)
    # A guest's time is in `user` already.
    counted = (value for name, value in times._asdict().items() if not name.startswith("guest"))
    return sum(counted) - idle
