"""Every model on offer, by one name each."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from tertulia.domain.embeddings import Embedded, EmbeddingRequest
from tertulia.domain.errors import ModelNotFound
from tertulia.domain.models import (
    Delta,
    Finish,
    ModelInfo,
    ModelRequest,
    ModelSettings,
    ReasoningDelta,
    TextDelta,
    Usage,
)

from .embedders import Embedder
from .history import estimate_prompt
from .lists import ModelLists
from .names import MAX_MODEL_NAME_CHARS, full_name, is_well_formed, provider_of
from .providers import Provider, TokenCounter

_FIELD = "body.model_type"
_NO_SUCH_EMBEDDING = "No such embedding model is available on this server"


@dataclass
class ModelCatalog:
    """All configured providers, and the names of their models.

    Raises:
        ValueError: `default`, or a name in `offered`, is no model of `providers`.
    """

    providers: Mapping[str, Provider]
    """By the part of a model's name before the first colon."""
    default: str
    """`provider:model`, for whoever names none."""
    offered: Sequence[str] | None = None
    """The full names of all that is on offer; no provider is asked for its list then."""
    max_answer_chars: int = 1_000_000
    """Of text, reasoning and tool calls together; the answer ends there with `length`."""
    list_wait_s: float = 3.0
    """For the lists of all providers together."""
    list_every_s: float = 30.0
    list_retry_s: float = 10.0
    """How soon a provider is asked again that could not list its models."""
    embedders: Mapping[str, Embedder] = field(default_factory=dict[str, Embedder])
    """By the part of a model's name before the first colon."""
    default_embedding: str | None = None
    """The embedding model that every server has, as `provider:model`; None: this one has none."""
    _lists: ModelLists = field(init=False)

    def __post_init__(self) -> None:
        for name in self.offered or ():
            if self._find(name) is None:
                raise ValueError(f"The model {name!r} cannot be offered: nobody provides it")
        if self._find(self.default) is None:
            raise ValueError(f"The default model {self.default!r} is not available")
        self._lists = ModelLists(
            tuple(self.providers.values()) if self.offered is None else (),
            wait_s=self.list_wait_s,
            every_s=self.list_every_s,
            retry_s=self.list_retry_s,
        )

    async def keep_fresh(self) -> None:
        """Ask the providers for their lists now and again, until cancelled."""
        await self._lists.keep_fresh()

    async def wait_for_lists(self) -> None:
        """Return when every provider has been asked for its list once, or could not tell.

        At once but in a process's first seconds. What `resolve` says then does not depend on how
        long the process has run.
        """
        await self._lists.wait_for_first()

    def resolve(self, name: str | None, *, strict: bool = True) -> str:
        """Return the full name of the model that is meant.

        A provider that has not listed its models lately, or never lists all of them, may have any.

        Args:
            name: A full name; a bare one means OpenAI's; None means the default.
            strict: Whether somebody asks for just this model now. Of a conversation's label a full
                name may be one that its provider does not list (it will say so itself). The
                default is meant by one that nobody here can be asked for any more, and by a bare
                one that OpenAI does not list (the first seed's "gpt-3.5-turbo").

        Raises:
            ModelNotFound: No such model.
        """
        if name is None or name == self.default:
            return self.default
        full = full_name(name)
        may_exist = is_well_formed(name) and self._find(full) is not None
        if name != full and not strict:
            # However old the list: a provider that is away a while does not change what is meant.
            return full if may_exist and not self._is_left_out(full, lately=False) else self.default
        if may_exist and not (strict and self._is_left_out(full, lately=True)):
            return full
        if not strict:
            return self.default
        raise ModelNotFound(field=_FIELD)

    async def list(self) -> list[ModelInfo]:
        """Return every model that can be asked for now, the default one first.

        A provider that cannot tell is left out. The answer may be `list_every_s` old.
        """
        if self.offered is None:
            models = await self._lists.models()
        else:
            models = [info for info in map(self._find, self.offered) if info is not None]
        others = (info for info in models if info.name != self.default)
        return [self.info(self.default), *others]

    def info(self, name: str) -> ModelInfo:
        """Return what is known of a model, without asking its provider.

        Raises:
            ModelNotFound: No such model.
        """
        described = self._find(name)
        if described is None:
            raise ModelNotFound(field=_FIELD)
        return replace(self._lists.find(name) or described, is_default=name == self.default)

    def continues_prefix(self, name: str) -> bool:
        """Whether the model can go on from the stored beginning of an answer."""
        provider_name, _, model = name.partition(":")
        provider = self.providers.get(provider_name)
        return provider is not None and provider.continues_prefix(model)

    async def check(self, name: str, settings: ModelSettings, *, calls_tools: bool) -> None:
        """Make sure that a model can do what is asked of it; see `Provider.check`.

        Raises:
            Invalid: It cannot.
        """
        provider_name, _, model = name.partition(":")
        await self.providers[provider_name].check(model, settings, calls_tools=calls_tools)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta]:
        """Stream one answer of `request.model`; see `Provider.stream`.

        `Finish.usage` carries the cost where a price is known.

        Raises:
            ModelNotFound: No such model.
            ProviderFailed: With a code of `docs/provider-faults.md`.
        """
        if self._find(request.model) is None:
            raise ModelNotFound(field=_FIELD)
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

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return how many tokens a request's prompt is; estimated, unless its provider knows.

        Raises:
            ProviderFailed: Its provider knows, and cannot count now.
        """
        provider = self.providers[provider_of(request.model)]
        if isinstance(provider, TokenCounter):
            return await provider.count_tokens(request)
        return await asyncio.to_thread(estimate_prompt, request)

    async def resolve_embedding(self, name: str | None) -> str:
        """Return the full name of the embedding model that is meant.

        Args:
            name: A full name; a bare one is the default's, or means OpenAI's; None means the
                default.

        Raises:
            ModelNotFound: No such model.
        """
        default = self.default_embedding
        if default is not None and name in (None, default, default.partition(":")[2]):
            return default
        full = full_name(name or "")
        embedder = self.embedders.get(provider_of(full))
        if name and embedder and is_well_formed(full) and full != f"{embedder.name}:":
            await self.wait_for_lists()
            if self._has_embedding(embedder, full):
                return full
        raise ModelNotFound(_NO_SUCH_EMBEDDING, field="model")

    def list_embeddings(self) -> Sequence[str]:
        """Return the full names of the embedding models that are known to be such."""
        return [
            f"{embedder.name}:{model}"
            for embedder in self.embedders.values()
            for model in embedder.embedding_models
        ]

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return a vector for each input; see `Embedder.embed`.

        Args:
            request: Its model as `resolve_embedding` returned it.
        """
        return await self.embedders[provider_of(request.model)].embed(request)

    async def close(self) -> None:
        """Close every provider and embedder."""
        await self._lists.close()
        # Some are both, and may be closed twice.
        every = (*self.providers.values(), *self.embedders.values())
        await asyncio.gather(*(each.close() for each in every))

    def _has_embedding(self, embedder: Embedder, full: str) -> bool:
        if embedder.embedding_models:
            return full.partition(":")[2] in embedder.embedding_models
        if self.offered is not None:
            return full in self.offered
        return embedder.name not in self.providers or not self._is_left_out(full, lately=True)

    def _find(self, name: str) -> ModelInfo | None:
        provider_name, _, model = name.partition(":")
        provider = self.providers.get(provider_name)
        if provider is None or not model or len(name) > MAX_MODEL_NAME_CHARS:
            return None
        if self.offered is not None and name not in self.offered:
            return None
        return provider.describe(model)

    def _is_left_out(self, name: str, *, lately: bool) -> bool:
        lists_all = self.providers[provider_of(name)].lists_all_models
        return lists_all and self._lists.has_left_out(name, lately=lately)


def _size_chars(delta: Delta) -> int:
    match delta:
        case TextDelta(text) | ReasoningDelta(text):
            return len(text)
        case Finish():
            return 0
        case _:
            return len(delta.arguments) + len(delta.name) + len(delta.call_id)
