"""An MCP server with a few tools, for tests.

`python -m tests.kit.tool_server` speaks over its standard streams; with `--http` it serves
`/mcp` on a free port, which it prints. `NOTES` names the file that its side effects go to.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations

ROOT = Path(__file__).parents[2]
MODULE = "tests.kit.tool_server"

server = MCPServer("kit")


def note(line: str) -> None:
    """Write down what was done, so that a test can count it."""
    with Path(os.environ["NOTES"]).open("a") as notes:
        notes.write(f"{line}\n")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
async def add(a: int, b: int) -> str:
    """Add two numbers."""
    note(f"add {a} {b}")
    return str(a + b)


@server.tool()
async def send(text: str) -> str:
    """Do something that must not be done twice."""
    note(f"send {text}")
    return f"sent {text}"


@server.tool()
async def wait(text: str) -> str:
    """Do something that must not be done twice, and answer when there is a file `go`."""
    return await _wait("wait", text)


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
async def wait_again(text: str) -> str:
    """Do something that may be done twice, and answer when there is a file `go`."""
    return await _wait("wait_again", text)


@server.tool()
async def fail() -> str:
    """Fail."""
    raise ValueError("It did not work")


@server.tool()
async def big(size: int) -> str:
    """Answer with so many characters."""
    return "x" * size


@server.tool()
async def odd() -> CallToolResult:
    """Answer with a picture, and with what PostgreSQL cannot store."""
    picture = ImageContent(type="image", data="AAAA", mime_type="image/png")
    return CallToolResult(content=[picture, TextContent(type="text", text="a\0b")])


@server.tool()
async def die() -> str:
    """End the server in the middle of a call."""
    note("die")
    os._exit(1)


@server.tool(name="odd.name/日本")
async def oddly_named() -> str:
    """Have a name that no provider takes."""
    return "fine"


@server.tool()
async def environment() -> str:
    """Tell the names of the environment's variables."""
    return " ".join(sorted(os.environ))


async def _wait(kind: str, text: str) -> str:
    note(f"{kind} {text}")
    while not Path(os.environ["NOTES"]).with_name("go").exists():  # noqa: ASYNC110  a file rings no bell
        await asyncio.sleep(0.02)
    return f"waited {text}"


def over_stdio(notes: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401  as in the file
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


async def _serve_http() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    app = server.streamable_http_app()
    http = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    print(listener.getsockname()[1], flush=True)  # noqa: T201  whoever started it reads it
    await http.serve([listener])


def main() -> None:
    """Serve until killed, or until the standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", action="store_true")
    if parser.parse_args().http:
        asyncio.run(_serve_http())
    else:
        server.run("stdio")


if __name__ == "__main__":
    main()
