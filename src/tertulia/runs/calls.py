"""Tool calls in answers: which are open, and where an answer can be taken up again."""

from collections.abc import Collection, Sequence
from uuid import UUID

from tertulia.domain.errors import Invalid
from tertulia.domain.parts import Part, ToolCallPart, ToolResultPart
from tertulia.runs.send import Send
from tertulia.storage.unit_of_work import UnitOfWork
from tertulia.tools.names import server_of


def unanswered(parts: Sequence[Part]) -> Sequence[ToolCallPart]:
    """Return the calls of an answer that have no result in it, in order."""
    answered = {part.call_id for part in parts if isinstance(part, ToolResultPart)}
    calls = (part for part in parts if isinstance(part, ToolCallPart))
    return [call for call in calls if call.call_id not in answered]


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


async def find_open_calls(
    work: UnitOfWork, conversation_id: UUID, *, tip_id: UUID | None, user_id: UUID
) -> Sequence[ToolCallPart]:
    """Return the calls that wait for a result where a branch ends, in order.

    They are those of the last answer, if nothing but results came after it.
    """
    answered = set[str]()
    while tip_id is not None:
        message = await work.messages.get(tip_id, conversation_id=conversation_id, user_id=user_id)
        if message.generation is not None and message.generation.is_success is None:
            # It is being written, or waits for its turn.
            return []
        open_here = [call for call in unanswered(message.parts) if call.call_id not in answered]
        if open_here or any(not isinstance(part, ToolResultPart) for part in message.parts):
            return open_here
        answered |= {part.call_id for part in message.parts if isinstance(part, ToolResultPart)}
        tip_id = message.parent_id
    return []


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
