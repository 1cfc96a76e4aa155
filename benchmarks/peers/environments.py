"""Virtual environments of other products, in the user's cache: made once, kept between runs."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

_VERSIONS = ">=3.11,<3.13"
"""Of Python, which all of them can do with."""
_COMPLETE = "complete"
"""The file that says that nothing is missing."""


def python_with(
    name: str, requirements: Sequence[str], size: str, say: Callable[[str], None]
) -> Path:
    """Return the Python of an environment that has these, made if it is not in the cache.

    `uv` makes it and tells how far it is; its own variables (`UV_TORCH_BACKEND`, `UV_FIND_LINKS`,
    `UV_CONSTRAINT`) say where packages come from.

    Args:
        name: Of the directory.
        requirements: As an installer reads them.
        size: Of it all, for whoever waits.
        say: Tells them.

    Raises:
        RuntimeError: There is no `uv`, or it fails.
    """
    wanted = "\n".join([_VERSIONS, *requirements])
    directory = _cache() / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}"
    python = directory / "bin" / "python"
    if not (directory / _COMPLETE).exists() or not python.exists():
        say(f"  installing {', '.join(requirements)} ({size})")
        say(f"  into {directory}, where it stays")
        # What an interrupted run left is of no use.
        shutil.rmtree(directory, ignore_errors=True)
        directory.parent.mkdir(parents=True, exist_ok=True)
        _uv("venv", "--quiet", "--python", _VERSIONS, str(directory))
        _uv("pip", "install", "--python", str(python), *requirements)
        (directory / _COMPLETE).write_text(wanted + "\n")
    return python


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "tertulia-benchmarks"


def _uv(*words: str) -> None:
    # `uv run` says where it is itself.
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise RuntimeError("uv, which installs other products, is not there")
    # What the environment of this project is called is nothing to it.
    env = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    if subprocess.run([uv, *words], env=env, check=False).returncode:
        raise RuntimeError(f"`uv {words[0]}` failed")
