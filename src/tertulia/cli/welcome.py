"""What a server says when it is ready: where to go, and what to try first."""

import os
import shlex
from dataclasses import dataclass

from tertulia.cli.progress import Terminal


@dataclass(slots=True)
class Welcome:
    """Said once, when the server accepts connections.

    Attributes:
        terminal: Where it is said.
        url: Of the server, as a browser on this machine finds it.
        data: Where what people say is kept.
        has_accounts: Whether anybody has an account yet; if not, how to make one is said.
        is_shown: Whether it was said: the server has served.
    """

    terminal: Terminal
    url: str
    data: str
    has_accounts: bool = False
    is_shown: bool = False

    def show(self) -> None:
        """Say it."""
        self.is_shown = True
        self.terminal.print(f"\nTertulia is ready at {self.url}\n", style="bold green")
        if not self.has_accounts:
            self._say_how_to_register()
        self.terminal.print(f"  Chat in another terminal:  {self._chat()}")
        self.terminal.print(f"  See everything it can do:  {self.url}/docs")
        self.terminal.print(f"  Its data:                  {self.data}")
        self.terminal.print("  Stop it:                   Ctrl-C\n")

    def _say_how_to_register(self) -> None:
        account = '{"email": "alice@example.com", "username": "alice", "password": "password123"}'
        self.terminal.print("  Make the first account, from another terminal:")
        self.terminal.print(
            f"    curl -X POST {self.url}/auth/register -H 'Content-Type: application/json' \\"
        )
        self.terminal.print(f"      -d {shlex.quote(account)}")

    def _chat(self) -> str:
        default = self.url.endswith("//127.0.0.1:8000")
        command = "tertulia chat" if default else f"tertulia chat --url {self.url}"
        # In a checkout the command is only on uv's path.
        return f"uv run {command}" if "UV_RUN_RECURSION_DEPTH" in os.environ else command
