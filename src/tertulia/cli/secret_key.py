"""The secret key that a server without settings makes for itself and keeps."""

import os
import secrets
import stat
import tempfile
from pathlib import Path

from tertulia.cli.errors import CommandFailed

KEY_BYTES = 48
"""Of randomness; 64 characters as text."""
_MIN_LENGTH = 32


def keep_secret_key(data_dir: Path) -> str:
    """Return the key in `data_dir/secret_key`, made on the first call; the file's mode is 0600.

    Several processes may call this at once: one makes the key, all return it. A file is whole or
    not there.

    Raises:
        CommandFailed: The file cannot be read or written, others can read it, or it is no key.
    """
    path = data_dir / "secret_key"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise CommandFailed(
            f"The secret key {str(path)!r} cannot be used ({error.strerror}). Make it readable for "
            "the user who runs tertulia, or set SECRET_KEY."
        ) from error


def _make(path: Path) -> None:
    # mkstemp opens with O_EXCL and mode 0600; linking it into place fails if another was first.
    descriptor, name = tempfile.mkstemp(prefix="secret_key.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(name)
    except FileExistsError:
        return
    finally:
        Path(name).unlink()


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor) as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise CommandFailed(
                f"Others can read the secret key {str(path)!r} (mode {mode:04o}), and with it make "
                "tokens for any user. If nobody has, run: chmod 600 "
                f"{str(path)!r}. Otherwise remove it; everybody will have to log in again."
            )
        key = file.read().strip()
    if len(key) < _MIN_LENGTH:
        raise CommandFailed(
            f"{str(path)!r} holds no secret key. Remove it, and a new one is made; everybody will "
            "have to log in again."
        )
    return key
