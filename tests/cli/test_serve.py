"""`tertulia serve`, from a terminal's point of view."""

import os
import signal
import socket

import pytest

from tests.cli.processes import is_alive, wait_until
from tests.cli.serving import PASSWORD, SECRET_KEY, Home, call, log_in, register, url_of


def test_one_command_serves_says_what_to_try_and_ctrl_c_stops_all_of_it(home: Home) -> None:
    with home.serve() as server:
        url = url_of(server)
        assert call(f"{url}/ready").status == 200
        assert register(url).status == 201
        postgres = home.postgres_pid()
        assert postgres is not None

        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert not is_alive(postgres)
        said = server.said()
        assert "Creating a PostgreSQL database" in said
        assert f"curl -X POST {url}/auth/register" in said
        assert f"{url}/docs" in said
        assert f"tertulia chat --url {url}" in said
        assert "Traceback" not in said
        assert PASSWORD not in said


def test_a_second_start_finds_accounts_tokens_and_key(used_home: Home) -> None:
    with used_home.serve() as server:
        url = url_of(server)
        register(url)
        token = log_in(url).body["access_token"]
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    key = used_home.data_dir / "secret_key"
    assert key.stat().st_mode & 0o777 == 0o600

    with used_home.serve() as server:
        url = url_of(server)
        assert log_in(url).status == 200
        assert call(f"{url}/auth/me", token=token).body["username"] == "alice"
        assert "/auth/register" not in server.said()


@pytest.mark.faults
def test_after_kill_9_the_next_start_finds_all_data(used_home: Home) -> None:
    with used_home.serve() as server:
        register(url_of(server))
        server.signal(signal.SIGKILL)
        server.wait()
    postgres = used_home.postgres_pid()
    assert postgres is not None

    # It joins the PostgreSQL that was left behind, and then that is killed, too.
    with used_home.serve() as server:
        assert log_in(url_of(server)).status == 200
        assert used_home.postgres_pid() == postgres
        server.signal(signal.SIGKILL)
        server.wait()
        os.kill(postgres, signal.SIGKILL)

    with used_home.serve() as server:
        assert log_in(url_of(server)).status == 200
        postgres = used_home.postgres_pid()
        assert postgres is not None
        server.signal(signal.SIGINT)
        assert server.wait() == 0
    assert not is_alive(postgres)


@pytest.mark.faults
def test_a_killed_postgresql_is_started_again_under_the_server(used_home: Home) -> None:
    with used_home.serve() as server:
        url = url_of(server)
        register(url)
        postgres = used_home.postgres_pid()
        assert postgres is not None
        os.kill(postgres, signal.SIGKILL)

        server.wait_for("PostgreSQL had been killed and runs again")
        wait_until(lambda: log_in(url).status == 200)


def test_two_servers_share_one_data_directory(used_home: Home) -> None:
    with used_home.serve() as first:
        register(url_of(first))
        with used_home.serve() as second:
            url = url_of(second)
            assert "Joining the PostgreSQL" in second.said()
            first.signal(signal.SIGINT)
            assert first.wait() == 0
            assert log_in(url).status == 200

            second.signal(signal.SIGINT)
            assert second.wait() == 0
    assert used_home.postgres_pid() is None


def test_a_taken_port_is_said_before_anything_is_started(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port: int = other.getsockname()[1]
        done = home.command("serve", "--port", str(port))
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken" in done.stderr
    assert not home.data_dir.exists()


@pytest.mark.parametrize(
    ("kind", "words"),
    [("home", "Creating a PostgreSQL"), ("used_home", "Starting"), ("used_home", "Loading")],
)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_while_it_starts_ends_it_as_that_signal_and_leaves_nothing_behind(
    request: pytest.FixtureRequest, kind: str, words: str, signum: signal.Signals
) -> None:
    home: Home = request.getfixturevalue(kind)
    with home.serve() as server:
        server.wait_for(words)
        server.signal(signum)
        # Told once more while it cleans up, it does so all the same.
        server.signal(signum)
        assert server.wait() == -signum
        assert "Stopped before it was ready" in server.said()
        assert "Traceback" not in server.said()
    assert home.postgres_pid() is None
    assert not list(home.data_dir.glob("postgres.new.*"))


def test_a_signal_while_workers_start_ends_it_as_that_signal(used_home: Home) -> None:
    with used_home.serve("--workers", "2") as server:
        server.wait_for("Loading models")
        wait_until(server.children)
        # As Ctrl-C in a terminal does, to the whole group.
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait() == -signal.SIGINT
        assert "Traceback" not in server.said()
    assert used_home.postgres_pid() is None


def test_a_signal_while_it_waits_for_its_database_ends_it_as_that_signal(home: Home) -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    home.settings = {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}
    with home.serve() as server:
        line = server.wait_for("Waiting for PostgreSQL")
        assert "up to 30 s more: nothing listens at 127.0.0.1:1" in line
        server.signal(signal.SIGTERM)
        assert server.wait(within_s=5) == -signal.SIGTERM


@pytest.mark.faults
def test_workers_are_replaced_and_all_ends_with_ctrl_c(used_home: Home) -> None:
    with used_home.serve("--workers", "2") as server:
        url = url_of(server)
        assert register(url).status == 201
        killed, other = server.children()
        os.kill(killed, signal.SIGKILL)
        server.wait_for(f"Worker {killed} died")
        new = wait_until(lambda: set(server.children()) - {killed, other})
        wait_until(lambda: log_in(url).status == 200)

        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert not [pid for pid in (other, *new) if is_alive(pid)]
        assert "Traceback" not in server.said()
    assert used_home.postgres_pid() is None


def test_with_a_database_url_it_uses_that_database(home: Home, dsn: str) -> None:
    home.settings = {
        "DATABASE_URL": dsn,
        "SECRET_KEY": SECRET_KEY,
        # The test run's PostgreSQL is fast and forgetful.
        "TERTULIA_ENVIRONMENT": "development",
    }
    with home.serve() as server:
        url = url_of(server)
        assert register(url).status == 201
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert not home.data_dir.exists()


def test_a_forgetful_database_is_refused_in_production_before_anything_is_changed(
    home: Home, dsn: str
) -> None:
    home.settings = {
        "DATABASE_URL": dsn,
        "SECRET_KEY": SECRET_KEY,
        "TERTULIA_ENVIRONMENT": "production",
    }
    done = home.command("serve", "--port", "0", "--workers", "2")
    assert done.returncode == 1
    assert done.stderr.count("fsync is off. Turn it on:") == 1
    assert "Migrating" not in done.stderr


def test_a_start_that_fails_is_told_in_words_and_leaves_nothing_behind(home: Home) -> None:
    home.settings = {"TERTULIA_DEFAULT_MODEL": "nobody:nothing"}
    done = home.command("serve", "--port", "0")
    assert done.returncode == 1
    assert "nobody:nothing" in done.stderr
    assert "Traceback" not in done.stderr
    assert home.postgres_pid() is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"DATABASE_URL": "postgresql://db/x"}, "SECRET_KEY is required"),
        ({"TERTULIA_POOL_SIZE": "many"}, "TERTULIA_POOL_SIZE"),
    ],
    ids=["no key", "no number"],
)
def test_wrong_settings_are_named_without_a_traceback(
    home: Home, settings: dict[str, str], words: str
) -> None:
    home.settings = settings
    done = home.command("serve", "--port", "0")
    assert done.returncode == 2
    assert words in done.stderr
    assert "many" not in done.stderr
    assert "Traceback" not in done.stderr
