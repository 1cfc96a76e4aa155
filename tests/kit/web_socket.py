"""One connection to `/ws`, to follow runs over and to leave as rudely as you like."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .client import Client, Ending, Reading, Seen, StreamBroken

_WAIT_S = 20.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Socket:
    """One connection to `/ws`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **frame: object) -> None:
        await self.connection.send(json.dumps(frame))

    async def any(self) -> dict[str, Any]:
        """Return the next frame."""
        async with asyncio.timeout(_WAIT_S):
            return json.loads(await self.connection.recv())

    async def next(self, kind: str) -> dict[str, Any]:
        """Return the next frame of that type; others are passed over."""
        async with asyncio.timeout(_WAIT_S):
            while (frame := await self.any())["type"] != kind:
                pass
        return frame

    async def read(
        self, reading: Reading, *, stop_after: int | None = None, client: Client | None = None
    ) -> None:
        """Follow a run from where the reading stands; what is seen goes into `client`'s history.

        Raises:
            StreamBroken: The connection broke off first.
        """
        count = 0
        try:
            await self.send(type="follow", run_id=reading.run_id, after=reading.cursor)
            while reading.run is None and count != stop_after:
                frame = await self.next("event")
                assert frame["run_id"] == reading.run_id
                data = json.dumps(frame["data"], ensure_ascii=False, separators=(",", ":"))
                reading.add(Seen(frame["id"], frame["event"], data))
                if client is not None:
                    client.history.saw(reading.run_id, reading.restart_attempt, reading.text)
                count += 1
        except (ConnectionClosed, TimeoutError) as error:
            raise StreamBroken from error

    async def close_code(self) -> int:
        """Wait until the server has closed the connection and return why it did."""
        async with asyncio.timeout(_WAIT_S):
            # Iterating ends with the connection.
            with contextlib.suppress(ConnectionClosed):
                async for _ in self.connection:
                    pass
        assert self.connection.close_code is not None
        return self.connection.close_code

    async def cut(self, ending: Ending) -> None:
        """Leave: `fin` with a goodbye, `rst` with none; `silence` reads nothing any more."""
        if ending == "fin":
            await self.connection.close()
        elif ending == "rst":
            transport = self.connection.transport
            link: socket.socket | None = transport.get_extra_info("socket")
            if link is not None:
                with contextlib.suppress(OSError):
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()
        else:
            self.connection.transport.pause_reading()


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncGenerator[Socket]:
    """Connect, and say who it is if a token is given.

    Raises:
        StreamBroken: The server is not there.
    """
    try:
        connection = await connect(url.replace("http", "ws", 1) + "/ws", proxy=None)
    except (OSError, TimeoutError, ConnectionClosed) as error:
        raise StreamBroken from error
    async with connection:
        user_end = Socket(connection)
        if token is not None:
            with contextlib.suppress(ConnectionClosed):
                await user_end.send(type="auth", token=token)
        yield user_end
