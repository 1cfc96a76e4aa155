"""How yardsticks are served: as the product is (`tertulia.cli.server`), without its guards."""

import socket
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn import Config, Server

from benchmarks.lifeline import end_with_parent
from benchmarks.load.jobs import HOST


def serve(app: ASGIApp) -> None:
    """Serve on a free port, which is told on standard output, until told to stop."""
    end_with_parent()
    # Named, for asyncio sends small answers at once only where it knows that it is TCP.
    listening = socket.socket(proto=socket.IPPROTO_TCP)
    listening.bind((HOST, 0))
    config = Config(
        # Starlette and uvicorn spell the same protocol in types that do not match.
        cast("Any", app),
        loop="asyncio",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
    )
    print(f"ready at http://{HOST}:{listening.getsockname()[1]}", flush=True)
    Server(config).run([listening])
