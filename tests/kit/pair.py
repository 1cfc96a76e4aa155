"""Two replicas on one database and a scripted provider, each a process of its own."""

import json
import urllib.request
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .history import install_audit
from .replica import Replica
from .stage import fresh_database, model_env, run, scripted_provider


@dataclass(frozen=True)
class Pair:
    """Two replicas, and what they stand on."""

    dsn: str
    provider_url: str
    one: Replica
    two: Replica

    @property
    def urls(self) -> list[str]:
        return [self.one.url, self.two.url]

    def calls(self, content: str) -> list[dict[str, Any]]:
        """Return the provider's calls whose last user message is `content`, titles left out."""
        return [call for call in calls_of(self.provider_url) if asked(call) == content]


@contextmanager
def pair_of_replicas(server_dsn: str, directory: Path, **settings: str) -> Generator[Pair]:
    """Start a provider and two replicas on a fresh database that notes how runs change."""
    with (
        fresh_database(server_dsn) as dsn,
        scripted_provider(directory / "calls") as provider_url,
    ):
        run(install_audit(dsn))
        env = model_env(provider_url, **settings)
        one = Replica(dsn, directory / "one.log", env=env)
        two = Replica(dsn, directory / "two.log", env=env)
        with start_all(one, two):
            yield Pair(dsn, provider_url, one, two)


@contextmanager
def start_all(*replicas: Replica) -> Generator[None]:
    """Start replicas at the same time, which takes no longer than one; end them with the block."""
    with ExitStack() as stack:
        for replica in replicas:
            stack.callback(replica.kill)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Replica.start, replicas))
        yield


def calls_of(provider_url: str) -> Sequence[dict[str, Any]]:
    """Return every call for an answer that the provider has had."""
    url = provider_url.removesuffix("/v1") + "/calls"
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  our own process
        return json.load(answer)


def asked(call: dict[str, Any]) -> str:
    """Return the user's message that a call answers; nothing if it is about a title."""
    messages = call["messages"]
    if messages and messages[0]["role"] == "system":
        return ""
    return next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")


def script(tag: str, **fields: Any) -> str:  # noqa: ANN401  whatever a script may say
    """Return a message that has the provider act so; the tag makes it one of its kind."""
    return f"{tag} script:{json.dumps(fields)}"
