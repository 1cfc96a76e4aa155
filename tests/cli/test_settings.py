"""Settings for a command."""

import pytest

from tertulia.cli.errors import CommandFailed
from tertulia.cli.settings import plain_url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@host/db",
        "postgres://u:p@host/db",
        "postgresql+asyncpg://u:p@host/db",
        "postgresql+psycopg://u:p@host/db",
    ],
)
def test_every_spelling_of_a_database_url_is_understood(url: str) -> None:
    assert plain_url(url) == "postgresql://u:p@host/db"


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite:///x", "host/db", "xpostgres://h/d"])
def test_another_database_is_refused_with_exit_code_2(url: str) -> None:
    with pytest.raises(CommandFailed, match="postgresql://") as failure:
        plain_url(url)
    assert failure.value.exit_code == 2
