"""Locks between processes that no crash can leave behind."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tertulia.storage.embedded_account import EmbeddedPostgresFailed

_TIMEOUT_S = 90.0
_POLL_S = 0.05


class FileLock:
    """A `flock` on a file that is never removed; as a context, released at its end."""

    def __init__(self, path: Path) -> None:
        # Not inheritable (PEP 446), so that the server does not keep what it was started under.
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise EmbeddedPostgresFailed(
                f"{str(path)!r} cannot be opened ({error.strerror}). The data directory must be "
                "writable for the user who runs tertulia: change that, or name another directory "
                "with --data-dir."
            ) from error

    def acquire(self, report: Callable[[str], None]) -> None:
        """Take the lock alone, waiting a bounded time, and say so when it takes a while."""
        begin = time.monotonic()
        said = False
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waited_s = time.monotonic() - begin
            else:
                return
            if waited_s > _TIMEOUT_S:
                raise EmbeddedPostgresFailed(
                    "Another tertulia has been starting or stopping PostgreSQL in this data "
                    f"directory for {_TIMEOUT_S:.0f} s. See what it does, then try again."
                )
            if waited_s > 1.0 and not said:
                said = True
                report("Waiting for another tertulia that starts or stops PostgreSQL here")
            time.sleep(_POLL_S)

    def share(self) -> None:
        """Take the lock together with others; nobody may hold it alone at this time."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def try_exclusive(self) -> bool:
        """Take the lock alone, if nobody else shares it now."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
