"""The `tertulia` command in a directory of its own, as a person would run it."""

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.cli.processes import Process, run

PASSWORD = "correct horse battery"
SECRET_KEY = "5f0d1c7e9b3a48628d4e7f1a2b3c4d5e6f708192a3b4c5d6"


@dataclass
class Home:
    """A place to run commands in: its data directory and its environment."""

    directory: Path
    settings: dict[str, str] = field(default_factory=dict[str, str])
    _count: int = 0

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def env(self) -> dict[str, str]:
        plain = {
            name: value
            for name, value in os.environ.items()
            if not re.match(r"TERTULIA_|DATABASE_URL|SECRET_KEY|OPENAI_|.*_API_KEY", name)
        }
        # No model is loaded: these tests ask none, or a scripted one.
        without_model = {
            "TERTULIA_LOCAL_MODEL": "false",
            "TERTULIA_DEFAULT_MODEL": "openai:scripted",
            "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        }
        return plain | without_model | self.settings

    def command(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, in the data directory."""
        arguments = (*arguments, "--data-dir", str(self.data_dir))
        return run("tertulia", arguments, env=self.env, cwd=self.directory, stdin=stdin)

    def serve(self, *arguments: str) -> Process:
        """Start a server on a free port."""
        self._count += 1
        return Process(
            "tertulia",
            *("serve", "--port", "0", "--data-dir", str(self.data_dir), *arguments),
            env=self.env,
            cwd=self.directory,
            output=self.directory / f"serve-{self._count}.out",
        )

    def postgres_pid(self) -> int | None:
        """Return the pid of the embedded PostgreSQL, if it runs."""
        try:
            pid = int((self.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
            in_place = psutil.Process(pid).cwd() == str((self.data_dir / "postgres").resolve())
        except (OSError, IndexError, ValueError, psutil.Error):
            return None
        return pid if in_place else None


def url_of(server: Process) -> str:
    """Wait until the server is ready and return where it says it is."""
    return server.wait_for("Tertulia is ready at").split()[-1]


@dataclass
class Answer:
    """What a server said."""

    status: int
    body: Any


def call(url: str, method: str = "GET", body: object = None, *, token: str | None = None) -> Answer:
    """Ask a server once."""
    request = urllib.request.Request(  # noqa: S310  http only
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  the same
            return Answer(answer.status, json.loads(answer.read() or b"null"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, json.loads(error.read() or b"null"))


def register(url: str, name: str = "alice") -> Answer:
    account = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
    return call(f"{url}/auth/register", "POST", account)


def log_in(url: str, name: str = "alice") -> Answer:
    return call(f"{url}/auth/login", "POST", {"email": f"{name}@example.com", "password": PASSWORD})
