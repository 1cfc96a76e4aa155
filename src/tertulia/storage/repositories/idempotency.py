"""Idempotency keys: one key, one thing made."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from tertulia.domain.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from tertulia.domain.idempotency import IdempotentRequest
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
_POINT = statement(
    """
    UPDATE idempotency_keys SET resource_id = :resource_id
    WHERE user_id = :user_id AND key = :key
    """
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
        self, request: IdempotentRequest | None, *, user_id: UUID, resource_id: UUID
    ) -> UUID | None:
        """Take the key for what this transaction makes, or say what it was used for.

        Args:
            request: The client's; None if it came without a key and may happen each time.
            user_id: Whose; keys of different users are unrelated.
            resource_id: The thing this transaction is about to make.

        Returns:
            None if it is to happen now; else the id of the thing that was made with the key.

        Raises:
            IdempotencyKeyInFlight: A request with the key has not ended within the time that a
                statement waits for a lock.
            IdempotencyKeyReused: It was used with a different request.
        """
        if request is None:
            return None
        try:
            taken = await self._connection.run(
                _CLAIM,
                user_id=user_id,
                key=request.key,
                fingerprint=request.fingerprint,
                resource_id=resource_id,
                lifetime=LIFETIME,
            )
        except asyncpg.LockNotAvailableError as error:
            raise IdempotencyKeyInFlight from error
        if taken:
            return None
        row = await self._connection.one(_FIND, user_id=user_id, key=request.key)
        if row.fingerprint != request.fingerprint:
            raise IdempotencyKeyReused(field="header.Idempotency-Key")
        return row.resource_id

    async def point_to(
        self, request: IdempotentRequest | None, resource_id: UUID, *, user_id: UUID
    ) -> None:
        """Let a key that this transaction has taken lead to a thing that was there before."""
        if request is not None:
            await self._connection.run(
                _POINT, user_id=user_id, key=request.key, resource_id=resource_id
            )

    async def sweep(self, *, limit: int) -> int:
        """Delete at most `limit` keys that have expired; return how many there were."""
        return await self._connection.run(_SWEEP, lifetime=LIFETIME, limit=limit)
