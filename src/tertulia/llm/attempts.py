"""Trying again, and knowing when not to."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from tertulia.domain.models import Delta, Finish, ProviderFailed

from .breaker import Breaker
from .faults import OUTAGES, Fault
from .patience import Patience


async def stream_with_retries(
    attempt: Callable[[], AsyncGenerator[Delta]], *, patience: Patience, breaker: Breaker
) -> AsyncGenerator[Delta]:
    """Stream one answer from as many attempts as it takes and `patience` allows.

    After the first token there is no other attempt: its text would be another one.

    Args:
        attempt: Asks the provider once; it raises nothing but `Fault`.
        patience: How often to try again, and after which pause.
        breaker: Of the provider; told how the answer went.

    Raises:
        ProviderFailed: The last attempt's failure; `provider_unavailable` if the breaker is open.
    """
    if not breaker.admit():
        raise ProviderFailed(
            "provider_unavailable",
            "The provider has failed repeatedly; it is left alone for a moment",
            status=503,
        )
    reported = False
    try:
        async with aclosing(_attempts(attempt, patience, breaker)) as deltas:
            async for delta in deltas:
                if isinstance(delta, Finish):
                    # Whoever reads need not read on after this.
                    reported = True
                    breaker.succeeded()
                yield delta
    except ProviderFailed as failure:
        reported = True
        if failure.code in OUTAGES:
            breaker.failed()
        else:
            breaker.succeeded()
        raise
    finally:
        if not reported:
            breaker.left()


async def _attempts(
    attempt: Callable[[], AsyncGenerator[Delta]], patience: Patience, breaker: Breaker
) -> AsyncGenerator[Delta]:
    retry = 0
    while True:
        began = False
        try:
            async with aclosing(attempt()) as deltas:
                async for delta in deltas:
                    if not began:
                        began = True
                        breaker.answers()
                    yield delta
        except Fault as fault:
            too_long = (fault.retry_after_s or 0) > patience.retry_after_cap_s
            if began or not fault.may_retry or too_long or retry >= patience.retries:
                raise fault.failure from fault
            await asyncio.sleep(patience.pause_s(retry, fault.retry_after_s))
            retry += 1
        else:
            return
