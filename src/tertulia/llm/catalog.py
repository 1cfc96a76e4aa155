"""Every model on offer, by one name each."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from time import monotonic

from tertulia.domain.errors import ModelNotFound
from tertulia.domain.models import (
    Delta,
    Finish,
    ModelInfo,
    ModelRequest,
    ProviderFailed,
    ReasoningDelta,
    TextDelta,
    Usage,
)

from .providers import Provider

MAX_MODEL_NAME_CHARS = 200
_BARE_NAMES_MEAN = "openai"


@dataclass
class ModelCatalog:
    """All configured providers, and the names of their models.

    Raises:
        ValueError: `default` names no model of `providers`.
    """

    providers: Mapping[str, Provider]
    """By the part of a model's name before the first colon."""
    default: str
    """`provider:model`, for whoever names none."""
    max_answer_chars: int = 1_000_000
    """Of text, reasoning and tool calls together; the answer ends there with `length`."""
    list_max_age_s: float = 60.0
    list_retry_s: float = 10.0
    """How long a list is kept that lacks a provider which could not list its models."""
    _listed: tuple[ModelInfo, ...] | None = field(default=None, init=False)
    _stale_at: float = field(default=0.0, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        if self._find(self.default) is None:
            raise ValueError(f"The default model {self.default!r} is not available")

    def resolve(self, name: str | None, *, strict: bool = True) -> str:
        """Return the full name of the model that is meant.

        Args:
            name: `provider:model`; a bare name means OpenAI's; None means the default.
            strict: Whether somebody asks for just this model now. A label that a conversation
                carries (the first seed's "gpt-3.5-turbo") means the default where it means
                nothing else.

        Raises:
            ModelNotFound: No such model, and `strict`.
        """
        if name is None:
            return self.default
        full = name if ":" in name else f"{_BARE_NAMES_MEAN}:{name}"
        if self._find(full) is not None and (strict or not self._is_missing(full)):
            return full
        if strict:
            raise ModelNotFound(field="body.model_type")
        return self.default

    async def list(self) -> list[ModelInfo]:
        """Return every model that can be asked for now, the default one first.

        A provider that cannot tell is left out. The answer may be `list_max_age_s` old.
        """
        async with self._lock:
            if self._listed is None or monotonic() >= self._stale_at:
                lists = await asyncio.gather(*map(_models_or_none, self.providers.values()))
                self._listed = self._arrange([info for some in lists for info in some or ()])
                is_whole = all(some is not None for some in lists)
                keep_s = self.list_max_age_s if is_whole else self.list_retry_s
                self._stale_at = monotonic() + keep_s
            return list(self._listed)

    def info(self, name: str) -> ModelInfo:
        """Return what is known of a model, without asking its provider.

        Raises:
            ModelNotFound: No such model.
        """
        for listed in self._listed or ():
            if listed.name == name:
                return listed
        info = self._find(name)
        if info is None:
            raise ModelNotFound(field="body.model_type")
        return replace(info, is_default=name == self.default)

    def continues_prefix(self, name: str) -> bool:
        """Whether the model can go on from the stored beginning of an answer."""
        provider_name, _, model = name.partition(":")
        provider = self.providers.get(provider_name)
        return provider is not None and provider.continues_prefix(model)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta]:
        """Stream one answer of `request.model`; see `Provider.stream`.

        `Finish.usage` carries the cost where a price is known.

        Raises:
            ModelNotFound: No such model.
            ProviderFailed: With a code of `docs/provider-faults.md`.
        """
        if self._find(request.model) is None:
            raise ModelNotFound(field="body.model_type")
        provider_name, _, model = request.model.partition(":")
        provider = self.providers[provider_name]
        left = self.max_answer_chars - len(request.prefix)
        async with aclosing(provider.stream(request)) as deltas:
            async for delta in deltas:
                if isinstance(delta, Finish):
                    # The first use of the price table takes half a second.
                    cost = await asyncio.to_thread(provider.cost_usd, model, delta.usage)
                    yield replace(delta, usage=replace(delta.usage, cost_usd=cost))
                    return
                left -= _size_chars(delta)
                if left < 0:
                    if isinstance(delta, TextDelta | ReasoningDelta) and delta.text[:left]:
                        yield replace(delta, text=delta.text[:left])
                    break
                yield delta
        yield Finish("length", Usage(), None)

    async def close(self) -> None:
        """Close every provider."""
        await asyncio.gather(*(provider.close() for provider in self.providers.values()))

    def _find(self, name: str) -> ModelInfo | None:
        provider_name, _, model = name.partition(":")
        provider = self.providers.get(provider_name)
        if provider is None or not model or len(name) > MAX_MODEL_NAME_CHARS:
            return None
        return provider.describe(model)

    def _is_missing(self, name: str) -> bool:
        """Whether the provider has listed its models lately, and this one was not there."""
        provider_name = name.partition(":")[0]
        listed = [info.name for info in self._listed or () if info.provider == provider_name]
        return bool(listed) and name not in listed

    def _arrange(self, models: Sequence[ModelInfo]) -> tuple[ModelInfo, ...]:
        others = tuple(info for info in models if info.name != self.default)
        default = next((info for info in models if info.name == self.default), None)
        first = default or self._find(self.default)
        return (replace(first, is_default=True), *others) if first else others


async def _models_or_none(provider: Provider) -> list[ModelInfo] | None:
    try:
        return await provider.models()
    except ProviderFailed:
        return None


def _size_chars(delta: Delta) -> int:
    match delta:
        case TextDelta(text) | ReasoningDelta(text):
            return len(text)
        case Finish():
            return 0
        case _:
            return len(delta.arguments) + len(delta.name)
