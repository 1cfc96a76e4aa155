"""What an administrator does with accounts, at a terminal; it needs no secret key."""

from dataclasses import dataclass
from uuid import UUID

from tertulia.auth.accounts import check_email, check_password, check_username, checked
from tertulia.auth.pages import page_of, place_of
from tertulia.auth.passwords import Passwords
from tertulia.domain.errors import TransactionConflict, UserNotFound
from tertulia.domain.ids import new_id
from tertulia.domain.users import User
from tertulia.http.paging import Page
from tertulia.storage.database import Database, retried
from tertulia.storage.ending import cancel_runs_of_user
from tertulia.storage.notices import Notifier
from tertulia.storage.repositories.users import UserCredentials
from tertulia.storage.unit_of_work import UnitOfWork


@dataclass(frozen=True, slots=True)
class UserAdministration:
    """Makes, lists, closes, opens and deletes accounts."""

    database: Database
    passwords: Passwords
    notifier: Notifier

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

    async def set_active(self, email: str, *, is_active: bool) -> User:
        """Close an account to everybody at once, or open it again.

        Closing ends its sessions and its runs for good; what its answers said so far is kept. Its
        API keys open nothing meanwhile, and work again when it is opened.

        Raises:
            UserNotFound: Nobody has that address.
        """
        user, stopped = await self._set_active(email, is_active=is_active)
        self.notifier.stopped(stopped)
        return user

    @retried
    async def _set_active(self, email: str, *, is_active: bool) -> tuple[User, list[UUID]]:
        async with self.database.transaction() as work:
            user = await work.users.set_active(email, is_active=is_active)
            if is_active:
                return user, []
            await work.sessions.revoke_all(user.id)
            return user, await cancel_runs_of_user(work, user.id)

    async def delete(self, email: str) -> None:
        """Delete an account and everything of it without its password; its runs are stopped.

        Raises:
            UserNotFound: Nobody has that address.
        """
        # In this order for the reason that `AuthService.delete_account` gives.
        self.notifier.stopped(await self._stop_runs(email))
        self.notifier.stopped(await self._delete(email))

    @retried
    async def _stop_runs(self, email: str) -> list[UUID]:
        async with self.database.transaction() as work:
            found = await _find(work, email)
            return await cancel_runs_of_user(work, found.user.id)

    @retried
    async def _delete(self, email: str) -> list[UUID]:
        async with self.database.deletion() as work:
            found = await _find(work, email)
            stopped = list(await work.runs.stop_of_user(found.user.id))
            if not await work.users.delete(found.user.id, password_hash=found.password_hash):
                # The password was changed in the meantime, which does not protect the account.
                raise TransactionConflict
        return stopped


async def _find(work: UnitOfWork, email: str) -> UserCredentials:
    found = await work.users.find_credentials(email)
    if found is None:
        raise UserNotFound
    return found
