"""The login that `tertulia chat` keeps from one start to the next, in a file of its owner's."""

import fcntl
import json
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast


def config_dir() -> Path:
    """Return where programs keep what is the user's, by the rules of the platform.

    That is `$XDG_CONFIG_HOME` wherever it is set, else `~/Library/Application Support` on macOS and
    `~/.config` elsewhere (XDG Base Directory Specification 0.8).
    """
    asked = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if asked.is_absolute():
        return asked / "tertulia"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  Path.expanduser raises where there is none
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "tertulia"
    return home / ".config" / "tertulia"


@dataclass(frozen=True, slots=True)
class KeptLogin:
    """One user's login at one server: a refresh token, in `logins.json` of mode 0600.

    Attributes:
        directory: Of the file; made when there is something to keep.
        url: Of the server, without a trailing slash.
    """

    directory: Path
    url: str

    def find(self) -> str | None:
        """Return the refresh token that is kept; None if there is none that can be read."""
        token = self._all().get(self.url)
        return token if isinstance(token, str) else None

    def keep(self, refresh_token: str) -> None:
        """Keep a refresh token in the place of the one before.

        Raises:
            OSError: The file cannot be written.
        """
        self._write({**self._all(), self.url: refresh_token})

    def forget(self) -> None:
        """Keep none any more.

        Raises:
            OSError: The file cannot be written.
        """
        logins = self._all()
        if logins.pop(self.url, None) is not None:
            self._write(logins)

    @contextmanager
    def alone(self) -> Generator[None]:
        """Let no other chat of this user read or write meanwhile.

        A refresh token is good once, and a second use ends the session: two chats must take turns.

        Raises:
            OSError: The directory cannot be written.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self.directory / "logins.lock", flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @property
    def _path(self) -> Path:
        return self.directory / "logins.json"

    def _all(self) -> dict[str, Any]:
        try:
            found: object = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    def _write(self, logins: dict[str, Any]) -> None:
        # mkstemp's mode is 0600; moved into place, the file is whole or as it was.
        descriptor, name = tempfile.mkstemp(prefix="logins.", dir=self.directory)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(logins, file, indent=1)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
