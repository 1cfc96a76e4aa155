"""An MCP server with a few tools, a process of its own; `tool_hosting` starts it.

`python -m tests.kit.tool_server` speaks over its standard streams; with `--http` it serves
`/mcp` on a free port, which it prints. `NOTES` names the file that its side effects go to.
"""

import argparse
import asyncio
import os
import socket
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp_types import CallToolResult, ImageContent, TextContent, ToolAnnotations

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
    """Do something that must not be done twice, and answer when `let_go` says so."""
    return await _wait("wait", text)


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
async def wait_again(text: str) -> str:
    """Do something that may be done twice, and answer when `let_go` says so."""
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
    while not Path(os.environ["NOTES"]).with_name(f"go {text}").exists():  # noqa: ASYNC110  a file rings no bell
        await asyncio.sleep(0.02)
    return f"waited {text}"


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
