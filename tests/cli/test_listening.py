"""Taking ports."""

import asyncio
import socket

import pytest

from tertulia.cli.errors import CommandFailed
from tertulia.cli.listening import bind, close, url_of


def test_port_zero_takes_a_free_one() -> None:
    sockets = bind("127.0.0.1", 0)
    assert sockets[0].getsockname()[1] > 0
    close(sockets)


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port: int = other.getsockname()[1]
        with pytest.raises(CommandFailed, match=f"Port {port} of 127.0.0.1 is taken"):
            bind("127.0.0.1", port)


def test_until_the_server_listens_connections_are_refused() -> None:
    sockets = bind("127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(sockets[0].getsockname(), timeout=5)
    close(sockets)


def test_a_host_that_is_none_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"192\.0\.2\.1"):
        bind("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:{}"),  # noqa: S104  compared, not bound
        ("localhost", "http://localhost:{}"),
        ("::1", "http://[::1]:{}"),
    ],
)
def test_the_url_is_one_that_a_browser_here_can_open(host: str, url: str) -> None:
    sockets = bind("127.0.0.1", 0)
    assert url_of(sockets[0], host) == url.format(sockets[0].getsockname()[1])
    close(sockets)


async def test_what_is_accepted_sends_small_packets_at_once() -> None:
    (bound,) = bind("127.0.0.1", 0)
    accepted = asyncio.Queue[int]()

    async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        accepted.put_nowait(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(look, sock=bound):
        _, writer = await asyncio.open_connection(*bound.getsockname())
        assert await accepted.get()
        writer.close()
