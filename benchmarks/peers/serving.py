"""How other products are served: by their own uvicorn, one worker, with its defaults.

It runs in their environment, which has nothing of this project but what is imported here.
"""

import os
import socket
import sys

from uvicorn import Config, Server

from benchmarks.lifeline import end_with_parent
from benchmarks.load.jobs import HOST


class _Told(Server):
    """Says where it serves once it does."""

    def __init__(self, config: Config, line: bytes) -> None:
        super().__init__(config)
        self._line = line
        # What they print, line by line, goes where their errors do: nobody reads on.
        self._told = os.dup(1)
        os.dup2(2, 1)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell."""
        await super().startup(sockets)
        if self.started:
            os.write(self._told, self._line)


def main() -> None:
    """Serve the application that is named on a free port until told to stop."""
    end_with_parent()
    # Named, as where the product and its yardsticks serve: small answers are sent at once.
    listening = socket.socket(proto=socket.IPPROTO_TCP)
    listening.bind((HOST, 0))
    line = f"ready at http://{HOST}:{listening.getsockname()[1]}\n".encode()
    _Told(Config(sys.argv[1]), line).run([listening])


if __name__ == "__main__":
    main()
