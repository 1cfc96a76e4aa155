"""The providers' lists of models, asked for beside the requests that need them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from tertulia.domain.models import ModelInfo, ProviderFailed
from tertulia.telemetry.tasks import TaskSet

from .names import provider_of
from .providers import Provider

_CLOSE_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a provider said when it last could."""

    models: Mapping[str, ModelInfo]
    """By full name, in the provider's order."""
    at: float


class ModelLists:
    """What each provider has said of its models.

    The asking is a task of its own: a caller who leaves does not undo it, and nobody waits for it
    but for the very first time.

    Args:
        providers: Whom to ask.
        wait_s: How long one asking may take, all providers at once.
        every_s: From one asking to the next.
        retry_s: The same while a provider cannot tell.
    """

    def __init__(
        self, providers: Sequence[Provider], *, wait_s: float, every_s: float, retry_s: float
    ) -> None:
        self._providers = tuple(providers)
        self._wait_s = wait_s
        self._every_s = every_s
        self._retry_s = retry_s
        self._max_age_s = 2 * every_s
        self._told: dict[str, _Told] = {}
        self._silent: set[str] = set()
        self._has_asked = False
        self._ask_again_at = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._tasks = TaskSet()

    async def keep_fresh(self) -> None:
        """Ask now and then, until cancelled."""
        while True:
            await asyncio.shield(self._ask_all_once())
            await asyncio.sleep(self._ask_again_at - monotonic())

    async def wait_for_first(self) -> None:
        """Return when every provider has been asked once: at once, or within `wait_s`."""
        if not self._has_asked:
            await asyncio.shield(self._ask_all_once())

    async def models(self) -> list[ModelInfo]:
        """Return what the providers said; one that could not tell when last asked is left out.

        If that is long ago they are asked again, and whoever asks next gets the answer.
        """
        await self.wait_for_first()
        if monotonic() >= self._ask_again_at:
            self._ask_all_once()
        return [
            info
            for name in (provider.name for provider in self._providers)
            if name in self._told and name not in self._silent
            for info in self._told[name].models.values()
        ]

    def find(self, name: str) -> ModelInfo | None:
        """Return what its provider said of the model when it last listed it."""
        told = self._told.get(provider_of(name))
        return told and told.models.get(name)

    def has_left_out(self, name: str, *, lately: bool) -> bool:
        """Whether the model's provider has listed its models, and this one was not there.

        An empty list leaves nothing out: some gateways have no other.

        Args:
            name: A full name.
            lately: Whether only a list counts that is fresh.
        """
        told = self._told.get(provider_of(name))
        if told is None or not told.models:
            return False
        is_fresh = monotonic() - told.at <= self._max_age_s
        return (is_fresh or not lately) and name not in told.models

    async def close(self) -> None:
        """Stop asking."""
        await self._tasks.cancel_all(_CLOSE_S)

    def _ask_all_once(self) -> asyncio.Task[None]:
        """Return the asking that is under way; begin one if none is."""
        if self._asking is None or self._asking.done():
            self._asking = self._tasks.spawn(self._ask_all(), name="lists of models")
        return self._asking

    async def _ask_all(self) -> None:
        await asyncio.gather(*map(self._ask, self._providers))
        self._has_asked = True
        self._ask_again_at = monotonic() + (self._retry_s if self._silent else self._every_s)

    async def _ask(self, provider: Provider) -> None:
        name = provider.name
        try:
            async with asyncio.timeout(self._wait_s):
                models = await provider.models()
        except ProviderFailed as failure:
            self._note_silence(name, failure.code)
        except TimeoutError:
            self._note_silence(name, "provider_timeout")
        except Exception:
            # The SDKs beneath leak exceptions of their own; the other lists are not lost for one.
            log.exception("a provider's list of models failed", provider=name)
            self._silent.add(name)
        else:
            self._told[name] = _Told({info.name: info for info in models}, monotonic())
            self._silent.discard(name)

    def _note_silence(self, name: str, code: str) -> None:
        if name not in self._silent:
            log.warning("a provider cannot list its models", provider=name, code=code)
        self._silent.add(name)
