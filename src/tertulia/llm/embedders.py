"""What makes embeddings, to the rest of this room."""

from collections.abc import Sequence
from typing import Protocol

from tertulia.domain.embeddings import Embedded, EmbeddingRequest


class Embedder(Protocol):
    """Where embeddings come from: a service on the network, or a model in this process."""

    @property
    def name(self) -> str:
        """The part of a model's name before the first colon."""
        ...

    @property
    def embedding_models(self) -> Sequence[str]:
        """All it has, as named after the colon; empty if only the provider itself knows."""
        ...

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return a vector for each input.

        Raises:
            Invalid: The model cannot read such inputs, or make such vectors.
            Overloaded: Too many wait already, or it took too long.
            ProviderFailed: With a code of `docs/provider-faults.md`.
        """
        ...

    async def close(self) -> None:
        """Give back every connection and all memory. It is not used afterwards."""
        ...
