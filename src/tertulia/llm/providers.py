"""What a provider of language models is to the rest of this room."""

from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Protocol, runtime_checkable

from tertulia.domain.models import Delta, ModelInfo, ModelRequest, ModelSettings, Usage


class Provider(Protocol):
    """Where answers come from: a service on the network, or a model in this process.

    Models are named without the provider here (`gpt-5-mini`, not `openai:gpt-5-mini`), except in
    `ModelRequest.model` and `ModelInfo.name`, which always carry the full name.
    """

    @property
    def name(self) -> str:
        """The part of a model's name before the first colon."""
        ...

    @property
    def lists_all_models(self) -> bool:
        """Whether there is no model that `models` does not list."""
        ...

    async def models(self) -> list[ModelInfo]:
        """Return what can be asked for now.

        Raises:
            ProviderFailed: The provider cannot list its models now.
        """
        ...

    def describe(self, model: str) -> ModelInfo | None:
        """Return what is known without asking anybody; None if there is certainly no such model."""
        ...

    async def check(self, model: str, settings: ModelSettings, *, calls_tools: bool) -> None:
        """Make sure that the model can do what is asked of it, without asking anybody.

        What a provider refuses by itself is not looked for: only what it, or what speaks to it
        here, would leave out without a word.

        Args:
            model: Without the provider's name.
            settings: What is asked.
            calls_tools: Whether it gets tools besides those in the settings.

        Raises:
            Invalid: It cannot; names `body.response_format` or `body.tool_choice`.
        """
        ...

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta]:
        """Stream one answer; the last item is a `Finish`.

        Closing the generator, or cancelling the task that awaits it, closes the connection to the
        provider at once, which makes the model stop.

        Raises:
            ProviderFailed: With a code of `docs/provider-faults.md`.
        """
        ...

    def continues_prefix(self, model: str) -> bool:
        """Whether an answer that was cut off can go on from its stored beginning."""
        ...

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Return what an answer cost, or None if no price is known. May load a price table."""
        ...

    async def close(self) -> None:
        """Give back every connection. The provider is not used afterwards."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """A provider that knows how many tokens something is to its models."""

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return how many tokens a prompt is, all that the model is told included.

        Raises:
            ProviderFailed: It cannot count now.
        """
        ...
