"""Guessing passwords: how often somebody may be wrong before any more are looked at."""

import ipaddress
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from tertulia.domain.errors import TooManyAttempts, WrongCredentials, WrongPassword
from tertulia.domain.users import identity_key

GUESSES_MAX = 50
"""Wrong passwords for one account from one address in `GUESSES_WINDOW_S`. Nobody mistypes that
often, and 200 an hour find only what stands at the top of every list of bad passwords."""
GUESSES_WINDOW_S = 900.0
_BUSY_S = 1
"""For who is refused only because as many of their passwords are being looked at."""
_IPV6_NETWORK_BITS = 64
"""What a single host is given (RFC 4291, section 2.5.1): all its addresses are one guesser."""

_Guesser: TypeAlias = tuple[str, str]
"""An account, which need not exist, and a network."""


class Guesses:
    """Counts wrong passwords by account and address, in this process, over a moving window.

    By both: many people share an address, and nobody shall lock another out from elsewhere. It is
    kept only as long as it counts, and no faster than passwords can be hashed.

    Args:
        most: Wrong passwords in a window; who has had so many is refused.
        window_s: Seconds.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        most: int = GUESSES_MAX,
        window_s: float = GUESSES_WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._wrong: OrderedDict[_Guesser, deque[float]] = OrderedDict()
        # By the newest wrong guess, oldest first: what counts no more is at the front.
        self._looked_at: Counter[_Guesser] = Counter()

    def __len__(self) -> int:
        """How many guessers are remembered."""
        return len(self._wrong)

    @contextmanager
    def counted(self, email: str, address: str) -> Generator[None]:
        """Check a password within the block; that it was wrong is counted, and nothing else is.

        Args:
            email: The account's, in any form; that nobody has it makes no difference.
            address: Where the request came from, as text.

        Raises:
            TooManyAttempts: Before the block is entered.
        """
        guesser = (identity_key(email), network_of(address))
        self._admit(guesser)
        self._looked_at[guesser] += 1
        try:
            yield
        except (WrongCredentials, WrongPassword):
            self._note(guesser)
            raise
        finally:
            self._looked_at[guesser] -= 1
            if not self._looked_at[guesser]:
                del self._looked_at[guesser]

    def _admit(self, guesser: _Guesser) -> None:
        wrong = self._wrong.get(guesser, deque())
        begin = self._clock() - self._window_s
        while wrong and wrong[0] <= begin:
            wrong.popleft()
        if len(wrong) >= self._most:
            raise TooManyAttempts(retry_after_s=math.ceil(wrong[0] - begin))
        # Those that are being looked at may all be wrong.
        if len(wrong) + self._looked_at[guesser] >= self._most:
            raise TooManyAttempts(retry_after_s=_BUSY_S)

    def _note(self, guesser: _Guesser) -> None:
        now = self._clock()
        self._wrong.setdefault(guesser, deque()).append(now)
        self._wrong.move_to_end(guesser)
        while (
            not (oldest := next(iter(self._wrong.values()))) or oldest[-1] <= now - self._window_s
        ):
            self._wrong.popitem(last=False)


def network_of(address: str) -> str:
    """Return the IPv4 address, the IPv6 network of 64 bits, or what is no address as it is."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip), _IPV6_NETWORK_BITS), strict=False))
    return str(ip)
