"""Taking a port before anything else is started."""

import errno
import os
import socket
from collections.abc import Sequence

from tertulia.cli.errors import CommandFailed


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a bound socket for every address of `host`; port 0 takes any free one.

    They are bound, not listening: until the server is ready, connections are refused rather than
    kept waiting.

    Raises:
        CommandFailed: The port is taken, not allowed, or there is no such address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CommandFailed(f"--host {host!r} is no address of this machine: {error}.") from error
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses if port else addresses[:1]:
            sockets.append(_bind(family, address))
    except OSError as error:
        close(sockets)
        raise CommandFailed(_why(host, port, error)) from error
    return sockets


def close(sockets: Sequence[socket.socket]) -> None:
    """Close all."""
    for bound in sockets:
        bound.close()


def url_of(bound: socket.socket, host: str) -> str:
    """Return where a browser on this machine finds the server."""
    port: int = bound.getsockname()[1]
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104  compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind(family: int, address: tuple[object, ...]) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, an answer
    # whose head and body are two packets waits 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A restart need not wait for the last connections of the one before.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _why(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} of {host} is taken by another program. Stop it, or choose another "
                f"port: tertulia serve --port {port + 1}"
            )
        case errno.EACCES:
            return (
                f"You may not take port {port}. Choose one above 1023: tertulia serve --port 8000"
            )
        case errno.EADDRNOTAVAIL:
            return f"--host {host!r} is no address of this machine."
        case _:
            return f"Port {port} of {host} cannot be taken: {os.strerror(error.errno or 0)}."
