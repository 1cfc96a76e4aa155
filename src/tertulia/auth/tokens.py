"""The secrets that stand for a user: access tokens, refresh tokens, API keys.

An access token is a JWT (RFC 7519) that names a session. Refresh tokens and API keys are 256 random
bits, stored as SHA-256: with so much chance in them a slow hash would protect nothing more. All
refresh tokens of a session have another 256 in common, which tell an old one from a made-up one.
"""

import functools
import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt

from tertulia.domain.errors import Unauthenticated
from tertulia.domain.ids import new_id
from tertulia.domain.users import INVALID_TOKEN, Claim

API_KEY_START = "sk-"
API_KEY_PREFIX_CHARS = 11
"""How much of a key is kept in clear: `sk-` and 8 of its 43 random characters."""
SECRET_KEY_BYTES_MIN = 32
"""As many as SHA-256 has (RFC 7518, section 3.2)."""
TOKEN_CHARS_MAX = 4096

_ALGORITHM = "HS256"
_ISSUER = "tertulia"
_ACCESS = "access"
_CLAIMS = ["iss", "sub", "sid", "typ", "iat", "exp", "jti"]
_SECRET_BYTES = 32
_REMEMBERED = 2048
# Tokens whose signature has been checked, about 1 kB each. A check takes 0.1 ms, most of it on what
# the key might be, and what a genuine token says never changes.
_REFRESH_PATTERN = re.compile(r"rt_([0-9a-f]{32})_([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")
_API_KEY_PATTERN = re.compile(r"sk-[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Secret:
    """An API key or a part of a refresh token, and the hash that is stored in its place."""

    text: str = field(repr=False)

    @property
    def hash(self) -> bytes:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).digest()


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """`rt_<session>_<family>.<own>`."""

    session_id: UUID
    """It proves nothing: access tokens name it too."""
    family: Secret
    """What every refresh token of the session has had, and nobody else knows."""
    own: Secret
    """What only this one has."""

    @classmethod
    def first(cls, session_id: UUID) -> "RefreshToken":
        """Return the token that a session begins with."""
        return cls(session_id, _new_secret(), _new_secret())

    @classmethod
    def read(cls, text: str) -> "RefreshToken":
        """Return what the text says.

        Raises:
            Unauthenticated: It is no refresh token.
        """
        match = _REFRESH_PATTERN.fullmatch(text)
        if match is None:
            raise Unauthenticated(INVALID_TOKEN)
        return cls(UUID(match[1]), Secret(match[2]), Secret(match[3]))

    def next(self) -> "RefreshToken":
        """Return the token that takes this one's place."""
        return RefreshToken(self.session_id, self.family, _new_secret())

    @property
    def text(self) -> str:
        """What the client is given."""
        return f"rt_{self.session_id.hex}_{self.family.text}.{self.own.text}"


class AccessTokens:
    """Signs access tokens, and reads those it signed.

    Args:
        secret_key: At least 32 bytes in UTF-8; whoever has it is everybody.
    """

    def __init__(self, secret_key: str) -> None:
        self._key = secret_key.encode()
        if len(self._key) < SECRET_KEY_BYTES_MIN:
            raise ValueError(f"The secret key is shorter than {SECRET_KEY_BYTES_MIN} bytes")
        self._genuine = functools.lru_cache(_REMEMBERED)(self._verified)

    def issue(
        self, *, user_id: UUID, session_id: UUID, issued_at: datetime, lifetime: timedelta
    ) -> str:
        """Return a token for a session; both its times are whole seconds.

        Args:
            user_id: Whose.
            session_id: Of which login.
            issued_at: By the database's clock, which also judges its end.
            lifetime: From then.
        """
        issued_s = int(issued_at.timestamp())
        claims = {
            "iss": _ISSUER,
            "sub": str(user_id),
            "sid": str(session_id),
            "typ": _ACCESS,
            "iat": issued_s,
            "exp": issued_s + int(lifetime.total_seconds()),
            "jti": str(new_id()),
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)  # pyright: ignore[reportUnknownMemberType]  its key may be of a library that is not installed

    def read(self, token: str) -> Claim:
        """Return what the token says, if it was signed here and is an access token.

        Its end is read and not judged: see `SessionRepository.authenticate`.

        Raises:
            Unauthenticated: It is anything else, however long or malformed.
        """
        if len(token) > TOKEN_CHARS_MAX or not token.isascii():
            raise Unauthenticated(INVALID_TOKEN)
        return self._genuine(token)

    def _verified(self, token: str) -> Claim:
        try:
            claims: dict[str, Any] = jwt.decode(  # pyright: ignore[reportUnknownMemberType]  as in `issue`
                token,
                self._key,
                algorithms=[_ALGORITHM],
                issuer=_ISSUER,
                options={"require": _CLAIMS, "verify_exp": False, "verify_iat": False},
            )
            return _claim(claims)
        # PyJWT means to raise its own errors only; a forged token must not find an exception to it.
        # (OSError: a time that the platform cannot tell.)
        except (
            jwt.PyJWTError,
            ValueError,
            TypeError,
            OverflowError,
            OSError,
            RecursionError,
        ) as error:
            raise Unauthenticated(INVALID_TOKEN) from error


def new_api_key() -> Secret:
    """Return a key: `sk-` and 43 characters that are safe in URLs, shells and headers."""
    return Secret(API_KEY_START + secrets.token_urlsafe(_SECRET_BYTES))


def is_api_key(token: str) -> bool:
    """Whether it has the form of a key."""
    return _API_KEY_PATTERN.fullmatch(token) is not None


def _new_secret() -> Secret:
    return Secret(secrets.token_urlsafe(_SECRET_BYTES))


def _claim(claims: dict[str, Any]) -> Claim:
    """Return the claims in their types; ValueError, TypeError or OverflowError if they are not."""
    expires_s = claims["exp"]
    if claims["typ"] != _ACCESS or type(expires_s) is not int:
        raise ValueError("not an access token")
    return Claim(
        user_id=UUID(_text(claims["sub"])),
        session_id=UUID(_text(claims["sid"])),
        expires_at=datetime.fromtimestamp(expires_s, UTC),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value
