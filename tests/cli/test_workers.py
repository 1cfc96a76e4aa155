"""Several worker processes: killed, orphaned, stopped."""

import http.client
import os
import signal
from pathlib import Path

import pytest

from tests.cli.processes import Process, is_alive, wait_until

SMALL = "tests.cli.small_server"


def ask(url: str) -> int | None:
    """Return the pid of the process that answered, if one did."""
    client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        client.request("GET", "/pid")
        return int(client.getresponse().read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        client.close()


def test_all_workers_serve_one_port_and_end_with_sigterm(tmp_path: Path) -> None:
    with Process(SMALL, "2", output=tmp_path / "out") as server:
        url = server.wait_for("ready").split()[1]
        workers = server.children()
        assert len(workers) == 2
        assert ask(url) in workers

        server.signal(signal.SIGTERM)
        assert server.wait(within_s=10) == 0
        assert not [pid for pid in workers if is_alive(pid)]
        assert "done True" in server.said()


@pytest.mark.faults
def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with Process(SMALL, "2", output=tmp_path / "out") as server:
        url = server.wait_for("ready").split()[1]
        killed, other = server.children()
        os.kill(killed, signal.SIGKILL)

        server.wait_for(f"Worker {killed} died")
        new = wait_until(lambda: set(server.children()) - {killed, other})
        assert len(new) == 1
        os.kill(other, signal.SIGKILL)
        assert wait_until(lambda: ask(url)) not in {killed, other}


@pytest.mark.faults
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    with Process(SMALL, "2", output=tmp_path / "out") as server:
        server.wait_for("ready")
        workers = server.children()
        server.signal(signal.SIGKILL)
        server.wait()
        wait_until(lambda: not [pid for pid in workers if is_alive(pid)], within_s=5)


def test_workers_that_cannot_start_end_the_parent(tmp_path: Path) -> None:
    with Process(SMALL, "2", "fail", output=tmp_path / "out") as server:
        server.wait_for("done False")
        assert server.wait() == 0


def test_a_second_signal_kills_the_workers(tmp_path: Path) -> None:
    with Process(SMALL, "2", output=tmp_path / "out") as server:
        url = server.wait_for("ready").split()[1]
        client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        client.request("GET", "/wait")
        client.getresponse().readline()
        workers = server.children()

        server.signal(signal.SIGTERM)
        server.wait_for("drained")
        server.signal(signal.SIGTERM)
        server.wait(within_s=4)
        assert not [pid for pid in workers if is_alive(pid)]
        client.close()
