"""The embedded PostgreSQL: real clusters, real processes, killed for real."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tertulia.storage.embedded import LOG_LIMIT_BYTES, EmbeddedPostgres, EmbeddedPostgresFailed

# A test's data need not survive the machine.
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}

HOLDER = """
import sys
from pathlib import Path
from tertulia.storage.embedded import EmbeddedPostgres
settings = {"fsync": "off", "shared_buffers": "16MB"}
with EmbeddedPostgres.start(Path(sys.argv[1]), lambda line: None, extra=settings) as postgres:
    print("joined" if postgres.joined else "started", flush=True)
    sys.stdin.read()
"""
"""Uses the data directory until its standard input is closed."""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tertulia-test-") as directory:
        data = Path(directory) / "data"
        yield data
        # Whatever a test left running would go on without its files.
        if pid := postmaster_pid(data):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid))


def start(data_dir: Path, lines: list[str] | None = None) -> EmbeddedPostgres:
    return EmbeddedPostgres.start(data_dir, print if lines is None else lines.append, extra=FAST)


def postmaster_pid(data_dir: Path) -> int | None:
    """Return the pid of the server that stands in the data directory now."""
    try:
        pid = int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        in_place = Path(psutil.Process(pid).cwd()) == (data_dir / "postgres").resolve()
    except (OSError, IndexError, ValueError, psutil.Error):
        return None
    return pid if in_place else None


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def hold(data_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def release(process: "subprocess.Popen[str]", signum: int | None = None) -> None:
    """End a holder: in peace, or by a signal."""
    if signum is not None:
        process.send_signal(signum)
    process.communicate(timeout=20)


async def remember(dsn: str, word: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS remembered (word text)")
    await connection.execute("INSERT INTO remembered VALUES ($1)", word)
    await connection.close()


async def remembered(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT word FROM remembered ORDER BY word")
    await connection.close()
    return [row["word"] for row in rows]


async def test_first_start_makes_a_utf8_database_without_tcp(data_dir: Path) -> None:
    with start(data_dir) as postgres:
        connection = await asyncpg.connect(postgres.dsn)
        assert await connection.fetchval("SELECT current_database()") == "tertulia"
        assert await connection.fetchval("SHOW server_encoding") == "UTF8"
        assert await connection.fetchval("SHOW listen_addresses") == ""
        assert await connection.fetchval("SELECT upper('ñandú')") == "ÑANDÚ"
        assert await connection.fetchval("SHOW max_connections") == "200"
        await connection.close()


async def test_second_start_finds_the_data(data_dir: Path) -> None:
    with start(data_dir) as postgres:
        await remember(postgres.dsn, "before")

    with start(data_dir) as postgres:
        assert await remembered(postgres.dsn) == ["before"]
        assert not postgres.joined


def test_stop_leaves_no_process_and_may_be_repeated(data_dir: Path) -> None:
    postgres = start(data_dir)
    pid = postmaster_pid(data_dir)
    assert pid is not None

    assert postgres.stop()
    assert not postgres.stop()

    assert not is_alive(pid)
    assert not (data_dir / "postgres" / "postmaster.pid").exists()


def test_every_step_is_reported(data_dir: Path) -> None:
    lines: list[str] = []
    start(data_dir, lines).stop()
    assert [line for line in lines if "Creating" in line]
    assert [line for line in lines if "Starting" in line]


def test_the_socket_is_for_its_owner_only(data_dir: Path) -> None:
    with start(data_dir) as postgres:
        match = re.search(r"host=([^&]+)", postgres.dsn)
        assert match
        assert Path(match[1]).stat().st_mode & 0o077 == 0


def test_the_server_is_in_a_session_that_ctrl_c_does_not_reach(data_dir: Path) -> None:
    with start(data_dir):
        pid = postmaster_pid(data_dir)
        assert pid is not None
        assert os.getsid(pid) != os.getsid(0)


def test_another_process_joins_and_the_last_one_stops_the_server(data_dir: Path) -> None:
    holder = hold(data_dir)
    assert first_line(holder) == "started"
    postgres = start(data_dir)
    assert postgres.joined
    pid = postmaster_pid(data_dir)

    release(holder)
    assert postmaster_pid(data_dir) == pid

    assert postgres.stop()
    assert postmaster_pid(data_dir) is None


def test_two_processes_that_start_at_once_share_one_server(data_dir: Path) -> None:
    holders = [hold(data_dir), hold(data_dir)]
    assert sorted(first_line(holder) for holder in holders) == ["joined", "started"]
    for holder in holders:
        release(holder)
    assert postmaster_pid(data_dir) is None


@pytest.mark.faults
async def test_a_killed_server_starts_again_with_its_data(data_dir: Path) -> None:
    postgres = start(data_dir)
    await remember(postgres.dsn, "before the kill")
    pid = postmaster_pid(data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    postgres.stop()

    with start(data_dir) as postgres:
        assert await remembered(postgres.dsn) == ["before the kill"]


@pytest.mark.faults
async def test_ensure_running_brings_a_killed_server_back_at_the_same_dsn(data_dir: Path) -> None:
    with start(data_dir) as postgres:
        await remember(postgres.dsn, "before the kill")
        assert not postgres.ensure_running()
        pid = postmaster_pid(data_dir)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))

        assert postgres.ensure_running()
        assert await remembered(postgres.dsn) == ["before the kill"]


@pytest.mark.faults
def test_a_recorded_pid_that_now_belongs_to_another_process_is_not_believed(data_dir: Path) -> None:
    start(data_dir).stop()
    cluster = data_dir / "postgres"
    lines = [os.getpid(), cluster, 1, 5432, data_dir / "postgres.run", "", "1 1", "ready   "]
    (cluster / "postmaster.pid").write_text("\n".join(map(str, lines)) + "\n")

    with start(data_dir) as postgres:
        assert not postgres.joined
        assert postmaster_pid(data_dir) not in {None, os.getpid()}


@pytest.mark.faults
def test_a_killed_user_leaves_a_server_that_the_next_one_joins_and_stops(data_dir: Path) -> None:
    holder = hold(data_dir)
    assert first_line(holder) == "started"
    release(holder, signal.SIGKILL)

    postgres = start(data_dir)
    assert postgres.joined
    assert postgres.stop()
    assert postmaster_pid(data_dir) is None


@pytest.mark.faults
def test_a_start_killed_while_it_made_the_cluster_does_no_harm(data_dir: Path) -> None:
    holder = hold(data_dir)
    wait_until(lambda: any(data_dir.glob("postgres.new.*/base")))
    release(holder, signal.SIGKILL)
    assert not (data_dir / "postgres").exists()

    with start(data_dir) as postgres:
        assert not postgres.joined
    assert (data_dir / "postgres" / "PG_VERSION").read_text().strip() == "18"


def test_half_made_clusters_are_removed(data_dir: Path) -> None:
    leftover = data_dir / "postgres.new.killed"
    (leftover / "base").mkdir(parents=True)
    (leftover / "PG_VERSION").write_text("18\n")

    start(data_dir).stop()
    assert not leftover.exists()


def test_a_directory_that_is_no_cluster_is_left_alone(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "letters.txt").write_text("dear")

    with pytest.raises(EmbeddedPostgresFailed, match="holds no PostgreSQL cluster"):
        start(data_dir)
    assert (data_dir / "postgres" / "letters.txt").read_text() == "dear"


def test_a_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    start(data_dir).stop()
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedPostgresFailed, match=r"made by PostgreSQL 17; installed is 18"):
        start(data_dir)


def test_a_server_that_refuses_its_settings_says_so(data_dir: Path) -> None:
    settings = FAST | {"max_connections": "many"}
    with pytest.raises(EmbeddedPostgresFailed, match="max_connections"):
        EmbeddedPostgres.start(data_dir, print, extra=settings)
    assert postmaster_pid(data_dir) is None


def test_a_data_directory_that_cannot_be_made_is_named(data_dir: Path) -> None:
    data_dir.write_text("a file")
    with pytest.raises(EmbeddedPostgresFailed, match="--data-dir"):
        start(data_dir / "below")


async def test_long_and_odd_paths_work(data_dir: Path) -> None:
    odd = data_dir / f'会 話, "it\'s" $HOME {"x" * 100}'
    for _ in range(2):
        with start(odd) as postgres:
            await remember(postgres.dsn, "reached")


def test_the_short_socket_directory_of_a_long_path_is_private_and_temporary(data_dir: Path) -> None:
    long = data_dir / ("x" * 100)
    with start(long):
        short = Path((long / "postgres.run").read_text())
        assert short.stat().st_mode & 0o077 == 0
    assert not short.exists()


def test_a_long_log_is_emptied(data_dir: Path) -> None:
    data_dir.mkdir()
    log = data_dir / "postgres.log"
    log.touch(mode=0o600)
    os.truncate(log, LOG_LIMIT_BYTES + 1)

    start(data_dir).stop()
    assert 0 < log.stat().st_size < LOG_LIMIT_BYTES


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test runs as a normal user then")
def test_a_cluster_of_a_normal_user_stays_theirs_when_root_starts_it(data_dir: Path) -> None:
    data_dir.mkdir()
    start(data_dir).stop()
    nobody = 65534
    for path in (data_dir / "postgres", *(data_dir / "postgres").rglob("*")):
        os.chown(path, nobody, nobody)

    with start(data_dir):
        pid = postmaster_pid(data_dir)
        assert pid is not None
        assert psutil.Process(pid).uids().real == nobody
