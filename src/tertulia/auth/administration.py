"""What an administrator does with accounts, at a terminal; it needs no secret key."""

from dataclasses import dataclass

from tertulia.auth.accounts import check_email, check_password, check_username, checked
from tertulia.auth.pages import page_of, place_of
from tertulia.auth.passwords import Passwords
from tertulia.domain.ids import new_id
from tertulia.domain.users import User
from tertulia.http.paging import Page
from tertulia.storage.database import Database, retried


@dataclass(frozen=True, slots=True)
class UserAdministration:
    """Makes, lists, closes and opens accounts."""

    database: Database
    passwords: Passwords

    async def create_user(
        self, *, email: str, username: str, password: str, is_admin: bool = False
    ) -> User:
        """Make an account.

        Raises:
            Invalid: The address, the name or the password cannot be one.
            EmailTaken: Somebody has that address, in any case or Unicode form.
            UsernameTaken: The same for the name.
            Overloaded: Too many passwords are being hashed.
        """
        email = checked(check_email, email, "email")
        username = checked(check_username, username, "username")
        password = checked(check_password, password, "password")
        password_hash = await self.passwords.hash(password)
        return await self._store(email, username, password_hash, is_admin=is_admin)

    @retried
    async def _store(
        self, email: str, username: str, password_hash: str, *, is_admin: bool
    ) -> User:
        async with self.database.transaction() as work:
            return await work.users.create(
                new_id(),
                email=email,
                username=username,
                password_hash=password_hash,
                is_admin=is_admin,
            )

    async def list_users(self, *, limit: int, cursor: str | None = None) -> Page[User]:
        """Return all users, newest first."""
        async with self.database.reading() as work:
            users = await work.users.list(limit=limit + 1, after=place_of(cursor))
        return page_of(users, limit)

    @retried
    async def set_active(self, email: str, *, is_active: bool) -> User:
        """Close an account to everybody at once, or open it again.

        Closing ends its sessions for good. Its API keys open nothing meanwhile, and work again
        when it is opened.

        Raises:
            UserNotFound: Nobody has that address.
        """
        async with self.database.transaction() as work:
            user = await work.users.set_active(email, is_active=is_active)
            if not is_active:
                await work.sessions.revoke_all(user.id)
        return user

    async def set_admin(self, email: str, *, is_admin: bool) -> User:
        """Make the user an administrator, or an ordinary user again.

        Raises:
            UserNotFound: Nobody has that address.
        """
        async with self.database.transaction() as work:
            return await work.users.set_admin(email, is_admin=is_admin)
