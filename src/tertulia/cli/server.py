"""One process that serves HTTP until it is told to stop, and then drains."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn import Config, Server

from tertulia.cli.protocol import BoundedHttp
from tertulia.cli.signals import StoppedBySignal
from tertulia.http.protocol import WebSocketProtocol

BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted."""
KEEP_ALIVE_S = 75
"""Longer than the 60 s after which most load balancers give up an idle connection themselves."""
MESSAGE_LIMIT_BYTES = 1024 * 1024
"""Of one WebSocket message from a client."""
REQUESTS_END_S = 8
"""How long open requests may take to end; then they are cancelled."""
GARBAGE_THRESHOLDS = (2_000, 20, 50)
"""How many objects more than now before the young are looked through; and every how many times the
older ones and all are. With 50,000 it took forty milliseconds, once in a thousand requests, for
which everybody waited; with 2,000 a millisecond or two each time, and a twentieth more in all."""
LINGER_S = 0.5
"""How long idle connections are still answered, with `Connection: close`, before they are cut."""
_log = logging.getLogger("tertulia.server")


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who else must know about the server's life."""

    ready: Callable[[], None]
    """Called once it accepts connections."""
    drain: Callable[[], None]
    """Called in the event loop when it is told to stop, before anything is waited for."""


def serve(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    hooks: Hooks,
    *,
    drain_s: float,
    behind_proxy: bool,
) -> bool:
    """Serve `app` until SIGINT or SIGTERM, then drain; a second SIGINT cuts that short.

    Args:
        app: With a lifespan.
        sockets: Bound; they are closed as soon as draining begins.
        hooks: Called in the event loop.
        drain_s: All of draining: open requests end, the app hands over and shuts down.
        behind_proxy: Whether `X-Forwarded-For` and `-Proto` are believed; only behind a proxy
            that sets them.

    Returns:
        Whether it served: False if the app's start-up failed.

    Raises:
        StoppedBySignal: It was told to stop before it served.
    """
    config = Config(
        # Starlette and uvicorn spell the same protocol in types that do not match.
        cast("Any", app),
        # uvloop runs ready callbacks before it looks for new connections: with a thousand streams
        # running, a new one waits for seconds.
        loop="asyncio",
        http=BoundedHttp,
        ws=WebSocketProtocol,
        ws_max_size=MESSAGE_LIMIT_BYTES,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=behind_proxy,
        forwarded_allow_ips="*" if behind_proxy else None,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=REQUESTS_END_S,
    )
    server = DrainingServer(config, hooks, drain_s)
    # Before uvicorn handles signals itself, and when it has ended and raises those it caught once
    # more.
    before = {sig: signal.signal(sig, server.note) for sig in (signal.SIGINT, signal.SIGTERM)}
    try:
        # It exits if the app's start-up failed, which a signal in the middle of it makes it do.
        with contextlib.suppress(SystemExit):
            server.run(list(sockets))
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if server.noted and not server.has_served:
        raise StoppedBySignal(server.noted[0])
    return server.has_served


def _calm_the_collector() -> None:
    """Leave what was made at the start to itself, and look for garbage a little at a time.

    The modules are some hundred thousand objects that stay for ever. Searching them again and
    again is what the slowest of a hundred requests waits for.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


class DrainingServer(Server):
    """Tells the app at once that it has to stop, and lets no client's request fall between.

    Attributes:
        noted: The signals that told it to stop; complete when it has ended.
        has_served: Whether it ever accepted connections.
    """

    def __init__(self, config: Config, hooks: Hooks, drain_s: float) -> None:
        super().__init__(config)
        self._hooks = hooks
        self._drain_s = drain_s
        self.noted: list[int] = []
        self.has_served = False

    def note(self, signum: int, _frame: FrameType | None) -> None:
        """Be told to stop, where the default would end the process before it has cleaned up."""
        self.noted.append(signum)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self.has_served = True
            _calm_the_collector()
            self._hooks.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain: the app learns of it, no connection is accepted, those there are may end."""
        self._hooks.drain()
        # From now on every answer ends its connection.
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        # One round of the loop accepts what the kernel has accepted already; the next would be
        # reset by closing the socket.
        for _ in range(2):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for each in server.sockets:
                loop.remove_reader(each.fileno())
        # What was accepted a moment ago becomes a connection in the next round, and only while its
        # server is open.
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        await self._linger()
        try:
            async with asyncio.timeout(self._drain_s):
                await super().shutdown(sockets)
        except TimeoutError:
            _log.warning("not everything could be handed over within %.0f s", self._drain_s)

    async def _linger(self) -> None:
        """Give clients that are about to reuse a connection the time to learn that they may not."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LINGER_S
        while self.server_state.connections and not self.force_exit:
            if loop.time() > deadline:
                break
            await asyncio.sleep(0.02)
