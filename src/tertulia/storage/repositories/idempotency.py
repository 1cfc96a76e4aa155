"""Idempotency keys: one key, one thing made."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from tertulia.domain.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from tertulia.storage.repositories.base import Repository
from tertulia.storage.statements import statement

# Of two at once the second waits here until the first has committed, and then finds its row. A key
# older than a day is free again.
_CLAIM = statement(
    """
    INSERT INTO idempotency_keys AS old (user_id, key, fingerprint, resource_id)
    VALUES (:user_id, :key, :fingerprint, :resource_id)
    ON CONFLICT (user_id, key) DO UPDATE
        SET fingerprint = excluded.fingerprint, resource_id = excluded.resource_id,
            created_at = excluded.created_at
        WHERE old.created_at < now() - CAST(:lifetime AS interval)
    """
)
_FIND = statement(
    "SELECT fingerprint, resource_id FROM idempotency_keys WHERE user_id = :user_id AND key = :key"
)
_SWEEP = statement(
    """
    DELETE FROM idempotency_keys WHERE (user_id, key) IN (
        SELECT user_id, key FROM idempotency_keys
        WHERE created_at < now() - CAST(:lifetime AS interval) LIMIT :limit
    )
    """
)

LIFETIME = timedelta(hours=24)


class IdempotencyRepository(Repository):
    """Questions about keys."""

    async def claim(
        self, key: str, *, user_id: UUID, fingerprint: bytes, resource_id: UUID
    ) -> UUID | None:
        """Take the key for what this transaction makes, or say what it was used for.

        Args:
            key: As the client sent it.
            user_id: Whose; keys of different users are unrelated.
            fingerprint: Of the request; the same key goes with the same request.
            resource_id: The thing this transaction is about to make.

        Returns:
            None if the key is ours now; else the id of the thing that was made with it.

        Raises:
            IdempotencyKeyInFlight: A request with the key has not ended within the time that a
                statement waits for a lock.
            IdempotencyKeyReused: It was used with a different request.
        """
        try:
            taken = await self._connection.run(
                _CLAIM,
                user_id=user_id,
                key=key,
                fingerprint=fingerprint,
                resource_id=resource_id,
                lifetime=LIFETIME,
            )
        except asyncpg.LockNotAvailableError as error:
            raise IdempotencyKeyInFlight from error
        if taken:
            return None
        row = await self._connection.one(_FIND, user_id=user_id, key=key)
        if row.fingerprint != fingerprint:
            raise IdempotencyKeyReused(field="header.Idempotency-Key")
        return row.resource_id

    async def sweep(self, *, limit: int) -> int:
        """Delete at most `limit` keys that have expired; return how many there were."""
        return await self._connection.run(_SWEEP, lifetime=LIFETIME, limit=limit)
