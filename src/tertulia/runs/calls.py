"""Tool calls in answers: their ids, and where an answer can be taken up again."""

import itertools
from collections.abc import Collection, Sequence

from tertulia.domain.errors import Invalid
from tertulia.domain.ids import new_id
from tertulia.domain.models import PromptMessage
from tertulia.domain.parts import Part, ToolCallPart, ToolResultPart
from tertulia.runs.send import Send
from tertulia.tools.names import server_of

_CALL_ID_CHARS_MAX = 64
"""OpenAI and others take no longer ones back."""


def count_rounds(parts: Sequence[Part]) -> int:
    """Return how often the model has asked for calls, some at once, in an answer."""
    before: list[Part | None] = [None, *parts]
    return sum(
        isinstance(part, ToolCallPart) and not isinstance(earlier, ToolCallPart)
        for earlier, part in zip(before, parts, strict=False)
    )


def split(parts: Sequence[Part]) -> tuple[Sequence[Part], Sequence[Part]]:
    """Return what of an answer whose tools are called here stays in any case, and the rest.

    What a tool has done cannot be taken back, so neither can its call: a model that cannot go on
    in the middle of its words is asked again after the last result.
    """
    kept = 0
    for at, part in enumerate(parts):
        if isinstance(part, (ToolCallPart, ToolResultPart)):
            kept = at + 1
    return parts[:kept], parts[kept:]


class CallIds:
    """Gives every call of an answer an id that it can be answered by, over every protocol.

    A provider's own is kept if it is short, readable, no other call's that the model is told of,
    and can stand in a path. Some models number their calls anew in each answer.

    Args:
        told: The messages that the model is told.
    """

    def __init__(self, told: Sequence[PromptMessage]) -> None:
        tooled = (ToolCallPart, ToolResultPart)
        parts = (part for message in told for part in message.parts)
        self._taken = {part.call_id for part in parts if isinstance(part, tooled)}

    def take(self, given: str) -> str:
        """Return the id of a call that its provider has given this one."""
        name = given if _is_usable(given) else f"call_{new_id().hex}"
        # Cut only when it is taken: then its end is what tells it apart.
        others = (f"{name[: _CALL_ID_CHARS_MAX - 8]}-{number}" for number in itertools.count(2))
        id_ = next(id_ for id_ in itertools.chain((name,), others) if id_ not in self._taken)
        self._taken.add(id_)
        return id_


def _is_usable(call_id: str) -> bool:
    dots = {"", ".", ".."}
    return (
        0 < len(call_id) <= _CALL_ID_CHARS_MAX
        and call_id.isprintable()
        and call_id == call_id.strip()
        and dots.isdisjoint(call_id.split("/"))
    )


def check_servers(send: Send, configured: Collection[str]) -> None:
    """Accept a send that names only servers that there are, and no tools of theirs as its own.

    Raises:
        Invalid: It does not.
    """
    for at, name in enumerate(send.mcp):
        if name not in configured:
            wrong = f"body.mcp[{at}]"
            raise Invalid("No MCP server of that name is configured here", field=wrong)
    for at, tool in enumerate(send.settings.tools if send.mcp else ()):
        if server_of(tool.get("function", {}).get("name", "")) in send.mcp:
            wrong = f"body.tools[{at}].function.name"
            raise Invalid("Names that begin so are those of the MCP server's tools", field=wrong)
