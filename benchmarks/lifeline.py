"""Processes that end with whoever started them, however that ends."""

import os
import sys
import threading


def end_with_parent() -> None:
    """End this process when its standard input does, which its parent holds open."""

    def wait() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
