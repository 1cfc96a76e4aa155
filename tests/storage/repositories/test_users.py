import asyncio
from uuid import UUID

import pytest

from tertulia.domain.errors import EmailTaken, UsernameTaken, UserNotFound
from tertulia.domain.ids import new_id
from tertulia.domain.users import User
from tertulia.storage.database import Database


async def create(database: Database, email: str = "ana@example.com", username: str = "ana") -> User:
    async with database.transaction() as work:
        return await work.users.create(
            new_id(), email=email, username=username, password_hash="a hash"
        )


class TestCreate:
    async def test_returns_an_active_ordinary_user(self, database: Database) -> None:
        user = await create(database)
        assert (user.email, user.username) == ("ana@example.com", "ana")
        assert user.is_active
        assert not user.is_admin
        assert user.created_at.utcoffset() is not None

    @pytest.mark.parametrize(
        "email",
        [
            "ana@example.com",
            "ANA@EXAMPLE.COM",
            "\uff21\uff2e\uff21@example.com",
            "ana@\uff45xample.com",
        ],
    )
    async def test_an_address_in_any_form_is_taken_once(
        self, database: Database, email: str
    ) -> None:
        await create(database)
        with pytest.raises(EmailTaken):
            await create(database, email=email, username="another")

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("alice", "ALICE"),
            ("alice", "\uff41\uff4c\uff49\uff43\uff45"),
            ("straße", "STRASSE"),
            ("jos\u00e9", "jose\u0301"),
            ("İzmir", "i\u0307zmir"),
            ("ﬁlip", "filip"),
            ("\u2126 mega", "\u03a9 mega"),
            ("σίσυφος", "ΣΊΣΥΦΟΣ"),
        ],
    )
    async def test_a_name_in_any_form_is_taken_once(
        self, database: Database, first: str, second: str
    ) -> None:
        await create(database, username=first)
        with pytest.raises(UsernameTaken):
            await create(database, email="b@example.com", username=second)

    async def test_the_address_is_named_first_when_both_are_taken(self, database: Database) -> None:
        await create(database)
        with pytest.raises(EmailTaken):
            await create(database)

    async def test_of_many_at_once_one_gets_the_address(self, database: Database) -> None:
        made = await asyncio.gather(
            *(create(database, username=f"user {number}") for number in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, User) for one in made) == 1
        assert sum(isinstance(one, EmailTaken) for one in made) == 9


class TestGet:
    async def test_returns_the_user(self, database: Database) -> None:
        user = await create(database)
        async with database.reading() as work:
            assert await work.users.get(user.id) == user

    async def test_of_nobody_is_not_found(self, database: Database) -> None:
        async with database.reading() as work:
            with pytest.raises(UserNotFound):
                await work.users.get(new_id())


class TestCredentials:
    async def test_are_found_by_any_form_of_the_address(self, database: Database) -> None:
        user = await create(database)
        async with database.reading() as work:
            found = await work.users.find_credentials("Ana@EXAMPLE.com")
        assert found is not None
        assert (found.user, found.password_hash) == (user, "a hash")

    async def test_of_an_unknown_address_are_none(self, database: Database) -> None:
        async with database.reading() as work:
            assert await work.users.find_credentials("nobody@example.com") is None

    async def test_do_not_show_the_hash_when_printed(self, database: Database) -> None:
        user = await create(database)
        async with database.reading() as work:
            credentials = await work.users.get_credentials(user.id)
        assert "a hash" not in repr(credentials)


class TestList:
    async def test_pages_show_everybody_once_newest_first(self, database: Database) -> None:
        created = [await create(database, f"u{n}@example.com", f"user {n}") for n in range(5)]
        seen: list[UUID] = []
        after = None
        async with database.reading() as work:
            while page := await work.users.list(limit=2, after=after):
                seen += [user.id for user in page]
                after = (page[-1].created_at, page[-1].id)
        assert seen == [user.id for user in reversed(created)]


class TestSetActive:
    async def test_closes_and_opens(self, database: Database) -> None:
        await create(database)
        async with database.transaction() as work:
            closed = await work.users.set_active("ANA@example.com", is_active=False)
        async with database.transaction() as work:
            opened = await work.users.set_active("ana@example.com", is_active=True)
        assert (closed.is_active, opened.is_active) == (False, True)

    async def test_of_nobody_is_not_found(self, database: Database) -> None:
        async with database.transaction() as work:
            with pytest.raises(UserNotFound):
                await work.users.set_active("nobody@example.com", is_active=False)


class TestReplacePassword:
    async def test_takes_the_place_of_the_hash_it_was_checked_against(
        self, database: Database
    ) -> None:
        user = await create(database)
        async with database.transaction() as work:
            assert await work.users.replace_password(user.id, old_hash="a hash", new_hash="new")
            assert (await work.users.get_credentials(user.id)).password_hash == "new"

    async def test_does_nothing_when_another_came_first(self, database: Database) -> None:
        user = await create(database)
        async with database.transaction() as work:
            assert not await work.users.replace_password(user.id, old_hash="old", new_hash="new")
            assert (await work.users.get_credentials(user.id)).password_hash == "a hash"


class TestDelete:
    async def test_takes_everything_of_the_user_with_it(self, database: Database) -> None:
        user = await create(database)
        async with database.transaction() as work:
            conversation = await work.conversations.create(
                new_id(), user_id=user.id, title=None, model_type="local:smollm2"
            )
            await work.api_keys.create(
                new_id(), user_id=user.id, name="k", prefix="sk-", key_hash=b"h", lifetime=None
            )
        async with database.transaction() as work:
            assert await work.users.delete(user.id, password_hash="a hash")
            assert not await work.api_keys.count(user.id)
            assert not await work.conversations.list(user_id=conversation.user_id, limit=1)

    async def test_needs_the_password_of_now(self, database: Database) -> None:
        user = await create(database)
        async with database.transaction() as work:
            assert not await work.users.delete(user.id, password_hash="an old hash")
            assert await work.users.get(user.id) == user
