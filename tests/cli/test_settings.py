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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@host:port/db",
        "postgresql://u:p@host:70000/db",
        "postgresql://u:p@a:1,b:0/db",
        "postgresql://u:pa/ss@host/db",
        "postgresql://u@/db?host=/run&port=x",
    ],
)
def test_a_port_that_is_none_is_refused_without_repeating_the_url(url: str) -> None:
    with pytest.raises(CommandFailed, match="percent-encoded") as failure:
        plain_url(url)
    assert failure.value.exit_code == 2
    assert "pa" not in str(failure.value).replace("password", "")


@pytest.mark.parametrize(
    "url",
    ["postgresql://a:1,b/db", "postgresql://[::1]:5432/db", "postgresql:///db?host=/run&port=1"],
)
def test_hosts_may_be_several_and_of_any_kind(url: str) -> None:
    assert plain_url(url) == url


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite:///x", "host/db", "xpostgres://h/d"])
def test_another_database_is_refused_with_exit_code_2(url: str) -> None:
    with pytest.raises(CommandFailed, match="postgresql://") as failure:
        plain_url(url)
    assert failure.value.exit_code == 2


def test_what_only_libpq_knows_is_dropped_from_a_url() -> None:
    url = "postgresql://ana:secret@db.example/app?sslmode=require&channel_binding=require"
    assert plain_url(url) == "postgresql://ana:secret@db.example/app?sslmode=require"
    assert plain_url("postgresql://db/app?connect_timeout=10") == "postgresql://db/app"
    assert plain_url("postgresql://db/app") == "postgresql://db/app"
