"""One server for all tests that talk to it as other people's clients do."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tertulia.runs import titles
from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.pair import calls_of
from tests.kit.person import Person
from tests.kit.provider_script import Json
from tests.kit.replica import Replica
from tests.kit.stage import fresh_database, model_env, scripted_provider


@dataclass(frozen=True)
class Server:
    """A server process, and what it stands on."""

    dsn: str
    provider_url: str
    url: str

    def calls(self, tag: str) -> list[Json]:
        """Return the requests in which somebody says `tag`, but for those for a title."""
        return [
            call
            for call in calls_of(self.provider_url)
            if tag in str(call["messages"])
            and call["messages"][0]["content"] != titles._INSTRUCTION  # pyright: ignore[reportPrivateUsage]
        ]


@pytest.fixture(scope="session")
def server(
    postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that nobody kills, and whose only model is scripted."""
    directory = tmp_path_factory.mktemp("server")
    with (
        fresh_database(postgres.dsn) as dsn,
        scripted_provider(directory / "calls") as provider_url,
        Replica(dsn, directory / "log", env=model_env(provider_url)) as replica,
    ):
        yield Server(dsn, provider_url, replica.url)


@pytest.fixture
async def ana(server: Server) -> AsyncIterator[Person]:
    async with Person([server.url]) as ana:
        yield ana


@pytest.fixture
async def bob(server: Server) -> AsyncIterator[Person]:
    async with Person([server.url]) as bob:
        yield bob
