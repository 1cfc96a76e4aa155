"""Many requests at the same moment, sent so cheaply that what is measured is the server."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from .person import Person


@dataclass(frozen=True, slots=True)
class Shot:
    """The head of an answer, and how long after its request it came, in seconds."""

    status: int
    headers: dict[str, str]
    took_s: float


def request_of(person: Person, method: str, path: str, body: object = None) -> bytes:
    """Return a request of that person's as it goes over the wire, the last on its connection."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: volley",
        "Connection: close",
        *(f"{name}: {value}" for name, value in person.headers.items()),
    ]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def volley(url: str, requests: Sequence[bytes]) -> list[Shot]:
    """Connect once for each request, then send all of them at once; return what came back.

    Raises:
        OSError: A connection was refused or broken.
        asyncio.IncompleteReadError: A connection ended without an answer.
    """
    parts = urlsplit(url)
    connections = [await asyncio.open_connection(parts.hostname, parts.port) for _ in requests]

    async def shoot(number: int) -> Shot:
        reader, writer = connections[number]
        began = time.monotonic()
        writer.write(requests[number])
        head = await reader.readuntil(b"\r\n\r\n")
        took_s = time.monotonic() - began
        status_line, *fields = head.decode("latin-1").rstrip().split("\r\n")
        pairs = (field.split(": ", 1) for field in fields)
        headers = {name.lower(): value for name, value in pairs}
        return Shot(int(status_line.split()[1]), headers, took_s)

    try:
        return await asyncio.gather(*(shoot(number) for number in range(len(requests))))
    finally:
        for _, writer in connections:
            writer.transport.abort()
