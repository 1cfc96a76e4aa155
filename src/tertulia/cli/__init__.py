"""The `tertulia` command."""

import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from tertulia.cli.errors import CommandFailed
from tertulia.cli.progress import Terminal

__all__ = ["main"]

_COMMANDS = ("serve", "chat", "doctor", "db", "user")


def main() -> None:
    """Run the command line; expected problems are told in words, with an exit code."""
    commands = typer.Typer(
        name="tertulia",
        cls=_Commands,
        help="The conversation backend for AI apps.",
        no_args_is_help=True,
        # Its tracebacks show local variables, passwords among them.
        pretty_exceptions_enable=False,
    )
    # Without a callback of its own, a group of no commands is none for typer.
    commands.callback()(_no_options)
    try:
        commands(prog_name="tertulia")
    except CommandFailed as failure:
        Terminal().problem(str(failure))
        sys.exit(failure.exit_code)


class _Commands(TyperGroup):
    """The commands, each imported when it is asked for: a chat need not load the whole server.

    Every module named in `_COMMANDS` has a function `command` that returns its `Typer`.
    """

    def list_commands(self, ctx: object) -> list[str]:
        """Return their names, in the order of the help."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> Any:  # noqa: ANN401  typer's type is private
        """Return one of them, or None."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"tertulia.cli.{cmd_name}").command())
        command.name = cmd_name
        return command


def _no_options() -> None:
    """The conversation backend for AI apps."""
