"""Embeddings: texts as vectors, near one another where the texts mean similar things."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

EmbeddingInput: TypeAlias = str | tuple[int, ...]
"""A text, or its tokens as the model numbers them."""

InputKind: TypeAlias = Literal["query", "passage"]
"""What a text is for: to search with, or to be found."""

Vector: TypeAlias = "array[float]"
"""Of 32-bit floats (`array("f")`)."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Everything an embedder is told."""

    model: str
    """`provider:model`."""
    inputs: Sequence[EmbeddingInput]
    """At least one, none of them empty."""
    dimensions: int | None = None
    """Of each vector; None leaves it to the model."""
    kind: InputKind | None = None
    """For models that tell the two apart; None means that texts are compared with their like."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of the inputs."""

    vectors: Sequence[Vector]
    """One for each input, in their order."""
    tokens: int | None
    """Of all inputs together; None if nobody said."""
