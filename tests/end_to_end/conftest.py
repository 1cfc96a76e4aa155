"""Two replicas for all tests that kill nobody."""

from collections.abc import Iterator

import pytest

from tertulia.storage.embedded import EmbeddedPostgres
from tests.kit.pair import Pair, pair_of_replicas


@pytest.fixture(scope="session")
def pair(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two replicas that nobody kills; tests that use them stand in the xdist group `pair`."""
    with pair_of_replicas(postgres.dsn, tmp_path_factory.mktemp("pair")) as pair:
        yield pair
