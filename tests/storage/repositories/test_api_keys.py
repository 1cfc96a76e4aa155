import asyncio
from datetime import timedelta

import pytest

from tertulia.domain.ids import new_id
from tertulia.domain.users import ApiKey, User
from tertulia.storage.database import Database
from tertulia.storage.repositories.api_keys import LAST_USED_PRECISION, KnownKey
from tertulia.storage.statements import statement

HASH = b"1" * 32
_BACKDATE = statement("UPDATE api_keys SET last_used_at = now() - CAST(:ago AS interval)")
_DISK_FULL = statement(
    """
    CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100''; END'
    """
)
_ON_UPDATE = statement(
    "CREATE TRIGGER t BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION disk_full()"
)
_LOCK_ALL = statement("SELECT id FROM api_keys FOR UPDATE")


async def create_user(database: Database, name: str = "ana") -> User:
    async with database.transaction() as work:
        return await work.users.create(
            new_id(), email=f"{name}@example.com", username=name, password_hash="a hash"
        )


async def create(
    database: Database, user: User, *, key_hash: bytes = HASH, lifetime: timedelta | None = None
) -> ApiKey:
    async with database.transaction() as work:
        return await work.api_keys.create(
            new_id(),
            user_id=user.id,
            name="laptop",
            prefix="sk-abcdefgh",
            key_hash=key_hash,
            lifetime=lifetime,
        )


async def authenticate(database: Database, key_hash: bytes = HASH) -> KnownKey | None:
    async with database.reading() as work:
        return await work.api_keys.authenticate(key_hash)


async def only_key(database: Database, user: User) -> ApiKey:
    async with database.reading() as work:
        (api_key,) = await work.api_keys.list(user.id, limit=2)
    return api_key


class TestCreate:
    async def test_without_a_lifetime_never_expires(self, database: Database) -> None:
        api_key = await create(database, await create_user(database))
        assert api_key.expires_at is None
        assert api_key.last_used_at is None

    async def test_expires_after_its_lifetime(self, database: Database) -> None:
        user = await create_user(database)
        api_key = await create(database, user, lifetime=timedelta(days=30))
        assert api_key.expires_at is not None
        assert api_key.expires_at - api_key.created_at == timedelta(days=30)


class TestAuthenticate:
    async def test_returns_the_user_of_a_live_key(self, database: Database) -> None:
        user = await create_user(database)
        api_key = await create(database, user)
        assert await authenticate(database) == KnownKey(user, api_key.id)

    async def test_of_an_unknown_hash_is_none(self, database: Database) -> None:
        await create(database, await create_user(database))
        assert await authenticate(database, b"2" * 32) is None

    async def test_of_an_expired_key_is_none(self, database: Database) -> None:
        await create(database, await create_user(database), lifetime=timedelta(0))
        assert await authenticate(database) is None

    async def test_of_a_revoked_key_is_none(self, database: Database) -> None:
        user = await create_user(database)
        api_key = await create(database, user)
        async with database.transaction() as work:
            await work.api_keys.revoke(api_key.id, user_id=user.id)
        assert await authenticate(database) is None

    async def test_notes_its_use(self, database: Database) -> None:
        user = await create_user(database)
        api_key = await create(database, user)
        await authenticate(database)
        used_at = (await only_key(database, user)).last_used_at
        assert used_at is not None
        assert used_at > api_key.created_at

    async def test_notes_no_use_again_within_a_minute(self, database: Database) -> None:
        user = await create_user(database)
        await create(database, user)
        await authenticate(database)
        first = await only_key(database, user)
        await authenticate(database)
        assert await only_key(database, user) == first

    async def test_notes_a_use_again_after_a_minute(self, database: Database) -> None:
        user = await create_user(database)
        await create(database, user)
        async with database.reading() as work:
            await work.connection.run(_BACKDATE, ago=LAST_USED_PRECISION + timedelta(seconds=1))
        before = (await only_key(database, user)).last_used_at
        await authenticate(database)
        after = (await only_key(database, user)).last_used_at
        assert before is not None
        assert after is not None
        assert after - before > LAST_USED_PRECISION

    async def test_waits_for_nobody_who_holds_the_row(self, database: Database) -> None:
        user = await create_user(database)
        await create(database, user)
        locked, known = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with database.transaction() as work:
                await work.connection.all(_LOCK_ALL)
                locked.set()
                await known.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(hold())
            await locked.wait()
            async with asyncio.timeout(30):
                assert await authenticate(database) is not None
            known.set()

    async def test_goes_on_when_the_disk_is_full(self, database: Database) -> None:
        user = await create_user(database)
        await create(database, user)
        async with database.reading() as work:
            await work.connection.run(_DISK_FULL)
            await work.connection.run(_ON_UPDATE)
        assert await authenticate(database) is not None
        assert (await only_key(database, user)).last_used_at is None


class TestRevoke:
    async def test_is_true_once(self, database: Database) -> None:
        user = await create_user(database)
        api_key = await create(database, user)
        async with database.transaction() as work:
            assert await work.api_keys.revoke(api_key.id, user_id=user.id)
            assert not await work.api_keys.revoke(api_key.id, user_id=user.id)

    async def test_spares_the_key_of_another_user(self, database: Database) -> None:
        api_key = await create(database, await create_user(database))
        other = await create_user(database, "bob")
        async with database.transaction() as work:
            assert not await work.api_keys.revoke(api_key.id, user_id=other.id)
        assert await authenticate(database) is not None


class TestList:
    async def test_pages_show_unrevoked_keys_once_newest_first(self, database: Database) -> None:
        user, other = await create_user(database), await create_user(database, "bob")
        keys = [await create(database, user, key_hash=bytes([n]) * 32) for n in range(4)]
        await create(database, other, key_hash=b"other")
        async with database.transaction() as work:
            await work.api_keys.revoke(keys.pop(2).id, user_id=user.id)
        async with database.reading() as work:
            first = await work.api_keys.list(user.id, limit=2)
            after = (first[-1].created_at, first[-1].id)
            second = await work.api_keys.list(user.id, limit=2, after=after)
        assert [*first, *second] == keys[::-1]


class TestCount:
    @pytest.mark.parametrize("revoked", [0, 1])
    async def test_leaves_revoked_keys_out(self, database: Database, revoked: int) -> None:
        user = await create_user(database)
        keys = [await create(database, user, key_hash=bytes([n])) for n in range(2)]
        async with database.transaction() as work:
            for api_key in keys[:revoked]:
                await work.api_keys.revoke(api_key.id, user_id=user.id)
            assert await work.api_keys.count(user.id) == 2 - revoked
