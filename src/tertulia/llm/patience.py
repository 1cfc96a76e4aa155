"""How long a provider is waited for, and how often it is asked again."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits of waiting and trying again, for one provider.

    The deadline of a whole answer is not among them: it belongs to the run.
    """

    connect_s: float = 5.0
    """To resolve the name, connect and agree on TLS."""
    first_byte_s: float = 30.0
    """From sending the request to the first byte of the answer's body."""
    stall_s: float = 30.0
    """Between two bytes of the answer."""
    closing_s: float = 5.0
    """For the usage numbers, once the model has said why it stopped."""
    list_s: float = 3.0
    """For a whole list of models, from connecting on: people wait for it."""
    embeddings_s: float = 60.0
    """For the embeddings of all inputs of a request, once connected."""
    retries: int = 2
    """Tries after the first one; only ever before the first token."""
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 8.0
    retry_after_cap_s: float = 30.0
    """A provider that asks for a longer pause is not asked again."""

    def backoff_s(self, retry: int) -> float:
        """Return how long to wait before a retry, counted from 0.

        "Full jitter": uniform between nothing and an exponentially growing limit, which spreads a
        crowd of clients best (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
        """
        limit = min(self.backoff_cap_s, self.backoff_base_s * 2**retry)
        return random.uniform(0, limit)  # noqa: S311  spreads load; nothing depends on its secrecy

    def pause_s(self, retry: int, retry_after_s: float | None) -> float:
        """Return how long to wait before a retry; never less than the provider asked for.

        The jitter is added to the provider's pause, so that those who were refused together do
        not return together.
        """
        return self.backoff_s(retry) + (retry_after_s or 0)


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110, section 10.2.3).

    Args:
        value: A number of seconds or an HTTP date. Anything else counts as absent.
        now: An aware time; what a date is relative to. A date in the past asks for 0 seconds.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        then = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # A year or an offset of many digits overflows.
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - now).total_seconds())
