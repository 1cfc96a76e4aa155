"""The commands of `tertulia`, and what they have in common."""

import gc
import io
import signal
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tertulia import __version__
from tertulia.cli.errors import CommandFailed
from tertulia.cli.progress import Terminal
from tertulia.cli.signals import StoppedBySignal, die_of

_COMMANDS = ("serve", "chat", "doctor", "db", "user")


def run() -> None:
    """Run the command line; expected problems are told in words, with an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that is not UTF-8 shows question marks, which beats a traceback.
            stream.reconfigure(errors="replace")
    commands = typer.Typer(
        name="tertulia",
        cls=_Commands,
        help="The conversation backend for AI apps.",
        no_args_is_help=True,
        # Its tracebacks show local variables, passwords among them.
        pretty_exceptions_enable=False,
    )
    # Without a callback of its own, a group of no commands is none for typer.
    commands.callback()(_options)
    try:
        commands(prog_name="tertulia")
    except StoppedBySignal as stop:
        die_of(stop.signum)
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

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  typer's type is private
        """Run one of them; Ctrl-C where nothing is to be stopped ends it as a signal does."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise StoppedBySignal(signal.SIGINT) from error

    def get_command(self, ctx: object, cmd_name: str) -> Any:  # noqa: ANN401  typer's type is private
        """Return one of them, or None."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = typer.main.get_command(import_module(f"tertulia.cli.{cmd_name}").command())
        command.name = cmd_name
        # Modules stay for ever; what is made from here on may not.
        gc.freeze()
        gc.enable()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            # All is loaded. From now on there may be something to stop.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return command


def _say_version(is_asked: bool) -> None:
    if is_asked:
        Terminal().print(f"tertulia {__version__}")
        raise typer.Exit


def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Say which version this is.", callback=_say_version, is_eager=True
        ),
    ] = False,
) -> None:
    """The conversation backend for AI apps."""
