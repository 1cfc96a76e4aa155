"""How much of everything a tool server gets."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """Limits of every server."""

    connect_s: float = 10.0
    """To start or reach it, and again to list its tools."""
    call_s: float = 60.0
    """For one call."""
    result_chars: int = 50_000
    """Of one result; the rest is left out, and the model is told so."""
    answer_bytes: int = 8 * 1024 * 1024
    """Of one document that it sends over HTTP."""
    tools: int = 128
    """Of all servers of a run together: more are refused by providers."""
    tool_bytes: int = 32_768
    """Of a tool's description and schema; a larger one is left out."""
    pages: int = 20
    """Of a server's list of tools."""
