"""What an OpenAI-compatible provider is asked: the body of `POST /chat/completions`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from tertulia.domain.models import ModelSettings, PromptMessage
from tertulia.domain.parts import (
    FilePart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    is_picture,
    text_of,
)

from .history import pair_tool_calls

Continuation: TypeAlias = Literal["none", "vllm", "llama.cpp", "deepseek"]
"""How a provider is asked to go on from the beginning of an answer, if it can."""

MaxTokensField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]
"""OpenAI's newer models refuse the first; most other servers know only the first."""


def chat_body(
    *,
    model: str,
    messages: Sequence[PromptMessage],
    settings: ModelSettings,
    prefix: str,
    continuation: Continuation,
    max_tokens_field: MaxTokensField,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the whole body, ready for JSON.

    Args:
        model: As the provider calls it.
        messages: Oldest first.
        settings: What is None is left out, so that the provider decides.
        prefix: The beginning of the answer, without trailing white space; empty for a new answer.
        continuation: How this provider takes the prefix.
        max_tokens_field: What it calls the limit of the answer.
        extra: Fields of its own; they win over nothing that is asked for here.
    """
    body: dict[str, Any] = {
        **extra,
        "model": model,
        "messages": [
            wire for message in pair_tool_calls(messages) for wire in wire_messages(message)
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    chosen: dict[str, Any] = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        max_tokens_field: settings.max_tokens,
        "seed": settings.seed,
        "stop": list(settings.stop) or None,
        "tools": list(settings.tools) or None,
        "tool_choice": settings.tool_choice if settings.tools else None,
        "parallel_tool_calls": settings.parallel_tool_calls if settings.tools else None,
        "response_format": settings.response_format,
        "presence_penalty": settings.presence_penalty,
        "frequency_penalty": settings.frequency_penalty,
        "reasoning_effort": settings.reasoning_effort,
        "verbosity": settings.verbosity,
    }
    body.update((name, value) for name, value in chosen.items() if value is not None)
    if prefix:
        beginning: dict[str, Any] = {"role": "assistant", "content": prefix}
        match continuation:
            case "vllm":
                body |= {"continue_final_message": True, "add_generation_prompt": False}
            case "deepseek":
                beginning["prefix"] = True
            case "llama.cpp":
                pass
            case "none":
                raise ValueError("This provider cannot continue a prefix")
        body["messages"].append(beginning)
    return body


def wire_messages(message: PromptMessage) -> list[dict[str, Any]]:
    """Return the message in OpenAI's shape: one, or one for each tool result.

    Reasoning is not sent back; providers ignore or refuse it.
    """
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    if message.role == "tool":
        return [
            {"role": "tool", "tool_call_id": result.call_id, "content": result.content}
            for result in results
        ]
    has_files = any(isinstance(part, FilePart) for part in message.parts)
    content = _wire_content(message.parts) if has_files else text_of(message.parts)
    wire: dict[str, Any] = {"role": message.role, "content": content}
    calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
    if calls:
        wire["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
        # With calls, no words are said with null: some servers refuse an empty string.
        if not any(isinstance(part, TextPart) and part.text for part in message.parts):
            wire["content"] = None
    return [wire]


def _wire_content(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return text, pictures and files, in order, as OpenAI's content parts."""
    content: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case TextPart(text):
                content.append({"type": "text", "text": text})
            case FilePart(url, _, name, detail) if is_picture(part):
                picture = {"url": url, "detail": detail}
                kept = {key: value for key, value in picture.items() if value}
                content.append({"type": "image_url", "image_url": kept})
            case FilePart(url, _, name, _):
                file = {"file_data": url, "filename": name or "file"}
                content.append({"type": "file", "file": file})
            case _:
                pass
    return content
