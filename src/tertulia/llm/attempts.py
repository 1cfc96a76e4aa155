"""Trying again, and knowing when not to."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from tertulia.domain.models import Delta, Finish, ProviderFailed

from .breaker import Breaker
from .faults import OUTAGES, Fault
from .patience import Patience

Reply = TypeVar("Reply")


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
    _admit(breaker)
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
        _report(breaker, failure)
        raise
    finally:
        if not reported:
            breaker.left()


async def ask_with_retries(
    attempt: Callable[[], Awaitable[Reply]], *, patience: Patience, breaker: Breaker
) -> Reply:
    """Return one whole reply, from as many attempts as it takes and `patience` allows.

    Arguments and errors are those of `stream_with_retries`.
    """
    _admit(breaker)
    reported = False
    try:
        reply = await _first_reply(attempt, patience)
    except ProviderFailed as failure:
        reported = True
        _report(breaker, failure)
        raise
    else:
        reported = True
        breaker.succeeded()
        return reply
    finally:
        if not reported:
            breaker.left()


def _admit(breaker: Breaker) -> None:
    if not breaker.admit():
        raise ProviderFailed(
            "provider_unavailable",
            "The provider has failed repeatedly; it is left alone for a moment",
            status=503,
        )


def _report(breaker: Breaker, failure: ProviderFailed) -> None:
    if failure.code in OUTAGES:
        breaker.failed()
    else:
        breaker.succeeded()


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
            if began:
                raise fault.failure from fault
            await _pause(retry, fault, patience)
            retry += 1
        else:
            return


async def _first_reply(attempt: Callable[[], Awaitable[Reply]], patience: Patience) -> Reply:
    retry = 0
    while True:
        try:
            return await attempt()
        except Fault as fault:
            await _pause(retry, fault, patience)
            retry += 1


async def _pause(retry: int, fault: Fault, patience: Patience) -> None:
    """Wait until it is time to try again; raise the fault's failure if it is not worth it."""
    too_long = (fault.retry_after_s or 0) > patience.retry_after_cap_s
    if not fault.may_retry or too_long or retry >= patience.retries:
        raise fault.failure from fault
    await asyncio.sleep(patience.pause_s(retry, fault.retry_after_s))
