"""API keys: secrets for programs, found by their hash."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from tertulia.domain.users import ApiKey, User
from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.users import user_of
from tertulia.storage.statements import statement

_SHOWN = "id, user_id, name, prefix, created_at, expires_at, last_used_at"
_KNOWN = """
    SELECT u.id, u.email, u.username, u.is_active, u.is_admin, u.created_at, u.updated_at,
        k.id AS key_id, k.last_used_at
    FROM api_keys k JOIN users u ON u.id = k.user_id
    WHERE k.key_hash = :key_hash AND (k.expires_at IS NULL OR k.expires_at > now())
"""

_CREATE = statement(
    f"""
    INSERT INTO api_keys (id, user_id, name, prefix, key_hash, expires_at)
    VALUES (:id, :user_id, :name, :prefix, :key_hash, now() + CAST(:lifetime AS interval))
    RETURNING {_SHOWN}
    """
)
_COUNT = statement("SELECT count(*) AS count FROM api_keys WHERE user_id = :user_id")
_LIST = statement(
    f"""
    SELECT {_SHOWN} FROM api_keys WHERE user_id = :user_id
    ORDER BY created_at DESC, id DESC LIMIT CAST(:limit AS integer)
    """
)
_LIST_AFTER = statement(
    f"""
    SELECT {_SHOWN} FROM api_keys WHERE user_id = :user_id
        AND (created_at, id) < (CAST(:after_at AS timestamptz), CAST(:after_id AS uuid))
    ORDER BY created_at DESC, id DESC LIMIT CAST(:limit AS integer)
    """
)
_REVOKE = statement("DELETE FROM api_keys WHERE id = :id AND user_id = :user_id")
# Of many requests with one key at once, one notes the use and none waits for another.
_AUTHENTICATE = statement(
    f"""
    WITH known AS MATERIALIZED ({_KNOWN}), due AS MATERIALIZED (
        SELECT id FROM api_keys WHERE id = (
            SELECT key_id FROM known
            WHERE last_used_at IS NULL OR last_used_at < now() - CAST(:precision AS interval)
        ) FOR NO KEY UPDATE SKIP LOCKED
    ), noted AS (
        UPDATE api_keys SET last_used_at = now() FROM due WHERE api_keys.id = due.id
    )
    SELECT * FROM known
    """
)
_FIND = statement(_KNOWN)

LAST_USED_PRECISION = timedelta(seconds=60)
"""How far behind `last_used_at` may be; most requests then write nothing."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A live key, and whose it is."""

    user: User
    key_id: UUID


class ApiKeyRepository(Repository):
    """Questions about API keys."""

    async def create(
        self,
        id_: UUID,
        *,
        user_id: UUID,
        name: str,
        prefix: str,
        key_hash: bytes,
        lifetime: timedelta | None,
    ) -> ApiKey:
        """Store a new key.

        Args:
            id_: Which.
            user_id: Whose.
            name: 1 to 100 characters, for its owner.
            prefix: The beginning of the secret, to recognise it by.
            key_hash: SHA-256 of the secret, which itself is stored nowhere.
            lifetime: From now; None means until it is revoked.
        """
        row = await self._connection.one(
            _CREATE,
            id=id_,
            user_id=user_id,
            name=name,
            prefix=prefix,
            key_hash=key_hash,
            lifetime=lifetime,
        )
        return _shown(row)

    async def count(self, user_id: UUID) -> int:
        """Return how many keys the user has, expired ones included."""
        return (await self._connection.one(_COUNT, user_id=user_id)).count

    async def list(
        self, user_id: UUID, *, limit: int, after: tuple[datetime, UUID] | None = None
    ) -> Sequence[ApiKey]:
        """Return the user's keys, newest first, after that creation time and id."""
        if after is None:
            rows = await self._connection.all(_LIST, user_id=user_id, limit=limit)
        else:
            rows = await self._connection.all(
                _LIST_AFTER, user_id=user_id, limit=limit, after_at=after[0], after_id=after[1]
            )
        return [_shown(row) for row in rows]

    async def revoke(self, id_: UUID, *, user_id: UUID) -> bool:
        """Delete the user's key, so that it opens nothing any more; say whether there was one."""
        return await self._connection.run(_REVOKE, id=id_, user_id=user_id) > 0

    async def authenticate(self, key_hash: bytes) -> KnownKey | None:
        """Return the live key with that hash and its user in one statement, noting its use.

        Not within a transaction: where the use cannot be noted (disk full, read-only) the key is
        looked up by a second statement, for reading must go on.
        """
        try:
            row = await self._connection.first(
                _AUTHENTICATE, key_hash=key_hash, precision=LAST_USED_PRECISION
            )
        except (asyncpg.InsufficientResourcesError, asyncpg.ReadOnlySQLTransactionError):
            row = await self._connection.first(_FIND, key_hash=key_hash)
        return None if row is None else KnownKey(user_of(row), row.key_id)


def _shown(row: Row) -> ApiKey:
    return ApiKey(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        prefix=row.prefix,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )
