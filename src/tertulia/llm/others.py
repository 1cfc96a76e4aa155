"""Providers with a protocol of their own, through pydantic-ai.

It is imported when the first of them is asked: 65 MB and most of a second that a server without
them never pays.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from tertulia.domain.models import (
    Delta,
    ModelInfo,
    ModelRequest,
    ModelSettings,
    ProviderFailed,
    Usage,
)

from . import pricing
from .attempts import stream_with_retries
from .breaker import Breaker
from .faults import Fault
from .openai_models import reasons
from .patience import Patience

if TYPE_CHECKING:
    from .pydantic_models import PydanticModels

PRICE_IDS: Mapping[str, str] = {
    "anthropic": "anthropic",
    "bedrock": "aws",
    "cohere": "cohere",
    "google": "google",
    "groq": "groq",
    "mistral": "mistral",
}
"""The providers with an extra of their own in `pyproject.toml`, as `genai-prices` calls them."""


class OtherProvider:
    """One of the providers that pydantic-ai speaks to.

    Args:
        name: One of `PRICE_IDS`.
        options: What pydantic-ai's provider of that name is built with, such as `api_key`,
            `base_url` or `region_name`. What is missing, the provider's own SDK looks for in the
            environment.
        models: Names to list besides those that pydantic-ai knows.
        patience: Waiting and trying again; the SDKs' own retries are turned off where they can be.
        breaker: Its circuit breaker.

    Raises:
        ValueError: `name` is not one of `PRICE_IDS`.
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, str],
        *,
        models: Sequence[str] = (),
        patience: Patience | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        if name not in PRICE_IDS:
            raise ValueError(f"{name!r} is none of {', '.join(PRICE_IDS)}")
        self._name = name
        self._options = dict(options)
        self._models = tuple(models)
        self._patience = patience or Patience()
        self._breaker = breaker or Breaker()
        self._bridge: PydanticModels | None = None
        self._loading = asyncio.Lock()

    @property
    def name(self) -> str:
        """The part of a model's name before the first colon."""
        return self._name

    @property
    def lists_all_models(self) -> bool:
        """Whether there is no model that `models` does not list: newer ones exist."""
        return False

    def continues_prefix(self, model: str) -> bool:  # noqa: ARG002  as in Provider
        """Whether an answer can go on from its beginning: no; newer models of theirs refuse it."""
        return False

    def describe(self, model: str) -> ModelInfo | None:
        """Return what the name tells; whether there is such a model, only the provider knows."""
        return ModelInfo(
            name=f"{self._name}:{model}",
            provider=self._name,
            is_default=False,
            context_tokens=None,
            continues_prefix=False,
            tools=True,
            reasoning=reasons(model),
        )

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Return what an answer cost, by the provider's public prices."""
        return pricing.cost_usd(model, usage, provider_id=PRICE_IDS[self._name])

    async def models(self) -> list[ModelInfo]:
        """Return the models named by the settings and those that pydantic-ai knows."""
        bridge = await self._load()
        names = dict.fromkeys((*self._models, *bridge.known_models()))
        return [info for info in map(self.describe, names) if info is not None]

    async def check(self, model: str, settings: ModelSettings, *, calls_tools: bool) -> None:
        """Refuse what the provider would leave out without a word; see `Provider.check`."""
        if settings.response_format is None and settings.tool_choice in (None, "auto", "none"):
            return
        try:
            bridge = await self._load()
        except ProviderFailed:
            return  # Then the answer says why.
        bridge.check(f"{self._name}:{model}", settings, calls_tools=calls_tools)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta]:
        """Stream one answer; see `Provider.stream`."""
        deltas = stream_with_retries(
            lambda: self._attempt(request), patience=self._patience, breaker=self._breaker
        )
        try:
            async for delta in deltas:
                yield delta
        finally:
            await deltas.aclose()

    async def close(self) -> None:
        """Close every connection."""
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            await bridge.close()

    async def _attempt(self, request: ModelRequest) -> AsyncGenerator[Delta]:
        """Ask once. Raises `Fault` and nothing else."""
        try:
            bridge = await self._load()
        except ProviderFailed as failure:
            raise Fault(failure) from failure
        deltas = bridge.answer(request)
        try:
            async for delta in deltas:
                yield delta
        finally:
            await deltas.aclose()

    async def _load(self) -> "PydanticModels":
        async with self._loading:
            if self._bridge is None:
                bridge = await asyncio.to_thread(self._import)
                await bridge.open()
                # Not before: whoever left in between left nothing half-open behind.
                self._bridge = bridge
            return self._bridge

    def _import(self) -> "PydanticModels":
        # See the top of this module.
        try:
            from .pydantic_models import PydanticModels  # noqa: PLC0415  heavy, and rarely wanted

            return PydanticModels(self._name, self._options, self._patience)
        except ImportError as error:
            raise ProviderFailed(
                "provider_unavailable",
                f"The provider {self._name!r} is not installed on this server: "
                f"pip install 'tertulia[{self._name}]'",
                status=503,
            ) from error
