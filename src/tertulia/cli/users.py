"""What the command line does with accounts, on a database of its own opening."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tertulia.auth.administration import UserAdministration
from tertulia.auth.passwords import Passwords
from tertulia.storage.database import Database, DatabaseLimits
from tertulia.storage.notices import Notifier

Result = TypeVar("Result")
POOL_SIZE = 2


def with_users(dsn: str, work: Callable[[UserAdministration], Awaitable[Result]]) -> Result:
    """Return what `work` does with the accounts in the migrated database at `dsn`.

    Raises:
        TertuliaError: What `work` raises, or that the database went away.
    """

    async def connected() -> Result:
        opened = await Database.open(dsn, DatabaseLimits(pool_size=POOL_SIZE))
        passwords = Passwords()
        try:
            notifier = Notifier(opened)
            done = await work(UserAdministration(opened, passwords, notifier))
            await notifier.flush()
            return done
        finally:
            passwords.close()
            await opened.close()

    return asyncio.run(connected())
