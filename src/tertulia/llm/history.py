"""Fitting a conversation into what a model can read at once."""

import json
from collections.abc import Sequence

from tertulia.domain.models import ModelRequest, PromptMessage
from tertulia.domain.parts import (
    FilePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    is_picture,
)

BYTES_PER_TOKEN = 3
"""Of UTF-8. English has about 4, Chinese 3 to 4 (one character), code 3; fewer is the safe side."""

FILE_TOKENS = 1_000
"""Of a picture: OpenAI counts 85 to about 1,100, Anthropic up to about 1,600."""

_NOT_READABLE = "(A file that this model cannot read.)"
_NOT_CALLED = "(The tool was not called.)"
MESSAGE_OVERHEAD_TOKENS = 8
"""What a chat template adds around each message: role, separators."""


def estimate_tokens(message: PromptMessage) -> int:
    """Return about how many tokens the message takes, rather too many than too few."""
    size_bytes = sum(_size_bytes(part) for part in message.parts)
    return -(-size_bytes // BYTES_PER_TOKEN) + MESSAGE_OVERHEAD_TOKENS


def estimate_prompt(request: ModelRequest) -> int:
    """Return about how many tokens a request's messages and tools take, rather too many."""
    tools = sum(len(json.dumps(tool).encode()) for tool in request.settings.tools)
    return sum(map(estimate_tokens, request.messages)) + -(-tools // BYTES_PER_TOKEN)


def fit(messages: Sequence[PromptMessage], *, budget_tokens: int) -> list[PromptMessage]:
    """Return the messages that fit: leading `system` ones and the newest of the others, in order.

    The last user message and what follows it are always kept, whatever their size: without them
    there is nothing to answer. A tool result never stays without the call that it answers.

    Args:
        messages: Oldest first.
        budget_tokens: For all of them together; the answer needs its own room.
    """
    lead = 0
    while lead < len(messages) and messages[lead].role == "system":
        lead += 1
    system, rest = list(messages[:lead]), messages[lead:]
    must_from = next(
        (at for at in range(len(rest) - 1, -1, -1) if rest[at].role == "user"),
        max(0, len(rest) - 1),
    )
    left = budget_tokens - sum(map(estimate_tokens, (*system, *rest[must_from:])))
    begin = must_from
    while begin > 0 and (cost := estimate_tokens(rest[begin - 1])) <= left:
        left -= cost
        begin -= 1
    while begin < must_from and rest[begin].role == "tool":
        begin += 1
    return system + list(rest[begin:])


def pair_tool_calls(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return the messages with every tool call answered and every tool result called for.

    Providers want the results right behind their calls, and refuse a whole conversation in which
    one is missing. A result that came later, after other words, is moved there; a call without
    any, as when its user went on talking instead, gets one that says so; a result without a call
    is left out.
    """
    results = _results(messages)
    paired: list[PromptMessage] = []
    for at, message in enumerate(messages):
        if message.role == "tool":
            continue
        paired.append(message)
        calls = _calls(message)
        if calls:
            answers = (
                results.get((at, call)) or ToolResultPart(call, _NOT_CALLED) for call in calls
            )
            paired.append(PromptMessage("tool", tuple(answers)))
    return paired


def without_files(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Return the messages as a model is told them that can read words only."""
    return [
        PromptMessage(
            message.role,
            tuple(
                TextPart(_NOT_READABLE) if isinstance(part, FilePart) else part
                for part in message.parts
            ),
        )
        for message in messages
    ]


def _results(messages: Sequence[PromptMessage]) -> dict[tuple[int, str], ToolResultPart]:
    """Return each call's result, by the place of its message and its id.

    Ids may be used again, by other answers: a result belongs to the last call before it.
    """
    found: dict[tuple[int, str], ToolResultPart] = {}
    open_calls: dict[str, int] = {}
    for at, message in enumerate(messages):
        if message.role != "tool":
            open_calls.update(dict.fromkeys(_calls(message), at))
            continue
        for part in message.parts:
            if isinstance(part, ToolResultPart) and part.call_id in open_calls:
                found[open_calls.pop(part.call_id), part.call_id] = part
    return found


def _calls(message: PromptMessage) -> list[str]:
    if message.role != "assistant":
        return []
    return [part.call_id for part in message.parts if isinstance(part, ToolCallPart)]


def _size_bytes(part: Part) -> int:
    match part:
        case ToolCallPart(call_id, name, arguments):
            return len((call_id + name + arguments).encode(errors="replace"))
        case ToolResultPart(call_id, content):
            return len((call_id + content).encode(errors="replace"))
        case ReasoningPart():
            # Reasoning is not sent back.
            return 0
        case FilePart(url):
            # A picture costs a model what its size in pixels says, not the length of its code.
            return FILE_TOKENS * BYTES_PER_TOKEN if is_picture(part) else len(url)
        case _:
            return len(part.text.encode(errors="replace"))
