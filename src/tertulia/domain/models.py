"""Language models: their names, what they are asked, what they stream back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeAlias, TypeVar

from tertulia.domain.parts import Part

Number = TypeVar("Number", int, Decimal)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model on offer, and what it can do."""

    name: str
    """`provider:model`, as in `local:smollm2`."""
    provider: str
    is_default: bool
    context_tokens: int | None
    """How much it can read at once, if known."""
    continues_prefix: bool
    """Whether it can go on from the stored beginning of an answer (after a crash)."""
    tools: bool
    reasoning: bool


@dataclass(frozen=True, slots=True)
class PromptMessage:
    """One message as a model sees it."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model should answer. None leaves a choice to the provider."""

    temperature: float | None = None
    """0 to 2."""
    top_p: float | None = None
    """Above 0, to 1."""
    max_tokens: int | None = None
    """Of the answer."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """At most 4 strings at which the answer ends."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Function tools in OpenAI's shape; their calls end the answer and are the client's to make."""
    tool_choice: str | Mapping[str, Any] | None = None
    """`none`, `auto`, `required`, or one function, in OpenAI's shape."""
    parallel_tool_calls: bool | None = None
    response_format: Mapping[str, Any] | None = None
    """`json_object` or `json_schema`, in OpenAI's shape."""
    presence_penalty: float | None = None
    """-2 to 2."""
    frequency_penalty: float | None = None
    """-2 to 2."""
    reasoning_effort: str | None = None
    """`none`, `minimal`, `low`, `medium`, `high` … as the provider knows it."""
    verbosity: str | None = None
    """`low`, `medium` or `high`."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """Everything a provider is told."""

    model: str
    """`provider:model`."""
    messages: Sequence[PromptMessage]
    settings: ModelSettings = field(default_factory=ModelSettings)
    prefix: str = ""
    """The beginning of the answer that is stored already; only for models that continue one."""
    pause: Callable[[], Awaitable[None] | None] = field(
        default=lambda: None, compare=False, repr=False
    )
    """Asked by providers that can leave an answer that has begun in its connection for a while,
    before each look for more: until when? None: go on. What comes meanwhile is read together."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str
    pieces: int = field(default=1, compare=False)
    """In how many the provider sent it: about as many tokens."""


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the model's reasoning."""

    text: str
    pieces: int = field(default=1, compare=False)
    """In how many the provider sent it: about as many tokens."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole tool call (providers stream them in pieces; followers get them whole)."""

    call_id: str
    name: str
    arguments: str
    server: str | None = None
    """As in `parts.ToolCallPart`; no provider knows."""
    approval: Literal["ask"] | None = None
    """The same."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. None where nobody said."""

    prompt_tokens: int | None = None
    response_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the prompt tokens, those read from the provider's cache."""
    reasoning_tokens: int | None = None
    """Of the response tokens, those spent on reasoning."""
    cost_usd: Decimal | None = None

    @property
    def total_tokens(self) -> int | None:
        """Prompt and response together, if both are known."""
        if self.prompt_tokens is None or self.response_tokens is None:
            return None
        return self.prompt_tokens + self.response_tokens

    def __add__(self, other: "Usage") -> "Usage":
        """Return what both cost together, as far as somebody said."""
        return Usage(
            prompt_tokens=_sum(self.prompt_tokens, other.prompt_tokens),
            response_tokens=_sum(self.response_tokens, other.response_tokens),
            cached_tokens=_sum(self.cached_tokens, other.cached_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, other.reasoning_tokens),
            cost_usd=_sum(self.cost_usd, other.cost_usd),
        )


def _sum(one: Number | None, other: Number | None) -> Number | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


@dataclass(frozen=True, slots=True)
class Finish:
    """The last item of every stream that ends well."""

    reason: str
    """`stop`, `length`, `tool_calls` or `content_filter`."""
    usage: Usage
    request_id: str | None
    """The provider's name for the request, for its support desk."""


Delta: TypeAlias = TextDelta | ReasoningDelta | ToolCall | Finish


class ProviderFailed(Exception):  # noqa: N818  named for what happened, as in errors.py
    """A model's provider did not answer as it should.

    It ends a run, never an HTTP request: a provider's 500 is never our 500.

    Attributes:
        code: Stable and documented in `docs/provider-faults.md`.
        message: One sentence for people, without secrets.
        status: The HTTP status to store with the answer, as in the first seed's `status_code`.
    """

    def __init__(self, code: str, message: str, *, status: int = 502) -> None:
        self.code = code
        self.message = message
        self.status = status
        super().__init__(f"{code}: {message}")
