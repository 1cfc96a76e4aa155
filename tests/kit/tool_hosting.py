"""MCP servers for tests: how they are configured, and one that serves over HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from .stage import ROOT

Json: TypeAlias = dict[str, Any]

MODULE = "tests.kit.tool_server"


def over_stdio(notes: Path, **more: Any) -> Json:  # noqa: ANN401  as in the file
    """Return the configuration of this server as a command."""
    environment = {"NOTES": str(notes), "PYTHONPATH": str(ROOT)}
    return {"command": sys.executable, "args": ["-m", MODULE], "env": environment, **more}


@contextmanager
def over_http(notes: Path, env: Mapping[str, str] | None = None) -> Generator[str]:
    """Start this server as a process of its own; yield its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "--http"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "NOTES": str(notes), **(env or {})},
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def config_file(directory: Path, **servers: Json) -> Path:
    """Write the operator's file of these servers."""
    path = directory / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def let_go(notes: Path, text: str) -> None:
    """Let the tools answer that wait with this text."""
    notes.with_name(f"go {text}").touch()


def noted(notes: Path) -> list[str]:
    """Return what tools have done, in order."""
    return notes.read_text().splitlines() if notes.exists() else []
