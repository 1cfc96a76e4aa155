"""Hashing passwords, without ever holding up anything else.

One hash is 20 to 60 ms of a core and 19 MiB. Two threads of their own do all of them (argon2
releases the interpreter's lock); who has waited for one of them for a second is refused.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from tertulia.domain.errors import Overloaded

Result = TypeVar("Result")
WAITING_S = 3.0
"""For a thread. A request may also wait that long for the database, and is to be turned away
within two seconds."""


@dataclass(frozen=True, slots=True)
class HashingCost:
    """What one argon2id hash costs (OWASP Password Storage Cheat Sheet, second choice)."""

    memory_kib: int = 19 * 1024
    passes: int = 2
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a password was right."""

    is_right: bool
    better_hash: str | None = field(default=None, repr=False)
    """A new hash to store, if it was right and the stored one is not of today's cost."""


class Passwords:
    """Makes and checks hashes in threads of its own.

    Args:
        cost: Of new hashes; those of another cost are still understood, and replaced at login.
        threads: That hash at the same time.
        waiting_s: How long to wait for one of them, in seconds.
    """

    def __init__(
        self, cost: HashingCost | None = None, *, threads: int = 2, waiting_s: float = WAITING_S
    ) -> None:
        cost = cost or HashingCost()
        self._scheme = PasswordHash(
            [
                Argon2Hasher(
                    time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes
                )
            ]
        )
        self._nobodys_hash = self._scheme.hash(secrets.token_urlsafe())
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._turns = asyncio.Semaphore(threads)
        self._waiting_s = waiting_s
        self.verified = 0
        """How many verifications have been done, against real hashes and nobody's."""

    async def hash(self, password: str) -> str:
        """Return the password's hash, with a new salt.

        Raises:
            Overloaded: It had to wait too long for a thread.
        """
        return await self._in_thread(lambda: self._scheme.hash(password))

    async def verify(self, password: str, stored: str | None) -> Verification:
        """Check a password against a stored hash.

        Args:
            password: As it was sent; of any length and content.
            stored: The hash; None, or what is no hash, takes the same time and is never right.

        Raises:
            Overloaded: It had to wait too long for a thread.
        """
        is_hash = stored is not None and Argon2Hasher.identify(stored)
        against = stored if stored is not None and is_hash else self._nobodys_hash
        is_right, better_hash = await self._in_thread(
            lambda: self._scheme.verify_and_update(password, against)
        )
        self.verified += 1
        return Verification(is_right, better_hash) if is_hash else Verification(is_right=False)

    def close(self) -> None:
        """Wait for the hashes being computed, and give those that wait up."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _in_thread(self, compute: Callable[[], Result]) -> Result:
        try:
            async with asyncio.timeout(self._waiting_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise Overloaded("Too many people are logging in at once; try again") from error
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, compute)
        finally:
            self._turns.release()
