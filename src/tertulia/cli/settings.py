"""Settings for a command: from the environment and `.env`, with what its options say instead."""

import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias

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

    SQLAlchemy's names of drivers (`postgresql+asyncpg://`) and the old `postgres://` are dropped.

    Raises:
        CommandFailed: It is no URL of a PostgreSQL.
    """
    plain, found = _DRIVER.subn("postgresql://", url)
    if not found:
        raise CommandFailed(
            "DATABASE_URL must begin with postgresql:// (no other database will do).", exit_code=2
        )
    return plain


def _name(location: tuple[int | str, ...]) -> list[str]:
    """Return the setting's name as its owner wrote it, if the problem is in one."""
    if not location:
        return []
    name = str(location[0])
    return [name if name.isupper() else f"TERTULIA_{name.upper()}"]
