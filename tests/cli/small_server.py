"""A server of a few lines, to serve, drain, kill and replace: `python -m tests.cli.small_server`.

It prints `ready <url>` when it is, then `drained` and `done <served>` at its end.
"""

import asyncio
import functools
import os
import socket
import sys
from collections.abc import Callable, Sequence

from starlette.types import Receive, Scope, Send

from tertulia.cli.listening import bind, url_of
from tertulia.cli.server import Hooks, serve
from tertulia.cli.workers import supervise


class SmallApp:
    """Tells its pid at `/pid`, streams at `/stream` until it is drained, waits at `/wait`."""

    def __init__(self) -> None:
        self.draining = asyncio.Event()

    def drain(self) -> None:
        say("drained")
        self.draining.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            await send({"type": "http.response.body", "body": b"begin\n", "more_body": True})
            await self.draining.wait()
        if scope["path"] == "/wait":
            await send({"type": "http.response.body", "body": b"begin\n", "more_body": True})
            await asyncio.sleep(60)
        await send({"type": "http.response.body", "body": f"{os.getpid()}\n".encode()})


class FailingApp(SmallApp):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "on purpose"})


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(kind: type[SmallApp], sockets: Sequence[socket.socket], ready: Callable[[], None]) -> bool:
    app = kind()
    return serve(app, sockets, Hooks(ready=ready, drain=app.drain), drain_s=15, behind_proxy=False)


def main() -> None:
    workers, fails = int(sys.argv[1]), "fail" in sys.argv
    sockets = bind("127.0.0.1", 0)
    url = url_of(sockets[0], "127.0.0.1")
    task = functools.partial(run, FailingApp if fails else SmallApp)

    def ready() -> None:
        say(f"ready {url}")

    if workers == 1:
        served = task(sockets, ready)
    else:
        served = supervise(task, sockets, workers, end_s=20, ready=ready, report=say)
    say(f"done {served}")


if __name__ == "__main__":
    main()
