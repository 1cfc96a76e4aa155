"""The translation between our words and pydantic-ai's. Importing it imports pydantic-ai."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from pydantic_ai import exceptions, messages
from pydantic_ai.direct import model_request_stream
from pydantic_ai.models import Model, StreamedResponse, infer_model, known_model_names
from pydantic_ai.providers import Provider, infer_provider_class

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
from .openai_chunks import (
    MAX_REQUEST_ID_CHARS,
    MAX_TOOL_CALLS,
    MAX_TOOL_CHARS,
    count_or_none,
)
from .patience import Patience
from .pydantic_asking import check, their_parameters, their_settings
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
        translation = _Translation()
        try:
            async with AsyncExitStack() as stack:
                stream = await self._open_stream(stack, request)
                events = aiter(stream)
                wait_s = self._patience.first_byte_s
                while (event := await _next(events, wait_s)) is not None:
                    for delta in translation.read(event):
                        yield delta
                    wait_s = self._patience.stall_s
                for delta in translation.finish(stream):
                    yield delta
        except Fault:
            raise
        except Exception as error:  # the SDKs beneath leak exceptions of their own
            raise fault_of(error, began=translation.began) from error

    async def _open_stream(self, stack: AsyncExitStack, request: ModelRequest) -> StreamedResponse:
        model = self._model(request.model)
        async with asyncio.timeout(self._patience.connect_s + self._patience.first_byte_s):
            return await stack.enter_async_context(
                model_request_stream(
                    model,
                    their_messages(request.messages),
                    model_settings=their_settings(request.settings, self._patience),
                    model_request_parameters=their_parameters(request.settings),
                )
            )

    def check(self, name: str, settings: ModelSettings, *, calls_tools: bool) -> None:
        """Make sure that a model can do what is asked of it; see `pydantic_asking.check`.

        Raises:
            Invalid: It cannot.
        """
        check(self._model(name), self._name, settings, calls_tools=calls_tools)

    def _model(self, name: str) -> Model:
        return infer_model(name, provider_factory=lambda _: self._provider)


class _Translation:
    """The state of one stream."""

    def __init__(self) -> None:
        self._text = TextMender()
        self._reasoning = TextMender()
        self._has_text = False
        self._has_output = False
        self._calls = 0
        self._call_chars = 0

    @property
    def began(self) -> bool:
        """Whether anything of the answer has come, if only a piece of a tool call."""
        return self._has_output or self._calls > 0

    def read(self, event: messages.ModelResponseStreamEvent) -> list[Delta]:
        """Return what an event says.

        Raises:
            Fault: There are too many tool calls, or too much in them.
        """
        match event:
            case messages.PartStartEvent(part=messages.TextPart(content=text)):
                return self._text_delta(text)
            case messages.PartDeltaEvent(delta=messages.TextPartDelta(content_delta=text)):
                return self._text_delta(text)
            case messages.PartStartEvent(part=messages.ThinkingPart(content=text)):
                return self._reasoning_delta(text)
            case messages.PartDeltaEvent(delta=messages.ThinkingPartDelta(content_delta=text)):
                return self._reasoning_delta(text or "")
            case messages.PartStartEvent(part=messages.ToolCallPart() as part):
                self._calls += 1
                self._count(part.args)
            case messages.PartDeltaEvent(delta=messages.ToolCallPartDelta() as delta):
                self._count(delta.args_delta)
            case _:
                pass
        return []

    def finish(self, stream: StreamedResponse) -> list[Delta]:
        response = stream.get()
        calls: list[Delta] = [
            _tool_call(part) for part in response.parts if isinstance(part, messages.ToolCallPart)
        ]
        # A reason that the library does not know is an ordinary end.
        reason_known = response.finish_reason
        if reason_known is None and not (response.provider_details or {}).get("finish_reason"):
            raise Fault(faults.incomplete().failure, may_retry=not self.began)
        reason = _FINISH_REASONS.get(reason_known or "", "stop")
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

    def _count(self, arguments: object) -> None:
        # The library gathers them until the end, however much they are.
        self._call_chars += len(arguments) if isinstance(arguments, str) else len(str(arguments))
        if self._calls > MAX_TOOL_CALLS:
            raise faults.invalid_response("too many tool calls")
        if self._call_chars > MAX_TOOL_CHARS:
            raise faults.invalid_response("a tool call that is too large")

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


def _tool_call(part: messages.ToolCallPart) -> ToolCall:
    """Return a call as the model wrote it.

    Raises:
        Fault: It has no name.
    """
    if not part.tool_name:
        raise faults.invalid_response("a tool call without a name")
    # The library would wrap what is not JSON, and write the rest anew.
    written = part.args if isinstance(part.args, str) else part.args_as_json_str()
    return ToolCall(
        storable(part.tool_call_id), storable(part.tool_name), storable(written) or "{}"
    )


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


async def _next(events: AsyncIterator[_Item], wait_s: float) -> _Item | None:
    async with asyncio.timeout(wait_s):
        return await anext(events, None)


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
