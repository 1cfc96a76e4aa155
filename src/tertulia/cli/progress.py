"""What the terminal shows while work is done: one line a step, in colour where there is colour."""

from collections.abc import Callable
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

Report: TypeAlias = Callable[[str], None]
"""Shows one line for people at the beginning of a step that may take a moment."""


class Terminal:
    """Where a command speaks: steps and errors on standard error, results on standard output.

    On something that is no terminal, lines are plain and unwrapped.

    Args:
        steps_on_stdout: Whether steps and errors are results themselves.
    """

    def __init__(self, *, steps_on_stdout: bool = False) -> None:
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=not steps_on_stdout, highlight=False, soft_wrap=True)

    def step(self, line: str) -> None:
        """Say what begins now."""
        self.err.print(Text("• ", style="cyan"), Text(line), sep="", end="\n")

    def problem(self, text: str) -> None:
        """Say what is wrong, without a traceback."""
        self.err.print(Text("✗ ", style="bold red"), Text(text.strip()), sep="")

    def good(self, text: str) -> None:
        """Say what is well."""
        self.out.print(Text("✓ ", style="green"), Text(text), sep="")

    def print(self, text: str = "", *, style: str = "") -> None:
        """Print a result as it is; brackets in it mean nothing."""
        self.out.print(Text(text, style=style))
