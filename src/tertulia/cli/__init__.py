"""The `tertulia` command."""

import gc
import signal
from importlib import import_module

__all__ = ["main"]


def main() -> None:
    """Run the command line; expected problems are told in words, with an exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing is to be stopped while modules are loaded, so Ctrl-C need not be told in a
        # traceback; what takes a moment to load is loaded from here on.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Nothing that is loaded is garbage, and looking for it takes a tenth of the time.
    gc.disable()
    import_module("tertulia.cli.commands").run()
