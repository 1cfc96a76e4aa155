"""The `tertulia` command."""

import sys

import typer

from tertulia.cli import chat, db, doctor, serve, user
from tertulia.cli.errors import CommandFailed
from tertulia.cli.progress import Terminal

__all__ = ["main"]


def main() -> None:
    """Run the command line; expected problems are told in words, with an exit code."""
    try:
        _commands()(prog_name="tertulia")
    except CommandFailed as failure:
        Terminal().problem(str(failure))
        sys.exit(failure.exit_code)


def _commands() -> typer.Typer:
    commands = typer.Typer(
        name="tertulia",
        help="The conversation backend for AI apps.",
        no_args_is_help=True,
        # Its tracebacks show local variables, passwords among them.
        pretty_exceptions_enable=False,
    )
    commands.command()(serve.serve)
    commands.command()(chat.chat)
    commands.command()(doctor.doctor)
    commands.add_typer(db.commands(), name="db")
    commands.add_typer(user.commands(), name="user")
    return commands
