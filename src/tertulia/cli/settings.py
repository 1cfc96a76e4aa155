"""Settings for a command: from the environment and `.env`, with what its options say instead."""

import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import typer
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from tertulia.cli.errors import CommandFailed
from tertulia.config import Settings

DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Where the embedded PostgreSQL and the secret key live. "
        "Default: TERTULIA_DATA_DIR, or ./tertulia-data.",
        file_okay=False,
        show_default=False,
    ),
]

_PORT = re.compile(r":([^:\]]*)$")
_PORT_MAX = 65535
_LIBPQ_OPTIONS = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "pgbouncer",
        "pool_mode",
        "require_auth",
        "sslcompression",
        "tcp_user_timeout",
    }
)
"""From the manual's list of libpq's parameters, and what poolers add: hosts hand out such URLs."""
_DRIVER = re.compile(r"^postgres(ql)?(\+\w+)?://")


def load_settings(data_dir: Path | None) -> Settings:
    """Return the settings, valid.

    Raises:
        CommandFailed: Some are missing or wrong (exit code 2); the text names each, without values.
    """
    options: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    try:
        settings = Settings(**options)
    except ValidationError as error:
        wrong = [
            ": ".join([*_name(each["loc"]), each["msg"].removeprefix("Value error, ")])
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise CommandFailed(
            "\n  ".join(["These settings are wrong:", *wrong]), exit_code=2
        ) from error
    except SettingsError as error:
        raise CommandFailed(f"A setting cannot be read: {error}.", exit_code=2) from error
    if settings.database_url is None:
        return settings
    url = plain_url(settings.database_url.get_secret_value())
    return settings.model_copy(update={"database_url": SecretStr(url)})


def plain_url(url: str) -> str:
    """Return a database URL as PostgreSQL's own clients write it.

    SQLAlchemy's names of drivers (`postgresql+asyncpg://`) and the old `postgres://` are dropped,
    and so are parameters of libpq that say how to connect: the driver would take them for settings
    of the server, which knows none of them.

    Raises:
        CommandFailed: It is no URL of a PostgreSQL.
    """
    plain, found = _DRIVER.subn("postgresql://", url)
    if not found:
        raise CommandFailed(
            "DATABASE_URL must begin with postgresql:// (no other database will do).", exit_code=2
        )
    if not _has_real_ports(plain):
        raise CommandFailed(
            "DATABASE_URL names a port that is none. It looks like "
            "postgresql://user:password@host:5432/database; characters like @ : / # ? in the "
            "password must be percent-encoded.",
            exit_code=2,
        )
    return _without_libpq_options(plain)


def _without_libpq_options(url: str) -> str:
    before, mark, query = url.partition("?")
    kept = [each for each in query.split("&") if each.partition("=")[0] not in _LIBPQ_OPTIONS]
    return before + (mark if any(kept) else "") + "&".join(kept)


def _has_real_ports(url: str) -> bool:
    """Whether what stands behind the hosts' colons are ports; the driver takes 70000 modulo 2**16.

    Not so where a `/` or `#` in a password ends the hosts early.
    """
    try:
        split = urlsplit(url)
    except ValueError:
        return False
    hosts = split.netloc.rpartition("@")[2]
    asked = parse_qs(split.query).get("port", [""])[-1]
    ports = [found[1] for host in hosts.split(",") if (found := _PORT.search(host))]
    ports += [port for port in asked.split(",") if port]
    return all(port.isdecimal() and 0 < int(port) <= _PORT_MAX for port in ports)


def _name(location: tuple[int | str, ...]) -> list[str]:
    """Return the setting's name as its owner wrote it, if the problem is in one."""
    if not location:
        return []
    name = str(location[0])
    return [name if name.isupper() else f"TERTULIA_{name.upper()}"]
