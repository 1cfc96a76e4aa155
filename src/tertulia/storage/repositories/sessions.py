"""Login sessions: one row for each login, whatever tokens it has had since."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from tertulia.domain.users import Claim, Session, User
from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.claims import authenticate
from tertulia.storage.repositories.users import user_of
from tertulia.storage.statements import statement

_SHOWN = "id, user_id, created_at, refreshed_at, expires_at"
_USER = "u.id, u.email, u.username, u.is_active, u.is_admin, u.created_at, u.updated_at"
_IS_LIVE = "revoked_at IS NULL AND expires_at > now()"

# The lock makes a login and a change of the password, or of the account's state, wait for each
# other: a login that began with the old password never outlives the change.
_CREATE = statement(
    f"""
    INSERT INTO sessions (id, user_id, family_hash, refresh_hash, expires_at)
    SELECT CAST(:id AS uuid), users.id, CAST(:family_hash AS bytea),
        CAST(:refresh_hash AS bytea), now() + CAST(:lifetime AS interval)
    FROM users
    WHERE users.id = :user_id AND users.password_hash = :password_hash AND users.is_active
    FOR SHARE
    RETURNING {_SHOWN}
    """
)
_LOCK = statement(
    f"""
    SELECT {_USER}, s.family_hash, s.refresh_hash,
        s.revoked_at IS NULL AND s.expires_at > now() AS is_live
    FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = :id FOR UPDATE OF s
    """
)
_ROTATE = statement(
    f"""
    UPDATE sessions SET refresh_hash = :refresh_hash, refreshed_at = now(),
        expires_at = now() + CAST(:lifetime AS interval)
    WHERE id = :id AND user_id = :user_id RETURNING {_SHOWN}
    """
)
_REVOKE = statement(
    f"""
    UPDATE sessions SET revoked_at = now()
    WHERE id = :id AND user_id = :user_id AND {_IS_LIVE}
    """
)
_REVOKE_ALL = statement(
    f"UPDATE sessions SET revoked_at = now() WHERE user_id = :user_id AND {_IS_LIVE}"
)
_LIST = statement(
    f"""
    SELECT {_SHOWN} FROM sessions WHERE user_id = :user_id AND {_IS_LIVE}
    ORDER BY created_at DESC, id DESC LIMIT CAST(:limit AS integer)
    """
)
_LIST_AFTER = statement(
    f"""
    SELECT {_SHOWN} FROM sessions WHERE user_id = :user_id AND {_IS_LIVE}
        AND (created_at, id) < (CAST(:after_at AS timestamptz), CAST(:after_id AS uuid))
    ORDER BY created_at DESC, id DESC LIMIT CAST(:limit AS integer)
    """
)
# An array, for PostgreSQL would join the few that it finds with the whole table.
_SWEEP = statement(
    """
    DELETE FROM sessions WHERE id = ANY(ARRAY(
        SELECT id FROM sessions
        WHERE LEAST(expires_at, revoked_at) < now() - CAST(:kept AS interval)
        LIMIT CAST(:limit AS integer)
    ))
    """
)

KEPT_AFTER_END = timedelta(days=7)
"""How long an ended session still recognises its stolen refresh tokens, for the log."""


@dataclass(frozen=True, slots=True)
class LockedSession:
    """A session that nobody else changes until this transaction ends."""

    user: User
    is_live: bool
    family_hash: bytes = field(repr=False)
    refresh_hash: bytes = field(repr=False)


class SessionRepository(Repository):
    """Questions about login sessions."""

    async def create(
        self,
        id_: UUID,
        *,
        user_id: UUID,
        password_hash: str,
        family_hash: bytes,
        refresh_hash: bytes,
        lifetime: timedelta,
    ) -> Session | None:
        """Begin a session, if that is still the active user's password; else return None.

        Args:
            id_: Which.
            user_id: Whose.
            password_hash: What the password was found to match, before this transaction.
            family_hash: SHA-256 of what all its refresh tokens have in common.
            refresh_hash: SHA-256 of what only the first has.
            lifetime: Until it ends without being refreshed.
        """
        row = await self._connection.first(
            _CREATE,
            id=id_,
            user_id=user_id,
            password_hash=password_hash,
            family_hash=family_hash,
            refresh_hash=refresh_hash,
            lifetime=lifetime,
        )
        return None if row is None else _shown(row)

    async def authenticate(self, claim: Claim) -> User:
        """Return the user whom a session stands for, in one statement.

        Raises:
            Unauthenticated: There is no such session of that user, or it or the token has ended,
                by the database's clock.
            UserInactive: The user's account is closed.
        """
        return user_of(await authenticate(self._connection, claim))

    async def lock(self, id_: UUID) -> LockedSession | None:
        """Keep the session from being changed by others until the transaction ends.

        Not by its owner: who holds its refresh token is still to be decided.
        """
        row = await self._connection.first(_LOCK, id=id_)
        if row is None:
            return None
        return LockedSession(user_of(row), row.is_live, row.family_hash, row.refresh_hash)

    async def rotate(
        self, id_: UUID, *, user_id: UUID, refresh_hash: bytes, lifetime: timedelta
    ) -> Session:
        """Put another refresh token in the place of a locked session's, and extend it."""
        row = await self._connection.one(
            _ROTATE, id=id_, user_id=user_id, refresh_hash=refresh_hash, lifetime=lifetime
        )
        return _shown(row)

    async def revoke(self, id_: UUID, *, user_id: UUID) -> bool:
        """End the user's session at once; say whether it was live."""
        return await self._connection.run(_REVOKE, id=id_, user_id=user_id) > 0

    async def revoke_all(self, user_id: UUID) -> int:
        """End every session of the user at once; return how many there were."""
        return await self._connection.run(_REVOKE_ALL, user_id=user_id)

    async def list(
        self, user_id: UUID, *, limit: int, after: tuple[datetime, UUID] | None = None
    ) -> Sequence[Session]:
        """Return the user's live sessions, newest first, after that creation time and id."""
        if after is None:
            rows = await self._connection.all(_LIST, user_id=user_id, limit=limit)
        else:
            rows = await self._connection.all(
                _LIST_AFTER, user_id=user_id, limit=limit, after_at=after[0], after_id=after[1]
            )
        return [_shown(row) for row in rows]

    async def sweep(self, *, limit: int) -> int:
        """Delete at most `limit` sessions that ended a while ago; return how many there were."""
        return await self._connection.run(_SWEEP, kept=KEPT_AFTER_END, limit=limit)


def _shown(row: Row) -> Session:
    return Session(
        id=row.id,
        user_id=row.user_id,
        created_at=row.created_at,
        refreshed_at=row.refreshed_at,
        expires_at=row.expires_at,
    )
