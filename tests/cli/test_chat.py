"""`tertulia chat`: a person at a terminal, a server, and a model that says what it is told."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import Process, run, wait_until
from tests.cli.serving import SECRET_KEY, Home, call, log_in, register, url_of


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


def enter(url: str) -> str:
    register(url)
    return log_in(url).body["access_token"]


def test_answers_stream_and_history_lists_and_opens(home: Home, settings: dict[str, str]) -> None:
    home.settings = settings
    with home.serve() as server:
        url = url_of(server)
        token = enter(url)
        shown = chat(home, url, token, script(text="A quiet answer."), "/history", "/quit")
        assert shown.startswith("A quiet answer.\n")
        assert "you> script:" in shown
        assert "assistant> A quiet answer." in shown

        shown = chat(home, url, token, "/list", "/open 1", "/history", "/nonsense")
        assert "1  " in shown
        assert "assistant> A quiet answer." in shown
        assert "There is no /nonsense" in shown


def test_a_wrong_token_is_refused_in_words(home: Home, settings: dict[str, str]) -> None:
    home.settings = settings
    with home.serve() as server:
        env = home.env | {"TERTULIA_TOKEN": "sk-nobody"}
        done = run("tertulia", ("chat", "--url", url_of(server)), env=env, cwd=home.directory)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


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


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(
    home: Home, settings: dict[str, str]
) -> None:
    home.settings = settings
    with home.serve() as server:
        url = url_of(server)
        token = enter(url)
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
    answer = " ".join(f"word{number}" for number in range(100))
    with home.serve() as first:
        url = url_of(first)
        token = enter(url)
        with talk(home, url, token) as person:
            say(person, script(text=answer, pace_ms=50))
            read_until(person, "word9 ")
            first.signal(signal.SIGKILL)
            first.wait()
            with home.serve("--port", url.rpartition(":")[2]):
                shown = read_until(person, "word99")
                # The model cannot continue a text, and the server says that it starts again.
                assert "The answer starts again." in shown
                say(person, "/quit")
                person.communicate(timeout=20)
                assert person.returncode == 0
