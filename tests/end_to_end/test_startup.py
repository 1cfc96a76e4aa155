"""Promise G-38: starting is safe, whoever starts, how often at once, and on whatever is there."""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from tertulia.storage.embedded import EmbeddedPostgres
from tests.cli.processes import Process, is_alive, wait_until
from tests.cli.serving import Home, call, log_in, register, url_of
from tests.kit.chance import say
from tests.kit.pair import start_all
from tests.kit.replica import SECRET_KEY, Replica, free_port
from tests.kit.size import sized
from tests.kit.stage import (
    fetch_number,
    fresh_database,
    model_env,
    run,
    socket_of,
    through,
)
from tests.kit.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("startup")]

NO_PROVIDER = "http://127.0.0.1:1/v1"
WAITS_S = 3.0
SERVERS, ROUNDS = sized(3, full=4), sized(1, full=10)
MADE = (
    *("jobs", "run_events", "users", "api_keys", "conversations", "idempotency_keys", "sessions"),
    *("branches", "messages", "runs"),
)
KILLED_AT = MADE[-sized(1, full=len(MADE)) :]
"""Tables that the migration is about to make when its process is killed."""
DEATHS = sized(1, full=5)
READY_S = sized(30.0, full=120.0)
"""A start takes three processes some seconds of CPU each; it is not what is judged."""
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


@pytest.fixture
def empty_dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without a schema."""
    with fresh_database(postgres.dsn, migrated=False) as dsn:
        yield dsn


@pytest.fixture
def home() -> Iterator[Home]:
    """A place to run commands in; a PostgreSQL that was left there is killed at the end."""
    # Not below pytest's own directory, which every start of pytest closes to other users.
    with tempfile.TemporaryDirectory(prefix="tertulia-home-") as directory:
        home = Home(Path(directory).resolve())
        yield home
        if pid := home.postgres_pid():
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid))


def at(home: Home, dsn: str, **more: str) -> Home:
    """Return the home with settings that name a database."""
    home.settings = {"DATABASE_URL": dsn, "SECRET_KEY": SECRET_KEY, **more}
    return home


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_servers_that_start_at_once_migrate_an_empty_database_once(
    empty_dsn: str, tmp_path: Path, _round: int
) -> None:
    replicas = [
        Replica(empty_dsn, tmp_path / f"{number}.log", env=model_env(NO_PROVIDER))
        for number in range(SERVERS)
    ]
    began = time.monotonic()
    with start_all(*replicas):
        serve_s = time.monotonic() - began
        say(f"G-38: {SERVERS} started at once on an empty database serve after {serve_s:.1f} s")
        for number, replica in enumerate(replicas):
            assert register(replica.url, f"person{number}").status == 201
    assert run(fetch_number(empty_dsn, "SELECT count(*) FROM alembic_version")) == 1
    assert run(fetch_number(empty_dsn, "SELECT count(*) FROM users")) == SERVERS
    for replica in replicas:
        assert "Traceback" not in replica.log.read_text()


async def holding_up(dsn: str, server: Process) -> "asyncpg.Connection[asyncpg.Record]":
    """Stand in the way of the migration until the server waits in its middle."""
    holder: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(dsn)
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(30):
        while not await holder.fetchval(waiting):
            assert is_alive(server.pid), server.said()
            await asyncio.sleep(0.02)
    return holder


@pytest.mark.parametrize("table", KILLED_AT)
async def test_a_server_killed_while_it_migrates_leaves_the_next_one_to_do_it(
    empty_dsn: str, home: Home, tmp_path: Path, table: str
) -> None:
    port = free_port()
    blocker: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(empty_dsn)
    block = blocker.transaction()
    await block.start()
    # The migration makes other tables first, and waits for this name.
    await blocker.execute(f"CREATE TABLE {table} (id int)")
    with at(home, empty_dsn).serve("--port", str(port)) as server:
        watcher = await holding_up(empty_dsn, server)
        await asyncio.to_thread(assert_gives_no_answer, port)
        server.signal(signal.SIGKILL)
        await asyncio.to_thread(server.wait)
        await watcher.close()
    await block.rollback()
    await blocker.close()
    assert await fetch_number(empty_dsn, TABLES) == 0

    with Replica(empty_dsn, tmp_path / "next.log", env=model_env(NO_PROVIDER)) as replica:
        answer = await asyncio.to_thread(register, replica.url)
        assert answer.status == 201
    assert await fetch_number(empty_dsn, TABLES) > 5


def assert_gives_no_answer(port: int) -> None:
    """Whoever asks a server that is not ready is refused or waits."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(0.5)
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")
            with pytest.raises(TimeoutError):
                connection.recv(1)
    except ConnectionRefusedError:
        return


def test_a_server_waits_for_its_database(postgres: EmbeddedPostgres, dsn: str, home: Home) -> None:
    with TcpProxy(socket_of(postgres.dsn)) as proxy:
        proxy.refuse()
        with at(home, through(proxy.address, dsn)).serve() as server:
            server.wait_for("Waiting for PostgreSQL")
            proxy.resume()
            assert call(f"{url_of(server)}/ready").status == 200


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, float]]:
    """A server without a database, and when it started: it waits while other tests run."""
    home = Home(tmp_path_factory.mktemp("lonely"))
    dsn = f"postgresql://tertulia:hunter2@127.0.0.1:{free_port()}/nowhere"
    begin = time.monotonic()
    with at(home, dsn, TERTULIA_DATABASE_WAIT_S=str(WAITS_S)).serve() as server:
        yield server, begin


def test_a_server_without_a_database_gives_up_and_says_why(lonely: tuple[Process, float]) -> None:
    server, begin = lonely
    assert server.wait(within_s=WAITS_S + 20) == 1
    assert time.monotonic() - begin > WAITS_S
    said = server.said()
    assert "PostgreSQL did not answer for" in said
    assert "DATABASE_URL" in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_a_user_that_postgresql_does_not_know_is_named_at_once(
    postgres: EmbeddedPostgres, home: Home
) -> None:
    home = at(home, postgres.dsn.replace("//tertulia@", "//stranger@"))
    done = home.command("serve", "--port", "0")
    assert done.returncode == 1
    assert "stranger" in done.stderr
    assert "Waiting" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"DATABASE_URL": "postgresql://db/x"}, "SECRET_KEY is required"),
        ({"DATABASE_URL": "postgresql://db/x", "SECRET_KEY": "k" * 31}, "SECRET_KEY is too short"),
        ({"DATABASE_URL": "postgresql://db/x", "SECRET_KEY": "ab" * 20}, "SECRET_KEY repeats"),
        ({"SECRET_KEY": "your-secret-key-here-and-some-more-of-it"}, "SECRET_KEY stands in"),
        ({"TERTULIA_POOL_SIZE": "0", "TERTULIA_LOG_LEVEL": "loud"}, "TERTULIA_LOG_LEVEL"),
        ({"TERTULIA_ENVIRONMENT": "prod"}, "TERTULIA_ENVIRONMENT"),
    ],
    ids=["no key", "a short key", "a simple key", "a famous key", "two at once", "no such place"],
)
def test_wrong_settings_are_named(home: Home, settings: dict[str, str], named: str) -> None:
    home.settings = settings
    done = home.command("serve", "--port", "0")
    assert done.returncode == 2
    assert named in done.stderr
    assert settings.get("SECRET_KEY", "no key") not in done.stderr
    assert "Traceback" not in done.stderr
    assert not home.data_dir.exists()


def test_unsafe_durability_is_refused_in_production(dsn: str, home: Home) -> None:
    home = at(home, dsn, TERTULIA_ENVIRONMENT="production")
    done = home.command("serve", "--port", "0")
    assert done.returncode == 1
    assert "fsync" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def belonging_to(home: Home) -> list[int]:
    """Return every process that stands in the home or was started with it."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            stands = process.cwd()
        except psutil.Error:
            continue
        if str(home.directory) in words or stands.startswith(str(home.directory)):
            found.append(process.pid)
    return found


def url_when_ready(server: Process) -> str:
    return server.wait_for("Tertulia is ready at", within_s=READY_S).split()[-1]


def test_killed_with_everything_it_finds_all_its_data_and_leaves_no_process(home: Home) -> None:
    names: list[str] = []
    for number in range(DEATHS):
        with home.serve() as first, home.serve() as second:
            for server, name in ((first, f"alice{number}"), (second, f"bob{number}")):
                assert register(url_when_ready(server), name).status == 201
                names.append(name)
            killed = belonging_to(home)
            assert len(killed) > 3
            for pid in killed:
                # Some end with those before them.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda killed=killed: not any(is_alive(pid) for pid in killed))

    with home.serve("--workers", "2") as server:
        url = url_when_ready(server)
        assert {log_in(url, name).status for name in names} == {200}
        # As Ctrl-C in a terminal does, to the whole group.
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == 0
        assert "Traceback" not in server.said()
    wait_until(lambda: not [pid for pid in belonging_to(home) if is_alive(pid)])
    say(f"G-38: everything killed {DEATHS} times, all {len(names)} accounts are there")
