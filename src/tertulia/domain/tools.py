"""Tools that this server calls itself when a model asks for them: those of configured servers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Approval(StrEnum):
    """Whether a tool may be called when a model asks for it."""

    ALLOW = "allow"
    ASK = "ask"
    """Only after the user has said so, call by call."""
    DENY = "deny"
    """Never; models are not told that there is such a tool."""


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool of a configured MCP server."""

    name: str
    """As models know it: `server__tool`, at most 64 of `A-Z a-z 0-9 _ -`."""
    server: str
    tool: str
    """As its server knows it."""
    description: str
    parameters: Mapping[str, Any]
    """A JSON Schema of the arguments."""
    approval: Approval
    is_repeatable: bool
    """Whether calling it again does nothing more: read-only or idempotent, as its server says."""

    def as_function(self) -> Mapping[str, Any]:
        """Return it as a function tool in OpenAI's shape."""
        told = {"description": self.description} if self.description else {}
        function = {"name": self.name, **told, "parameters": self.parameters}
        return {"type": "function", "function": function}


class ToolServerFailed(Exception):  # noqa: N818  named for what happened, as in errors.py
    """A configured MCP server cannot be asked what tools it has.

    Attributes:
        server: Its name.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        super().__init__(f"The MCP server {server!r} cannot be reached")
