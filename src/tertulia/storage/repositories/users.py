"""Users: who has an account here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg

from tertulia.domain.errors import EmailTaken, UsernameTaken, UserNotFound
from tertulia.domain.users import User, identity_key
from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.repositories.conversations import DELETION_S
from tertulia.storage.statements import statement

_SHOWN = "id, email, username, is_active, is_admin, created_at, updated_at"

_CREATE = statement(
    f"""
    INSERT INTO users (id, email, email_key, username, username_key, password_hash, is_admin)
    VALUES (:id, :email, :email_key, :username, :username_key, :password_hash, :is_admin)
    RETURNING {_SHOWN}
    """
)
_GET = statement(f"SELECT {_SHOWN} FROM users WHERE id = :id")
_GET_CREDENTIALS = statement(f"SELECT {_SHOWN}, password_hash FROM users WHERE id = :id")
_FIND_CREDENTIALS = statement(
    f"SELECT {_SHOWN}, password_hash FROM users WHERE email_key = :email_key"
)
_LOCK = statement("SELECT id FROM users WHERE id = :id FOR NO KEY UPDATE")
_LIST = statement(
    f"SELECT {_SHOWN} FROM users ORDER BY created_at DESC, id DESC LIMIT CAST(:limit AS integer)"
)
_LIST_AFTER = statement(
    f"""
    SELECT {_SHOWN} FROM users
    WHERE (created_at, id) < (CAST(:after_at AS timestamptz), CAST(:after_id AS uuid))
    ORDER BY created_at DESC, id DESC LIMIT CAST(:limit AS integer)
    """
)
_SET_ACTIVE = statement(
    f"""
    UPDATE users SET is_active = :is_active, updated_at = now()
    WHERE email_key = :email_key RETURNING {_SHOWN}
    """
)
_REPLACE_PASSWORD = statement(
    """
    UPDATE users SET password_hash = :new_hash, updated_at = now()
    WHERE id = :id AND password_hash = :old_hash
    """
)
_DELETE = statement("DELETE FROM users WHERE id = :id AND password_hash = :password_hash")


@dataclass(frozen=True, slots=True)
class UserCredentials:
    """A user, and what a password is checked against."""

    user: User
    password_hash: str = field(repr=False)


class UserRepository(Repository):
    """Questions about users."""

    async def create(
        self, id_: UUID, *, email: str, username: str, password_hash: str, is_admin: bool = False
    ) -> User:
        """Store a new, active user.

        Whether a name is free is decided by the constraints alone, so of two at once exactly one
        gets it. After a refusal the transaction can do nothing more.

        Raises:
            EmailTaken: Another user has that address, in any case or Unicode form.
            UsernameTaken: The same for the name.
        """
        try:
            row = await self._connection.one(
                _CREATE,
                id=id_,
                email=email,
                email_key=identity_key(email),
                username=username,
                username_key=identity_key(username),
                password_hash=password_hash,
                is_admin=is_admin,
            )
        except asyncpg.UniqueViolationError as error:
            match error.constraint_name:
                case "uq_users_email_key":
                    raise EmailTaken(field="body.email") from error
                case "uq_users_username_key":
                    raise UsernameTaken(field="body.username") from error
                case _:
                    raise
        return user_of(row)

    async def get(self, id_: UUID) -> User:
        """Return the user.

        Raises:
            UserNotFound: No such user.
        """
        return user_of(_existing(await self._connection.first(_GET, id=id_)))

    async def get_credentials(self, id_: UUID) -> UserCredentials:
        """Return the user, and what their password is checked against.

        Raises:
            UserNotFound: No such user.
        """
        row = _existing(await self._connection.first(_GET_CREDENTIALS, id=id_))
        return UserCredentials(user_of(row), row.password_hash)

    async def find_credentials(self, email: str) -> UserCredentials | None:
        """Return the user with that address, in any case or Unicode form of it."""
        row = await self._connection.first(_FIND_CREDENTIALS, email_key=identity_key(email))
        return None if row is None else UserCredentials(user_of(row), row.password_hash)

    async def list(
        self, *, limit: int, after: tuple[datetime, UUID] | None = None
    ) -> Sequence[User]:
        """Return users, newest first, after the one with that creation time and id."""
        if after is None:
            rows = await self._connection.all(_LIST, limit=limit)
        else:
            rows = await self._connection.all(
                _LIST_AFTER, limit=limit, after_at=after[0], after_id=after[1]
            )
        return [user_of(row) for row in rows]

    async def lock(self, id_: UUID) -> None:
        """Let nobody else change the user until the transaction ends.

        Raises:
            UserNotFound: No such user.
        """
        _existing(await self._connection.first(_LOCK, id=id_))

    async def set_active(self, email: str, *, is_active: bool) -> User:
        """Open or close the account with that address.

        Raises:
            UserNotFound: No such user.
        """
        key = identity_key(email)
        row = await self._connection.first(_SET_ACTIVE, email_key=key, is_active=is_active)
        return user_of(_existing(row))

    async def replace_password(self, id_: UUID, *, old_hash: str, new_hash: str) -> bool:
        """Store a new password's hash, and say whether `old_hash` still stood in its place."""
        changed = await self._connection.run(
            _REPLACE_PASSWORD, id=id_, old_hash=old_hash, new_hash=new_hash
        )
        return changed > 0

    async def delete(self, id_: UUID, *, password_hash: str) -> bool:
        """Delete the user and everything of theirs, and say whether that was still the password.

        Their active runs are to be locked first, by an earlier statement of the same transaction.
        """
        await self._connection.be_patient(DELETION_S)
        return await self._connection.run(_DELETE, id=id_, password_hash=password_hash) > 0


def user_of(row: Row) -> User:
    """Return the user in a row that has the columns of `users` under their own names."""
    return User(
        id=row.id,
        email=row.email,
        username=row.username,
        is_active=row.is_active,
        is_admin=row.is_admin,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _existing(row: Row | None) -> Row:
    if row is None:
        raise UserNotFound
    return row
