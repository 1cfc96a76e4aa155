"""What models call the tools of servers: `server__tool`."""

import hashlib
import re

SERVER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
"""No `_`: so the first `__` of a tool's name always ends its server's, and none is another's."""
_SEPARATOR = "__"
_NAME_CHARS_MAX = 64
# What providers take (OpenAI, Anthropic, Bedrock).
_UNTAKEN = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST_CHARS = 8


def model_name(server: str, tool: str) -> str:
    """Return the tool's name for models.

    A name that providers would not take is cut and mended, and a digest keeps it apart from others.
    """
    name = server + _SEPARATOR + tool
    if len(name) <= _NAME_CHARS_MAX and tool and not _UNTAKEN.search(tool):
        return name
    digest = hashlib.sha256(tool.encode(errors="replace")).hexdigest()[:_DIGEST_CHARS]
    mended = server + _SEPARATOR + _UNTAKEN.sub("_", tool)
    return f"{mended[: _NAME_CHARS_MAX - _DIGEST_CHARS - 1]}-{digest}"


def server_of(name: str) -> str | None:
    """Return the server that a tool's name belongs to, whether or not it has such a tool."""
    server, separator, _ = name.partition(_SEPARATOR)
    return server if separator and SERVER_NAME.fullmatch(server) else None
