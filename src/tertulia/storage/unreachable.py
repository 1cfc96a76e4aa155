"""Why a PostgreSQL cannot be asked, in words, and whether waiting will mend it."""

import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

_PORT = 5432
_SPECIAL_CHARACTERS = "Characters like @ : / # ? in its password must be percent-encoded."
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
"""What a name server says of a name that there is not; all else may pass (`EAI_AGAIN`)."""

_TLS_REMEDY = "Turn it on there (ssl = on), or correct sslmode and the like in DATABASE_URL."
_KNOWN: Mapping[type[OSError], str] = {
    ConnectionRefusedError: "nothing listens",
    TimeoutError: "no answer",
}


class DatabaseNotReady(Exception):  # noqa: N818  named for what happened
    """A PostgreSQL cannot be asked; the text says why, without secrets.

    Attributes:
        remedy: What to do about it: one or more sentences.
        is_lasting: Whether waiting is in vain, as for a wrong password.
    """

    def __init__(self, reason: str, remedy: str, *, is_lasting: bool) -> None:
        self.remedy = remedy
        self.is_lasting = is_lasting
        super().__init__(reason)


def why_not(error: Exception, dsn: str) -> DatabaseNotReady:
    """Return what the driver's `error` means for whoever connects to `dsn`."""
    match error:
        case asyncpg.PostgresError():
            return _refused(error)
        case asyncpg.ClientConfigurationError():
            return _lasting(str(error), "Correct DATABASE_URL.")
        case OSError():
            return _unreachable(error, dsn)
        case ValueError():
            # It may repeat what it was given, and that may be a piece of the password.
            return _lasting(
                "DATABASE_URL cannot be understood",
                "It looks like postgresql://user:password@host:5432/database. "
                f"{_SPECIAL_CHARACTERS}",
            )
        case _:
            return _passing(str(error) or type(error).__name__)


def places(dsn: str) -> tuple[str, ...]:
    """Return where `dsn` says the server is: `host:port`, or a socket's directory. No secrets."""
    if dsn.count("@") > 1 or "#" in dsn:
        # Somebody's password, not encoded: what looks like the host may be the end of it.
        return ()
    url = urlsplit(dsn)
    query = parse_qs(url.query)
    hosts = url.netloc.rpartition("@")[2] or query.get("host", [""])[-1]
    port = query.get("port", [str(_PORT)])[-1]
    return tuple(_place(unquote(host), port) for host in hosts.split(",") if host)


def _place(host: str, port: str) -> str:
    return host if host.startswith("/") or re.search(r":\d+$", host) else f"{host}:{port}"


def _refused(error: asyncpg.PostgresError) -> DatabaseNotReady:
    """Return what it means that a server answers, and refuses."""
    said = str(error)
    match error:
        case asyncpg.InvalidPasswordError():
            remedy = f"Correct the user or the password in DATABASE_URL. {_SPECIAL_CHARACTERS}"
        case asyncpg.InvalidAuthorizationSpecificationError():
            remedy = (
                "Correct the user in DATABASE_URL, make it there (CREATE ROLE … LOGIN), or let it "
                "in in the server's pg_hba.conf."
            )
        case asyncpg.InvalidCatalogNameError():
            remedy = (
                "Make it (CREATE DATABASE … ENCODING 'UTF8'), or correct the name in DATABASE_URL."
            )
        case asyncpg.UndefinedObjectError():
            remedy = "Take the parameter it names out of DATABASE_URL."
        case asyncpg.InsufficientPrivilegeError():
            remedy = "Let the user of DATABASE_URL connect (GRANT CONNECT ON DATABASE … TO …)."
        case _:
            # Starting up, shutting down, full of connections.
            return _passing(said)
    return _lasting(said, remedy)


def _unreachable(error: OSError, dsn: str) -> DatabaseNotReady:
    """Return what it means that no server answers."""
    where = places(dsn)
    at = f" at {' or '.join(where)}" if where else " where DATABASE_URL says"
    # Of several hosts only the last one's error is known.
    alone = len(where) <= 1
    match error:
        case socket.gaierror() if error.errno in _UNKNOWN_NAME and alone:
            name = repr(where[0].rpartition(":")[0]) if where else "the name in DATABASE_URL"
            return _lasting(
                f"no host is known as {name}",
                f"Correct the host in DATABASE_URL. {_SPECIAL_CHARACTERS}",
            )
        case FileNotFoundError() if where and all(place.startswith("/") for place in where):
            return _without_socket(where)
        case PermissionError():
            return _lasting(
                f"the socket{at} may not be used by this user",
                "Run tertulia as a user who may, or connect by host and port.",
            )
        case ssl.SSLError():
            return _lasting(f"TLS fails{at} ({error.reason or error})", _TLS_REMEDY)
        case ConnectionError() if "rejected SSL" in str(error):
            return _lasting(f"the server{at} does not speak TLS", _TLS_REMEDY)
        case _:
            return _passing(f"{_KNOWN.get(type(error)) or error}{at}")


def _without_socket(directories: tuple[str, ...]) -> DatabaseNotReady:
    """Return what it means that a server's socket is missing in each of these."""
    said = " or ".join(directories)
    if any(Path(directory).is_dir() for directory in directories):
        return _passing(f"there is no socket in {said}")
    return _lasting(
        f"there is no directory {said} for its socket",
        "Correct the host in DATABASE_URL: it names the directory of the server's socket "
        "(unix_socket_directories).",
    )


def _lasting(reason: str, remedy: str) -> DatabaseNotReady:
    return DatabaseNotReady(reason.rstrip("."), remedy, is_lasting=True)


def _passing(reason: str) -> DatabaseNotReady:
    remedy = "Check DATABASE_URL, and that the server runs and can be reached from here."
    return DatabaseNotReady(reason.rstrip("."), remedy, is_lasting=False)
