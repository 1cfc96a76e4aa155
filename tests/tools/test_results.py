from typing import Any

import pytest
from mcp_types import CallToolResult
from pydantic import TypeAdapter

from tertulia.tools.results import result_text

_RESULT = TypeAdapter(CallToolResult)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "a\nb"),
        ({"content": [{"type": "text", "text": "no"}], "isError": True}, "Error: no"),
        ({"content": []}, "(The tool answered nothing.)"),
        ({"content": [], "structuredContent": {"天": 1}}, '{"天": 1}'),
        (
            {"content": [{"type": "audio", "data": "AAAAAAAA", "mimeType": "audio/wav"}]},
            "(audio, audio/wav, about 6 bytes, is left out)",
        ),
        (
            {"content": [{"type": "resource_link", "uri": "file:///a", "name": "a"}]},
            "a, file:///a",
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "x:y", "text": "words"}}]},
            "words",
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "x:y", "blob": "AAAA"}}]},
            "(resource x:y, about 3 bytes, is left out)",
        ),
        (
            {"content": [{"type": "text", "text": "x" * 103}]},
            "x" * 100 + "\n(Cut here: 3 characters are left out.)",
        ),
    ],
)
def test_a_result_is_told_as_text(result: Any, said: str) -> None:  # noqa: ANN401  as in JSON
    assert result_text(_RESULT.validate_python(result), limit_chars=100) == said
