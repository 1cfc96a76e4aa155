"""`tertulia chat`: a person at a terminal, a server, and a model that says what it is told."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tertulia.cli.chat_client import ApiRefused, ChatClient
from tertulia.cli.logins import KeptLogin
from tertulia.storage.embedded import EmbeddedPostgres
from tests.cli.processes import Process, run, wait_until
from tests.cli.serving import PASSWORD, SECRET_KEY, Home, call, log_in, register, url_of
from tests.kit.replica import Replica
from tests.kit.stage import fresh_database, model_env, scripted_provider


@pytest.fixture(scope="module")
def url(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that nobody kills, and whose only model is scripted; each test has its user."""
    directory = tmp_path_factory.mktemp("chat")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(directory / "calls") as provider,
        Replica(dsn, directory / "log", env=model_env(provider)) as replica,
    ):
        yield replica.url


@pytest.fixture
def model(tmp_path: Path) -> Iterator[str]:
    """A provider that does what its script says; yields its base URL."""
    output = tmp_path / "provider.out"
    with Process("tests.kit.scripted_provider", output=output) as provider:
        port = wait_until(lambda: provider.said().strip())
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture
def settings(dsn: str, model: str) -> dict[str, str]:
    return {
        "DATABASE_URL": dsn,
        "SECRET_KEY": SECRET_KEY,
        "TERTULIA_ENVIRONMENT": "development",
        "OPENAI_BASE_URL": model,
    }


def script(**what: object) -> str:
    """Return a message that tells the model how to answer it."""
    return f"script: {json.dumps(what)}"


def chat(home: Home, url: str, token: str, *lines: str) -> str:
    """Type lines into `tertulia chat` and return what it shows."""
    done = run(
        "tertulia",
        ("chat", "--url", url),
        env=home.env | {"TERTULIA_TOKEN": token},
        cwd=home.directory,
        stdin="\n".join(lines) + "\n",
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def enter(url: str, name: str = "alice") -> str:
    register(url, name)
    return log_in(url, name).body["access_token"]


def test_answers_stream_and_history_lists_and_opens(home: Home, url: str) -> None:
    token = enter(url, "ana")
    shown = chat(home, url, token, script(text="A quiet answer."), "/history", "/quit")
    assert shown.startswith("A quiet answer.\n")
    assert "you> script:" in shown
    assert "assistant> A quiet answer." in shown

    shown = chat(home, url, token, "/list", "/open 1", "/history", "/nonsense")
    assert "1  " in shown
    assert "assistant> A quiet answer." in shown
    assert "There is no /nonsense" in shown


def test_a_wrong_token_is_refused_in_words(home: Home, url: str) -> None:
    env = home.env | {"TERTULIA_TOKEN": "sk-nobody"}
    done = run("tertulia", ("chat", "--url", url), env=env, cwd=home.directory)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_said_at_once(home: Home) -> None:
    url = "http://127.0.0.1:1"
    done = run("tertulia", ("chat", "--url", url), env=home.env, cwd=home.directory)
    assert done.returncode == 1
    assert f"{url} does not answer: nothing listens there. Start a server with" in done.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://", "http://[::1", "http://a:b"])
def test_what_is_no_url_is_refused(home: Home, url: str) -> None:
    done = run("tertulia", ("chat", "--url", url), env=home.env, cwd=home.directory)
    assert done.returncode == 2
    assert "--url must look like" in done.stderr


def test_a_login_is_kept_renewed_shared_and_ended(home: Home, url: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    home.settings = {"XDG_CONFIG_HOME": str(config)}
    client = ChatClient(url, kept=KeptLogin(config / "tertulia", url))
    with pytest.raises(ApiRefused, match=r"^Email: Must be an e-mail address\. Username: It"):
        client.register("bea", "b", PASSWORD)
    client.register("bea@example.com", "bea", PASSWORD)

    # The next starts need no password, and do not end the login for those that run.
    for _ in range(2):
        done = run("tertulia", ("chat", "--url", url), env=home.env, cwd=home.directory)
        assert "Hello bea" in done.stderr
    client.renew()
    token = client.token
    assert client.call("GET", "/auth/me")["username"] == "bea"

    done = run("tertulia", ("chat", "--url", url, "--logout"), env=home.env, cwd=home.directory)
    assert f"Logged out of {url}" in done.stderr
    assert call(f"{url}/auth/me", token=token).status == 401
    done = run("tertulia", ("chat", "--url", url), env=home.env, cwd=home.directory)
    assert done.returncode == 2
    assert "TERTULIA_TOKEN" in done.stderr


def test_a_login_that_was_ended_elsewhere_is_forgotten(url: str, tmp_path: Path) -> None:
    kept = KeptLogin(tmp_path, url)
    client = ChatClient(url, kept=kept)
    client.register("cleo@example.com", "cleo", PASSWORD)
    call(f"{url}/auth/logout", "POST", token=client.token)
    with pytest.raises(ApiRefused):
        client.call("GET", "/auth/me")
    assert kept.find() is None


def test_a_logout_that_the_server_cannot_be_told_is_said(home: Home, tmp_path: Path) -> None:
    home.settings = {"XDG_CONFIG_HOME": str(tmp_path)}
    url = "http://127.0.0.1:1"
    kept = KeptLogin(tmp_path / "tertulia", url)
    with kept.alone():
        kept.keep("a refresh token")
    done = run("tertulia", ("chat", "--url", url, "--logout"), env=home.env, cwd=home.directory)
    assert done.returncode == 1
    assert "could not be told" in done.stderr
    assert kept.find() is None


def talk(home: Home, url: str, token: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tertulia", "chat", "--url", url],
        env=home.env | {"TERTULIA_TOKEN": token},
        cwd=home.directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(person: "subprocess.Popen[str]", words: str) -> str:
    """Read what is shown, letter by letter, until it ends with `words`."""
    assert person.stdout
    shown = ""
    while not shown.endswith(words):
        letter = person.stdout.read(1)
        assert letter, shown
        shown += letter
    return shown


def say(person: "subprocess.Popen[str]", line: str) -> None:
    assert person.stdin
    person.stdin.write(f"{line}\n")
    person.stdin.flush()


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(home: Home, url: str) -> None:
    token = enter(url, "dora")
    with talk(home, url, token) as person:
        say(person, script(text="word " * 2000, pace_ms=20))
        read_until(person, "word word ")
        person.send_signal(signal.SIGINT)
        read_until(person, "Stopped.")
        say(person, "/quit")
        person.communicate(timeout=10)
        assert person.returncode == 0

    conversation = call(f"{url}/conversations", token=token).body[0]["id"]
    runs = call(f"{url}/conversations/{conversation}/runs", token=token).body
    assert [each["status"] for each in runs] == ["cancelled"]
    messages = call(f"{url}/conversations/{conversation}/messages", token=token).body
    assert messages[-1]["content"].startswith("word word")


@pytest.mark.faults
def test_an_answer_goes_on_when_the_server_is_killed_and_another_takes_over(
    home: Home, settings: dict[str, str]
) -> None:
    home.settings = settings
    answer = " ".join(f"word{number}" for number in range(40))
    with home.serve() as first:
        url = url_of(first)
        token = enter(url)
        with talk(home, url, token) as person:
            # The first time it says so much, and then nothing.
            say(person, script(text=answer, stall_after=12, fail_times=1))
            read_until(person, "word9 ")
            first.signal(signal.SIGKILL)
            first.wait()
            with home.serve("--port", url.rpartition(":")[2]):
                shown = read_until(person, "word39")
                # The model cannot continue a text, and the server says that it starts again.
                assert "The answer starts again." in shown
                say(person, "/quit")
                person.communicate(timeout=20)
                assert person.returncode == 0
