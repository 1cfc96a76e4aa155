# pyright: reportPrivateUsage=false
# It asks PostgreSQL about the very statement that the repository runs.

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tertulia.domain.errors import Unauthenticated, UserInactive
from tertulia.domain.ids import new_id
from tertulia.domain.users import Claim, Session, User
from tertulia.storage.database import Database
from tertulia.storage.repositories import sessions
from tertulia.storage.repositories.sessions import KEPT_AFTER_END
from tertulia.storage.statements import statement
from tests.storage.rows import explain

LATER = datetime(2999, 1, 1, tzinfo=UTC)
HASH = b"1" * 32
SWEEP = {"kept": KEPT_AFTER_END, "limit": 10_000}
_MANY = statement(
    """
    INSERT INTO sessions (id, user_id, family_hash, refresh_hash, expires_at)
    SELECT gen_random_uuid(), :user_id, '', '',
        now() + (number - 10) * CAST('1 day' AS interval)
    FROM generate_series(1, 5000) number
    """
)
_ANALYZE = statement("ANALYZE sessions")
_LEFT = statement("SELECT id FROM sessions WHERE id = ANY(CAST(:ids AS uuid[]))")
_CLOSE = statement("UPDATE users SET is_active = false WHERE id = :user_id")


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
            family_hash=HASH,
            refresh_hash=HASH,
            lifetime=lifetime,
        )
    assert session is not None
    return session


async def authenticate(
    database: Database, session: Session, *, user_id: UUID | None = None, until: datetime = LATER
) -> User:
    async with database.reading() as work:
        return await work.sessions.authenticate(
            Claim(user_id or session.user_id, session.id, expires_at=until)
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
                family_hash=HASH,
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
                family_hash=HASH,
                refresh_hash=HASH,
                lifetime=timedelta(days=1),
            )
        assert session is None

    async def test_waits_for_a_change_of_the_password_and_then_fails(
        self, database: Database
    ) -> None:
        user = await create_user(database)
        changed = asyncio.Event()

        async def begin_with_the_old_password() -> Session | None:
            await changed.wait()
            async with database.transaction() as work:
                return await work.sessions.create(
                    new_id(),
                    user_id=user.id,
                    password_hash="a hash",
                    family_hash=HASH,
                    refresh_hash=HASH,
                    lifetime=timedelta(days=1),
                )

        async with asyncio.TaskGroup() as group:
            login = group.create_task(begin_with_the_old_password())
            async with database.transaction() as work:
                await work.users.replace_password(user.id, old_hash="a hash", new_hash="new")
                changed.set()
                await asyncio.sleep(0.2)
                assert not login.done()
        assert login.result() is None


class TestAuthenticate:
    async def test_returns_the_user_of_a_live_session(self, database: Database) -> None:
        user = await create_user(database)
        assert await authenticate(database, await begin(database, user)) == user

    async def test_knows_the_session_of_another_user_not(self, database: Database) -> None:
        session = await begin(database, await create_user(database))
        other = await create_user(database, "bob")
        with pytest.raises(Unauthenticated):
            await authenticate(database, session, user_id=other.id)

    async def test_knows_no_session_by_an_expired_token(self, database: Database) -> None:
        session = await begin(database, await create_user(database))
        with pytest.raises(Unauthenticated):
            await authenticate(database, session, until=session.created_at)

    async def test_refuses_a_session_that_was_revoked(self, database: Database) -> None:
        session = await begin(database, await create_user(database))
        async with database.transaction() as work:
            assert await work.sessions.revoke(session.id, user_id=session.user_id)
        with pytest.raises(Unauthenticated):
            await authenticate(database, session)

    async def test_refuses_a_session_that_has_expired(self, database: Database) -> None:
        session = await begin(database, await create_user(database), lifetime=timedelta(0))
        with pytest.raises(Unauthenticated):
            await authenticate(database, session)

    async def test_says_that_the_account_is_closed(self, database: Database) -> None:
        session = await begin(database, await create_user(database))
        async with database.reading() as work:
            await work.connection.run(_CLOSE, user_id=session.user_id)
        with pytest.raises(UserInactive):
            await authenticate(database, session)


class TestLock:
    async def test_makes_two_refreshes_take_turns(self, database: Database) -> None:
        session = await begin(database, await create_user(database))

        async def rotate_if_unchanged(new_hash: bytes) -> bool:
            async with database.transaction() as work:
                locked = await work.sessions.lock(session.id)
                assert locked is not None
                if locked.refresh_hash != HASH:
                    return False
                await work.sessions.rotate(
                    session.id,
                    user_id=session.user_id,
                    refresh_hash=new_hash,
                    lifetime=timedelta(days=1),
                )
                return True

        won = await asyncio.gather(*(rotate_if_unchanged(bytes([n]) * 32) for n in range(8)))
        assert sum(won) == 1

    async def test_of_no_session_is_none(self, database: Database) -> None:
        async with database.transaction() as work:
            assert await work.sessions.lock(new_id()) is None


class TestRotate:
    async def test_extends_the_session(self, database: Database) -> None:
        session = await begin(database, await create_user(database))
        async with database.transaction() as work:
            rotated = await work.sessions.rotate(
                session.id,
                user_id=session.user_id,
                refresh_hash=b"2" * 32,
                lifetime=timedelta(days=2),
            )
        assert rotated.created_at == session.created_at
        assert rotated.refreshed_at > session.refreshed_at
        assert rotated.expires_at - rotated.refreshed_at == timedelta(days=2)


class TestRevoke:
    async def test_is_true_once(self, database: Database) -> None:
        session = await begin(database, await create_user(database))
        async with database.transaction() as work:
            assert await work.sessions.revoke(session.id, user_id=session.user_id)
            assert not await work.sessions.revoke(session.id, user_id=session.user_id)

    async def test_spares_the_session_of_another_user(self, database: Database) -> None:
        session = await begin(database, await create_user(database))
        other = await create_user(database, "bob")
        async with database.transaction() as work:
            assert not await work.sessions.revoke(session.id, user_id=other.id)

    async def test_all_means_all_of_that_user(self, database: Database) -> None:
        user, other = await create_user(database), await create_user(database, "bob")
        sessions = [await begin(database, user) for _ in range(3)]
        theirs = await begin(database, other)
        async with database.transaction() as work:
            assert await work.sessions.revoke_all(user.id) == len(sessions)
            assert [one.id for one in await work.sessions.list(other.id, limit=9)] == [theirs.id]


class TestList:
    async def test_pages_show_live_sessions_once_newest_first(self, database: Database) -> None:
        user = await create_user(database)
        live = [await begin(database, user) for _ in range(3)]
        await begin(database, user, lifetime=timedelta(0))
        async with database.transaction() as work:
            await work.sessions.revoke(live.pop(1).id, user_id=user.id)
        async with database.reading() as work:
            first = await work.sessions.list(user.id, limit=1)
            after = (first[0].created_at, first[0].id)
            second = await work.sessions.list(user.id, limit=9, after=after)
        assert [*first, *second] == live[::-1]


class TestSweep:
    @pytest.mark.parametrize("generic", [False, True])
    async def test_looks_at_nothing_else(self, database: Database, generic: bool) -> None:
        user = await create_user(database)
        async with database.reading() as work:
            await work.connection.run(_MANY, user_id=user.id)
            await work.connection.run(_ANALYZE)
        plan = await explain(database, sessions._SWEEP, generic=generic, **SWEEP)
        assert "ix_sessions_ended" in plan.indexes
        assert plan.rows_read <= 10

    async def test_deletes_what_ended_long_ago_and_nothing_else(self, database: Database) -> None:
        user = await create_user(database)
        live = await begin(database, user)
        long_ago = -KEPT_AFTER_END - timedelta(hours=1)
        for _ in range(3):
            await begin(database, user, lifetime=long_ago)
        revoked = await begin(database, user)
        recent = await begin(database, user, lifetime=timedelta(0))
        backdate = statement(
            "UPDATE sessions SET revoked_at = now() - CAST(:ago AS interval) WHERE id = :id"
        )
        async with database.reading() as work:
            await work.connection.run(backdate, ago=-long_ago, id=revoked.id)
            assert [await work.sessions.sweep(limit=3) for _ in range(3)] == [3, 1, 0]
        async with database.reading() as work:
            left = await work.connection.all(_LEFT, ids=[live.id, recent.id, revoked.id])
        assert {row.id for row in left} == {live.id, recent.id}
