"""What a tool answered, as text for a model."""

import json
from collections.abc import Iterable

from mcp_types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

_BASE64_CHARS, _BASE64_BYTES = 4, 3


def result_text(result: CallToolResult, *, limit_chars: int) -> str:
    """Return all that a result says, in order; of what is no text, what it is.

    Args:
        result: As its server sent it.
        limit_chars: What is longer is cut, and says so.
    """
    said = [_said(block) for block in result.content]
    if not any(said) and result.structured_content is not None:
        said = [json.dumps(result.structured_content, ensure_ascii=False)]
    text = "\n".join(filter(None, said)) or "(The tool answered nothing.)"
    return bounded(f"Error: {text}" if result.is_error else text, limit_chars=limit_chars)


def bounded(text: str, *, limit_chars: int) -> str:
    """Return the text, cut if it is longer; a cut text says so at its end."""
    if len(text) <= limit_chars:
        return text
    return f"{text[:limit_chars]}\n(Cut here: {len(text) - limit_chars} characters are left out.)"


def _said(block: ContentBlock) -> str:
    match block:
        case TextContent():
            return block.text
        case ImageContent() | AudioContent():
            return _left_out(block.type, block.mime_type, block.data)
        case ResourceLink():
            described = [block.title or block.name, block.description, block.uri]
            return _line(described)
        case EmbeddedResource():
            resource = block.resource
            if isinstance(resource, TextResourceContents):
                return resource.text
            return _left_out(f"resource {resource.uri}", resource.mime_type, resource.blob)


def _left_out(what: str, mime_type: str | None, base64: str) -> str:
    size = len(base64) // _BASE64_CHARS * _BASE64_BYTES
    return f"({_line([what, mime_type])}, about {size} bytes, is left out)"


def _line(parts: Iterable[str | None]) -> str:
    return ", ".join(filter(None, parts))
