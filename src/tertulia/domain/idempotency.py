"""Requests that may be sent twice and must happen once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request with an `Idempotency-Key`."""

    key: str
    """The client's name for it; keys of different users are unrelated."""
    fingerprint: bytes
    """Equal for requests that ask for the same."""
