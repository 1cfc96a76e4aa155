"""Who asks: users, their login sessions and their API keys."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

INVALID_TOKEN = "Invalid token"  # noqa: S105  what is said about a token, in the seed's words


def identity_key(name: str) -> str:
    """Return the form of an e-mail address or username in which it must be unique.

    Case and Unicode form do not make a different person: "Alice", "ALICE" and the same in
    full-width letters share one key. (Unicode UAX #15 NFKC and section 3.13 default case folding;
    folded twice because folding may leave characters that normalise further.)
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded).casefold()


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: UUID
    email: str
    username: str
    is_active: bool
    is_admin: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Caller:
    """The user behind a request, and the credential that proved it.

    Exactly one of `session_id` and `api_key_id` is set.
    """

    user: User
    session_id: UUID | None
    api_key_id: UUID | None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a genuine access token says. Whether it is still good is for the database to say."""

    user_id: UUID
    session_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Asker:
    """The user behind a request, for a request whose first statement proves that by the way."""

    user_id: UUID
    claim: Claim | None
    """What is still to be proven; None: nothing."""


@dataclass(frozen=True, slots=True)
class Session:
    """One login, from its password to its logout; what its refresh tokens have in common."""

    id: UUID
    user_id: UUID
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    """When it ends unless it is refreshed before."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A named secret for programs. The secret itself is shown once and stored only as a hash."""

    id: UUID
    user_id: UUID
    name: str
    prefix: str
    """The first characters of the secret, enough for its owner to recognise it."""
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
