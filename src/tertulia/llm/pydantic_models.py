"""The translation between our words and pydantic-ai's. Importing it imports pydantic-ai."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from pydantic_ai import exceptions, messages
from pydantic_ai.direct import model_request_stream
from pydantic_ai.models import (
    Model,
    ModelRequestParameters,
    StreamedResponse,
    infer_model,
    known_model_names,
)
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.settings import ModelSettings as TheirSettings
from pydantic_ai.tools import ToolDefinition

from tertulia.domain.models import (
    Delta,
    Finish,
    ModelRequest,
    ModelSettings,
    PromptMessage,
    ProviderFailed,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    Usage,
)
from tertulia.domain.parts import (
    FilePart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
)

from . import faults
from .exact_text import TextMender, storable
from .faults import Fault
from .history import pair_tool_calls
from .openai_chunks import MAX_REQUEST_ID_CHARS, count_or_none
from .patience import Patience
from .pydantic_faults import fault_of

_Item = TypeVar("_Item")

_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "tool_call": "tool_calls",
    "content_filter": "content_filter",
}


class PydanticModels:
    """All models of one provider of pydantic-ai.

    Args:
        name: As pydantic-ai calls the provider.
        options: Arguments of its provider class.
        patience: The times to wait.

    Raises:
        ImportError: The provider's own package is not installed.
        ProviderFailed: `provider_unauthorized`; a key or the like is missing.
    """

    def __init__(self, name: str, options: Mapping[str, str], patience: Patience) -> None:
        self._name = name
        self._patience = patience
        self._resources = AsyncExitStack()
        try:
            self._provider: Provider[Any] = infer_provider_class(name)(**options)
        except (exceptions.UserError, TypeError, ValueError) as error:
            raise ProviderFailed(
                "provider_unauthorized",
                f"The provider {name!r} is not configured: {faults.clean(str(error))}",
                status=401,
            ) from error

    async def open(self) -> None:
        """Take the provider's HTTP client, which `close` closes."""
        await self._resources.enter_async_context(self._provider)

    async def close(self) -> None:
        """Close every connection."""
        await self._resources.aclose()

    def known_models(self) -> list[str]:
        """Return the names that pydantic-ai knows: newer and older ones exist."""
        prefix = f"{self._name}:"
        return [
            name.removeprefix(prefix) for name in known_model_names() if name.startswith(prefix)
        ]

    async def answer(self, request: ModelRequest) -> AsyncGenerator[Delta]:
        """Ask once. Raises `Fault` and nothing else."""
        began = False
        try:
            async with AsyncExitStack() as stack:
                stream = await self._open_stream(stack, request)
                translation = _Translation()
                events = aiter(stream)
                wait_s = self._patience.first_byte_s
                while (event := await _next(events, wait_s)) is not None:
                    for delta in translation.read(event):
                        began = True
                        yield delta
                    wait_s = self._patience.stall_s
                for delta in translation.finish(stream):
                    yield delta
        except Fault:
            raise
        except Exception as error:  # the SDKs beneath leak exceptions of their own
            raise fault_of(error, began=began) from error

    async def _open_stream(self, stack: AsyncExitStack, request: ModelRequest) -> StreamedResponse:
        model: Model = infer_model(request.model, provider_factory=lambda _: self._provider)
        async with asyncio.timeout(self._patience.connect_s + self._patience.first_byte_s):
            return await stack.enter_async_context(
                model_request_stream(
                    model,
                    their_messages(request.messages),
                    model_settings=their_settings(request.settings, self._patience),
                    model_request_parameters=ModelRequestParameters(
                        function_tools=[_their_tool(tool) for tool in request.settings.tools]
                    ),
                )
            )


class _Translation:
    """The state of one stream."""

    def __init__(self) -> None:
        self._text = TextMender()
        self._reasoning = TextMender()
        self._has_text = False
        self._has_output = False

    def read(self, event: messages.ModelResponseStreamEvent) -> list[Delta]:
        match event:
            case messages.PartStartEvent(part=messages.TextPart(content=text)):
                return self._text_delta(text)
            case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)):
                return self._text_delta(text)
            case messages.PartStartEvent(part=messages.ThinkingPart(content=text)):
                return self._reasoning_delta(text)
            case messages.PartDeltaEvent(delta=messages.ThinkingPartDelta(content_delta=text)):
                return self._reasoning_delta(text or "")
            case _:
                return []

    def finish(self, stream: StreamedResponse) -> list[Delta]:
        response = stream.get()
        calls: list[Delta] = [
            ToolCall(
                storable(part.tool_call_id),
                storable(part.tool_name),
                storable(part.args_as_json_str()),
            )
            for part in response.parts
            if isinstance(part, messages.ToolCallPart)
        ]
        if response.finish_reason is None:
            raise (
                faults.incomplete() if not self._has_output else Fault(faults.incomplete().failure)
            )
        reason = _FINISH_REASONS.get(response.finish_reason, "stop")
        if reason == "content_filter" and not self._has_text:
            raise faults.content_filtered()
        if not self._has_output and not calls:
            raise faults.empty_answer()
        if calls and reason == "stop":
            reason = "tool_calls"
        ending: list[Delta] = []
        if rest := self._text.rest():
            ending.append(TextDelta(rest))
        return [*ending, *calls, Finish(reason, _usage_of(response), _request_id_of(response))]

    def _text_delta(self, text: str) -> list[Delta]:
        mended = self._text.mend(text)
        if not mended:
            return []
        self._has_text = self._has_output = True
        return [TextDelta(mended)]

    def _reasoning_delta(self, text: str) -> list[Delta]:
        mended = self._reasoning.mend(text)
        if not mended:
            return []
        self._has_output = True
        return [ReasoningDelta(mended)]


def their_messages(prompt: Sequence[PromptMessage]) -> list[messages.ModelMessage]:
    """Return the conversation in pydantic-ai's shape. Reasoning is not sent back."""
    theirs: list[messages.ModelMessage] = []
    tool_names: dict[str, str] = {}
    for message in pair_tool_calls(prompt):
        text = text_of(message.parts)
        match message.role:
            case "assistant":
                parts: list[messages.ModelResponsePart] = []
                for part in message.parts:
                    if isinstance(part, TextPart):
                        parts.append(messages.TextPart(part.text))
                    elif isinstance(part, ToolCallPart):
                        tool_names[part.call_id] = part.name
                        parts.append(messages.ToolCallPart(part.name, part.arguments, part.call_id))
                theirs.append(messages.ModelResponse(parts))
            case "tool":
                results = [
                    messages.ToolReturnPart(tool_names[part.call_id], part.content, part.call_id)
                    for part in message.parts
                    if isinstance(part, ToolResultPart)
                ]
                theirs.append(messages.ModelRequest(results))
            case "system":
                theirs.append(messages.ModelRequest([messages.SystemPromptPart(text)]))
            case _:
                said = messages.UserPromptPart(_user_content(message.parts))
                theirs.append(messages.ModelRequest([said]))
    return theirs


def _user_content(parts: Sequence[Part]) -> str | list[messages.UserContent]:
    """Return what a user said and showed.

    Raises:
        Fault: A file is named by a URL. For some providers the library would fetch it,
            from here; nobody here follows what a user wrote.
    """
    if not any(isinstance(part, FilePart) for part in parts):
        return text_of(parts)
    content: list[messages.UserContent] = []
    for part in parts:
        if isinstance(part, TextPart):
            content.append(part.text)
        elif isinstance(part, FilePart):
            if not part.url.startswith("data:"):
                raise _unreadable(
                    "Files for this provider are sent as data (a data: URL), not by their address"
                )
            content.append(_binary(part))
    return content


def _binary(part: FilePart) -> messages.BinaryContent:
    try:
        return messages.BinaryContent.from_data_uri(part.url)
    except ValueError as error:
        raise _unreadable("A file's data: URL cannot be read") from error


def _unreadable(message: str) -> Fault:
    return Fault(ProviderFailed("provider_rejected", message, status=400))


def their_settings(settings: ModelSettings, patience: Patience) -> TheirSettings:
    """Return the settings in pydantic-ai's shape, with its SDKs' own retries off."""
    theirs = TheirSettings(
        max_retries=0,
        timeout=patience.connect_s + patience.first_byte_s + patience.stall_s,
        first_event_timeout=patience.connect_s + patience.first_byte_s,
    )
    if settings.temperature is not None:
        theirs["temperature"] = settings.temperature
    if settings.top_p is not None:
        theirs["top_p"] = settings.top_p
    if settings.max_tokens is not None:
        theirs["max_tokens"] = settings.max_tokens
    if settings.seed is not None:
        theirs["seed"] = settings.seed
    if settings.presence_penalty is not None:
        theirs["presence_penalty"] = settings.presence_penalty
    if settings.frequency_penalty is not None:
        theirs["frequency_penalty"] = settings.frequency_penalty
    if settings.tools and settings.parallel_tool_calls is not None:
        theirs["parallel_tool_calls"] = settings.parallel_tool_calls
    if settings.stop:
        theirs["stop_sequences"] = list(settings.stop)
    return theirs


async def _next(events: AsyncIterator[_Item], wait_s: float) -> _Item | None:
    async with asyncio.timeout(wait_s):
        return await anext(events, None)


def _their_tool(tool: Mapping[str, Any]) -> ToolDefinition:
    """Return a function tool in OpenAI's shape as pydantic-ai's."""
    function: Mapping[str, Any] = tool.get("function", {})
    return ToolDefinition(
        name=str(function.get("name", "")),
        description=function.get("description"),
        parameters_json_schema=function.get("parameters") or {"type": "object", "properties": {}},
        strict=function.get("strict"),
    )


def _usage_of(response: messages.ModelResponse) -> Usage:
    usage = response.usage
    if not usage.input_tokens and not usage.output_tokens:
        return Usage()
    return Usage(
        prompt_tokens=count_or_none(usage.input_tokens),
        response_tokens=count_or_none(usage.output_tokens),
        cached_tokens=count_or_none(usage.cache_read_tokens),
        reasoning_tokens=count_or_none(usage.details.get("reasoning_tokens")),
    )


def _request_id_of(response: messages.ModelResponse) -> str | None:
    given = response.provider_response_id
    return storable(given[:MAX_REQUEST_ID_CHARS]) if given else None
