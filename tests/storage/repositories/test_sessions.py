import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tertulia.domain.ids import new_id
from tertulia.domain.users import Session, User
from tertulia.storage.database import Database
from tertulia.storage.repositories.sessions import KEPT_AFTER_END, KnownSession
from tertulia.storage.statements import statement

LATER = datetime(2999, 1, 1, tzinfo=UTC)
HASH = b"1" * 32


async def create_user(database: Database, name: str = "ana") -> User:
    async with database.transaction() as work:
        return await work.users.create(
            new_id(), email=f"{name}@example.com", username=name, password_hash="a hash"
        )


async def begin(
    database: Database, user: User, *, lifetime: timedelta = timedelta(days=1)
) -> Session:
    async with database.transaction() as work:
        session = await work.sessions.create(
            new_id(),
            user_id=user.id,
            password_hash="a hash",
            refresh_hash=HASH,
            lifetime=lifetime,
        )
    assert session is not None
    return session


async def authenticate(
    database: Database, session: Session, *, user_id: UUID | None = None, until: datetime = LATER
) -> KnownSession | None:
    async with database.reading() as work:
        return await work.sessions.authenticate(
            session.id, user_id=user_id or session.user_id, token_expires_at=until
        )


class TestCreate:
    async def test_ends_after_its_lifetime(self, database: Database) -> None:
        session = await begin(database, await create_user(database), lifetime=timedelta(hours=3))
        assert session.expires_at - session.created_at == timedelta(hours=3)
        assert session.refreshed_at == session.created_at

    async def test_needs_the_password_of_now(self, database: Database) -> None:
        user = await create_user(database)
        async with database.transaction() as work:
            session = await work.sessions.create(
                new_id(),
                user_id=user.id,
                password_hash="an old hash",
                refresh_hash=HASH,
                lifetime=timedelta(days=1),
            )
        assert session is None

    async def test_needs_an_open_account(self, database: Database) -> None:
        user = await create_user(database)
        async with database.transaction() as work:
            await work.users.set_active(user.email, is_active=False)
            session = await work.sessions.create(
                new_id(),
                user_id=user.id,
                password_hash="a hash",
                refresh_hash=HASH,
                lifetime=timedelta(days=1),
            )
        assert session is None

    async def test_waits_for_a_change_of_the_password_and_then_fails(
        self, database: Database
    ) -> None:
        user = await create_user(database)

        async def begin_with_old_password() -> Session | None:
            async with database.transaction() as work:
                return await work.sessions.create(
                    new_id(),
                    user_id=user.id,
                    password_hash="a hash",
                    refresh_hash=HASH,
                    lifetime=timedelta(days=1),
                )

        async with asyncio.TaskGroup() as group:
            async with database.transaction() as work:
                await work.users.replace_password(user.id, old_hash="a hash", new_hash="new")
                # Started in a context of its own: here a unit of work is open already.
                login = asyncio.get_running_loop().run_in_executor(
                    None, lambda: asyncio.run(_begin_elsewhere(database.dsn, user))
                )
                await asyncio.sleep(0.3)
                assert not login.done()
            group.create_task(_nothing())
        assert await login is None
        assert await begin_with_old_password() is None


async def _nothing() -> None:
    pass


async def _begin_elsewhere(dsn: str, user: User) -> Session | None:
    database = await Database.open(dsn)
    try:
        async with database.transaction() as work:
            return await work.sessions.create(
                new_id(),
                user_id=user.id,
                password_hash="a hash",
                refresh_hash=HASH,
                lifetime=timedelta(days=1),
            )
    finally:
        await database.close()
