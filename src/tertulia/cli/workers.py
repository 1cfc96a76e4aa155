"""Several processes that serve one port, and the parent that keeps them alive."""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TypeAlias

from tertulia.cli.listening import close
from tertulia.cli.progress import Report
from tertulia.cli.signals import StoppedBySignal

Task: TypeAlias = Callable[[Sequence[socket.socket], Callable[[], None]], bool]
"""Serves on the sockets until told to stop, calls back once it is ready; False if it never was.

It is sent to new processes, so it must be picklable."""

LOOK_S = 0.2
"""How often the parent looks after its workers; one that died is replaced this fast."""
RETRY_S = 1.0
"""The pause before a worker is started again that died before it was ready."""
_SPAWN = multiprocessing.get_context("spawn")


def supervise(
    task: Task,
    sockets: Sequence[socket.socket],
    count: int,
    *,
    end_s: float,
    ready: Callable[[], None],
    report: Report,
) -> bool:
    """Run `task` in `count` processes until SIGINT or SIGTERM; replace those that die.

    A second signal kills them at once. They end by themselves when this process dies, however it
    does.

    Args:
        task: What each worker does.
        sockets: Bound; closed here as soon as the workers are told to stop.
        count: At least 1.
        end_s: How long they may take to end; then they are killed.
        ready: Called once, when all workers are ready for the first time.
        report: Gets a line for each worker that is replaced.

    Returns:
        Whether the workers served: False if one of the first could not start.

    Raises:
        StoppedBySignal: A signal came before all of them served.
    """
    signals: list[int] = []
    before = {
        signum: signal.signal(signum, lambda received, _frame: signals.append(received))
        for signum in (signal.SIGINT, signal.SIGTERM)
    }
    workers = [_Worker(task, sockets) for _ in range(count)]
    try:
        return _look_after(workers, signals, ready, report)
    finally:
        # Held open here, the port would take connections that nobody answers.
        close(sockets)
        _end(workers, signals, end_s)
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _look_after(
    workers: "list[_Worker]", signals: list[int], ready: Callable[[], None], report: Report
) -> bool:
    said_ready = False
    # Something to wait for also while every worker waits for its next start.
    nothing, _held = _SPAWN.Pipe()
    while not signals:
        # A signal does not end the wait; it is seen after it.
        sentinels = [worker.sentinel for worker in workers if worker.sentinel is not None]
        wait([*sentinels, nothing], timeout=LOOK_S)
        for worker in workers:
            if worker.is_alive() or signals:
                continue
            if not said_ready:
                return False
            report(f"Worker {worker.process.pid} died; starting another")
            worker.start_again()
        if not said_ready and all(worker.is_ready() for worker in workers):
            said_ready = True
            ready()
    if not said_ready:
        raise StoppedBySignal(signals[0])
    return True


def _end(workers: "list[_Worker]", signals: list[int], end_s: float) -> None:
    for worker in workers:
        worker.process.terminate()
    seen = len(signals)
    deadline = time.monotonic() + end_s
    while any(worker.process.is_alive() for worker in workers):
        if len(signals) > seen or time.monotonic() > deadline:
            for worker in workers:
                worker.process.kill()
        time.sleep(0.02)
    for worker in workers:
        worker.process.join()


@dataclass(slots=True)
class _Worker:
    """One process of several, and the next one in its place."""

    task: Task
    sockets: Sequence[socket.socket]
    process: SpawnProcess = field(init=False)
    _line: Connection = field(init=False)
    _is_ready: bool = field(init=False, default=False)
    _not_before: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._start()

    @property
    def sentinel(self) -> int | None:
        """Becomes readable when the process ends; None while there is none."""
        return None if self._not_before else self.process.sentinel

    def is_alive(self) -> bool:
        """Whether it lives, or waits for its next start."""
        if self._not_before:
            if time.monotonic() < self._not_before:
                return True
            self._start()
        return self.process.is_alive()

    def is_ready(self) -> bool:
        """Whether it has said that it serves."""
        if not self._is_ready and self._line.poll():
            try:
                self._is_ready = bool(self._line.recv())
            except (EOFError, OSError):
                return False
        return self._is_ready

    def start_again(self) -> None:
        """Put another process in its place; after a pause if the last one never got ready."""
        was_ready = self.is_ready()
        self._line.close()
        self.process.join()
        if was_ready:
            self._start()
        else:
            self._not_before = time.monotonic() + RETRY_S

    def _start(self) -> None:
        self._not_before = 0.0
        self._is_ready = False
        self._line, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(
            target=_work, args=(self.task, list(self.sockets), theirs), name="tertulia-worker"
        )
        with _without_ctrl_c():
            self.process.start()
        theirs.close()


@contextmanager
def _without_ctrl_c() -> Generator[None]:
    """Keep SIGINT from processes that are started meanwhile.

    Ctrl-C in a terminal reaches them too, and their parent stops them anyway; while they still load
    modules, it would end in a traceback.
    """
    # What it starts is started here, for it lets SIGINT through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(task: Task, sockets: list[socket.socket], line: Connection) -> None:
    """What a worker process does."""
    threading.Thread(target=_end_with_parent, args=(line,), daemon=True).start()
    if not task(sockets, lambda: line.send(True)):
        os._exit(1)


def _end_with_parent(line: Connection) -> None:
    """Wait for the parent's end of the line to close, which the kernel does when it dies."""
    try:
        line.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
