import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from tertulia.auth.administration import UserAdministration
from tertulia.auth.guesses import GUESSES_WINDOW_S, Guesses
from tertulia.auth.passwords import HashingCost, Passwords
from tertulia.auth.service import AuthService, Tokens
from tertulia.auth.tokens import RefreshToken
from tertulia.domain.errors import (
    ApiKeyNotFound,
    EmailTaken,
    Invalid,
    RefreshTokenReused,
    RegistrationClosed,
    SessionNotFound,
    TertuliaError,
    TooManyApiKeys,
    TooManyAttempts,
    Unauthenticated,
    UserInactive,
    UsernameTaken,
    UserNotFound,
    WrongCredentials,
    WrongPassword,
)
from tertulia.domain.ids import new_id
from tertulia.domain.runs import RunStatus
from tertulia.domain.users import User
from tertulia.storage.database import Database
from tertulia.storage.notices import Listener, Notice
from tertulia.storage.statements import statement

from .answers import answer_of, begin_answer
from .people import PASSWORD

EMAIL = "ana@example.com"
_NO_DELETION = statement(
    """
    CREATE FUNCTION no_deletion() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION USING ERRCODE = ''53100''; END'
    """
)
_ON_DELETE = statement(
    "CREATE TRIGGER t BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION no_deletion()"
)


async def register(auth: AuthService, name: str = "ana") -> User:
    return await auth.register(email=f"{name}@example.com", username=name, password=PASSWORD)


async def login(auth: AuthService, name: str = "ana", password: str = PASSWORD) -> Tokens:
    return await auth.login(email=f"{name}@example.com", password=password)


async def assert_dead(auth: AuthService, *tokens: Tokens) -> None:
    """Neither token of a login opens anything."""
    for one in tokens:
        with pytest.raises(Unauthenticated):
            await auth.authenticate(one.access_token)
        with pytest.raises(Unauthenticated):
            await auth.refresh(one.refresh_token)


async def session_id(auth: AuthService, tokens: Tokens) -> UUID:
    found = (await auth.authenticate(tokens.access_token)).session_id
    assert found is not None
    return found


class TestRegister:
    async def test_can_be_closed(self, auth: AuthService) -> None:
        with pytest.raises(RegistrationClosed):
            await register(replace(auth, registration_open=False))

    async def test_keeps_the_address_in_its_normal_form(self, auth: AuthService) -> None:
        user = await auth.register(email="Ana@EXAMPLE.com", username="ana", password=PASSWORD)
        assert user.email == "Ana@example.com"

    async def test_of_twenty_at_once_one_gets_the_address(self, auth: AuthService) -> None:
        outcomes = await asyncio.gather(
            *(
                auth.register(email=EMAIL, username=f"ana {number}", password=PASSWORD)
                for number in range(20)
            ),
            return_exceptions=True,
        )
        assert Counter(map(type, outcomes)) == {User: 1, EmailTaken: 19}

    async def test_of_twenty_at_once_one_gets_the_name(self, auth: AuthService) -> None:
        outcomes = await asyncio.gather(
            *(
                auth.register(email=f"ana{number}@example.com", username="ana", password=PASSWORD)
                for number in range(20)
            ),
            return_exceptions=True,
        )
        assert Counter(map(type, outcomes)) == {User: 1, UsernameTaken: 19}

    async def test_stores_the_password_only_as_a_hash(
        self, auth: AuthService, database: Database
    ) -> None:
        user = await register(auth)
        async with database.reading() as work:
            credentials = await work.users.get_credentials(user.id)
        assert credentials.password_hash.startswith("$argon2id$")


class TestLogin:
    async def test_takes_the_address_in_any_form(self, auth: AuthService) -> None:
        user = await register(auth)
        tokens = await auth.login(email="ANA@Example.com", password=PASSWORD)
        assert (await auth.authenticate(tokens.access_token)).user == user

    async def test_with_a_wrong_password_says_no_more_than_with_an_unknown_address(
        self, auth: AuthService
    ) -> None:
        await register(auth)
        with pytest.raises(WrongCredentials) as wrong:
            await login(auth, password="password124")
        with pytest.raises(WrongCredentials) as unknown:
            await login(auth, "nobody")
        assert wrong.value.detail == unknown.value.detail

    async def test_works_as_much_for_an_unknown_address(
        self, auth: AuthService, passwords: Passwords
    ) -> None:
        with pytest.raises(WrongCredentials):
            await login(auth, "nobody")
        assert passwords.verified == 1

    async def test_replaces_a_hash_of_another_cost(
        self, auth: AuthService, database: Database
    ) -> None:
        user = await register(auth)
        stronger = Passwords(HashingCost(memory_kib=16, passes=1))
        try:
            later = replace(auth, passwords=stronger)
            # Several at once, so that they meet while the hash is being replaced.
            await asyncio.gather(*(login(later) for _ in range(4)))
            assert await login(later)
        finally:
            stronger.close()
        async with database.reading() as work:
            assert "m=16," in (await work.users.get_credentials(user.id)).password_hash


class TestGuessing:
    """Wrong passwords, of which three are allowed here."""

    @pytest.fixture
    def auth(self, auth: AuthService) -> AuthService:
        return replace(auth, guesses=Guesses(most=3))

    async def guess(self, auth: AuthService, name: str, address: str = "192.0.2.1") -> str:
        with pytest.raises(TertuliaError) as refused:
            await auth.login(email=f"{name}@example.com", password="a guess", address=address)
        return refused.value.code

    @pytest.mark.parametrize("name", ["ana", "nobody"])
    async def test_is_not_answered_for_long_whoever_is_meant(
        self, auth: AuthService, passwords: Passwords, name: str
    ) -> None:
        await register(auth)
        codes = [await self.guess(auth, name) for _ in range(5)]
        assert codes == ["wrong_credentials"] * 3 + ["too_many_attempts"] * 2
        assert passwords.verified == 3
        with pytest.raises(TooManyAttempts) as refused:
            await auth.login(email=f"{name}@example.com", password=PASSWORD, address="192.0.2.1")
        assert 0 < (refused.value.retry_after_s or 0) <= GUESSES_WINDOW_S

    async def test_at_once_is_no_way_around(self, auth: AuthService, passwords: Passwords) -> None:
        await register(auth)
        codes = await asyncio.gather(*(self.guess(auth, "ana") for _ in range(20)))
        assert Counter(codes) == {"wrong_credentials": 3, "too_many_attempts": 17}
        assert passwords.verified == 3

    async def test_locks_nobody_out_elsewhere(self, auth: AuthService) -> None:
        await register(auth)
        await register(auth, "bob")
        for _ in range(4):
            await self.guess(auth, "ana")
        assert await auth.login(email=EMAIL, password=PASSWORD, address="192.0.2.2")
        assert await auth.login(email="bob@example.com", password=PASSWORD, address="192.0.2.1")

    async def test_is_counted_at_every_door_that_takes_a_password(self, auth: AuthService) -> None:
        user = await register(auth)
        where = "192.0.2.1"
        await self.guess(auth, "ANA")
        with pytest.raises(WrongPassword):
            await auth.change_password(user.id, current="a guess", new="a new one", address=where)
        with pytest.raises(WrongPassword):
            await auth.delete_account(user.id, password="a guess", address=where)
        with pytest.raises(TooManyAttempts):
            await auth.login(email=EMAIL, password=PASSWORD, address=where)
        with pytest.raises(TooManyAttempts):
            await auth.change_password(user.id, current=PASSWORD, new="a new one", address=where)
        with pytest.raises(TooManyAttempts):
            await auth.delete_account(user.id, password=PASSWORD, address=where)


class TestAuthenticate:
    async def test_an_access_token_names_its_session(self, auth: AuthService) -> None:
        user = await register(auth)
        caller = await auth.authenticate((await login(auth)).access_token)
        assert (caller.user, caller.api_key_id) == (user, None)
        page = await auth.list_sessions(user.id, limit=5)
        assert [one.id for one in page.items] == [caller.session_id]

    async def test_an_access_token_ends_by_the_clock_of_the_database(
        self, auth: AuthService
    ) -> None:
        await register(auth)
        short = replace(auth, access_lifetime=timedelta(0))
        tokens = await login(short)
        with pytest.raises(Unauthenticated):
            await auth.authenticate(tokens.access_token)
        refreshed = await auth.refresh(tokens.refresh_token)
        assert await auth.authenticate(refreshed.access_token)

    async def test_a_session_that_was_not_refreshed_ends(self, auth: AuthService) -> None:
        await register(auth)
        tokens = await login(replace(auth, refresh_lifetime=timedelta(0)))
        await assert_dead(auth, tokens)

    async def test_a_refresh_token_is_no_access_token(self, auth: AuthService) -> None:
        await register(auth)
        with pytest.raises(Unauthenticated):
            await auth.authenticate((await login(auth)).refresh_token)

    async def test_an_access_token_is_no_refresh_token(self, auth: AuthService) -> None:
        await register(auth)
        with pytest.raises(Unauthenticated):
            await auth.refresh((await login(auth)).access_token)

    async def test_a_genuine_token_of_a_deleted_user_opens_nothing(self, auth: AuthService) -> None:
        user = await register(auth)
        tokens = await login(auth)
        await auth.delete_account(user.id, password=PASSWORD)
        await assert_dead(auth, tokens)

    async def test_an_api_key_names_itself(self, auth: AuthService) -> None:
        user = await register(auth)
        made = await auth.create_api_key(user.id, name="laptop")
        caller = await auth.authenticate(made.secret)
        assert (caller.user, caller.session_id, caller.api_key_id) == (user, None, made.api_key.id)

    @pytest.mark.parametrize("token", ["sk-", "sk-" + "a" * 43, "sk-" + "a" * 5000, "sk-\ud800"])
    async def test_an_unknown_api_key_opens_nothing(self, auth: AuthService, token: str) -> None:
        with pytest.raises(Unauthenticated):
            await auth.authenticate(token)

    async def test_costs_one_statement(self, auth: AuthService) -> None:
        user = await register(auth)
        tokens = await login(auth)
        made = await auth.create_api_key(user.id, name="laptop")
        for token in (tokens.access_token, made.secret, made.secret):
            assert await count_statements(auth, token) == 1


async def count_statements(auth: AuthService, token: str) -> int:
    """Authenticate on a database with one connection, which counts."""
    database = await Database.open(auth.database.dsn)
    statements: list[str] = []
    try:
        async with database.reading() as work:
            driver = work.connection.driver
            driver.add_query_logger(lambda record: statements.append(record.query))
        await replace(auth, database=database).authenticate(token)
    finally:
        await database.close()
    return len(statements)


class TestRefresh:
    async def test_gives_new_tokens_for_the_same_session(self, auth: AuthService) -> None:
        await register(auth)
        first = await login(auth)
        second = await auth.refresh(first.refresh_token)
        assert second.refresh_token != first.refresh_token
        assert await session_id(auth, second) == await session_id(auth, first)

    async def test_used_twice_ends_the_session_for_everybody(self, auth: AuthService) -> None:
        await register(auth)
        first = await login(auth)
        second = await auth.refresh(first.refresh_token)
        with pytest.raises(RefreshTokenReused):
            await auth.refresh(first.refresh_token)
        await assert_dead(auth, first, second)

    async def test_used_twice_spares_other_sessions(self, auth: AuthService) -> None:
        await register(auth)
        first, other = await login(auth), await login(auth)
        await auth.refresh(first.refresh_token)
        with pytest.raises(RefreshTokenReused):
            await auth.refresh(first.refresh_token)
        assert await auth.authenticate(other.access_token)

    async def test_used_many_times_at_once_is_good_once_and_ends_the_session(
        self, auth: AuthService
    ) -> None:
        await register(auth)
        first = await login(auth)
        outcomes = await asyncio.gather(
            *(auth.refresh(first.refresh_token) for _ in range(10)), return_exceptions=True
        )
        assert Counter(map(type, outcomes)) == {Tokens: 1, RefreshTokenReused: 9}
        (won,) = [one for one in outcomes if isinstance(one, Tokens)]
        await assert_dead(auth, won)

    async def test_used_long_ago_still_ends_the_session(self, auth: AuthService) -> None:
        await register(auth)
        first = newest = await login(auth)
        for _ in range(5):
            newest = await auth.refresh(newest.refresh_token)
        with pytest.raises(RefreshTokenReused):
            await auth.refresh(first.refresh_token)
        await assert_dead(auth, newest)

    async def test_with_a_made_up_token_ends_nothing(self, auth: AuthService) -> None:
        await register(auth)
        tokens = await login(auth)
        known = await session_id(auth, tokens)
        for token in (
            RefreshToken.first(known).text,
            f"rt_{known.hex}_{'a' * 43}.{tokens.refresh_token.partition('.')[2]}",
        ):
            with pytest.raises(Unauthenticated) as refused:
                await auth.refresh(token)
            assert type(refused.value) is Unauthenticated
        assert await auth.authenticate(tokens.access_token)
        assert await auth.refresh(tokens.refresh_token)

    async def test_with_a_session_nobody_has_is_refused(self, auth: AuthService) -> None:
        with pytest.raises(Unauthenticated):
            await auth.refresh(RefreshToken.first(new_id()).text)


class TestLogout:
    async def test_ends_both_tokens_at_once(self, auth: AuthService) -> None:
        user = await register(auth)
        tokens, other = await login(auth), await login(auth)
        await auth.logout(await session_id(auth, tokens), user_id=user.id)
        await assert_dead(auth, tokens)
        assert await auth.authenticate(other.access_token)

    async def test_of_the_session_of_another_user_is_not_found(self, auth: AuthService) -> None:
        await register(auth)
        tokens = await login(auth)
        bob = await register(auth, "bob")
        with pytest.raises(SessionNotFound):
            await auth.logout(await session_id(auth, tokens), user_id=bob.id)
        assert await auth.authenticate(tokens.access_token)

    async def test_everywhere_ends_all_sessions_and_keeps_keys(self, auth: AuthService) -> None:
        user = await register(auth)
        tokens, other = await login(auth), await login(auth)
        made = await auth.create_api_key(user.id, name="laptop")
        await auth.logout_everywhere(user.id)
        await assert_dead(auth, tokens, other)
        assert await auth.authenticate(made.secret)


class TestChangePassword:
    async def test_ends_every_session_and_begins_one(self, auth: AuthService) -> None:
        user = await register(auth)
        old = [await login(auth) for _ in range(2)]
        fresh = await auth.change_password(user.id, current=PASSWORD, new="a new one")
        await assert_dead(auth, *old)
        assert (await auth.authenticate(fresh.access_token)).user.id == user.id
        assert await auth.refresh(fresh.refresh_token)

    async def test_takes_the_old_password_no_more(self, auth: AuthService) -> None:
        user = await register(auth)
        await auth.change_password(user.id, current=PASSWORD, new="a new one")
        with pytest.raises(WrongCredentials):
            await login(auth)
        assert await login(auth, password="a new one")

    async def test_needs_the_old_password(self, auth: AuthService) -> None:
        user = await register(auth)
        tokens = await login(auth)
        with pytest.raises(WrongPassword):
            await auth.change_password(user.id, current="password124", new="a new one")
        assert await auth.authenticate(tokens.access_token)

    async def test_refuses_what_can_be_no_password(self, auth: AuthService) -> None:
        user = await register(auth)
        with pytest.raises(Invalid):
            await auth.change_password(user.id, current=PASSWORD, new="short")

    async def test_leaves_no_session_begun_meanwhile_with_the_old_password(
        self, auth: AuthService
    ) -> None:
        user = await register(auth)
        outcomes = await asyncio.gather(
            *(login(auth) for _ in range(5)),
            auth.change_password(user.id, current=PASSWORD, new="a new one"),
            *(login(auth) for _ in range(5)),
            return_exceptions=True,
        )
        fresh = outcomes.pop(5)
        assert isinstance(fresh, Tokens)
        for outcome in outcomes:
            assert isinstance(outcome, Tokens | WrongCredentials)
            if isinstance(outcome, Tokens):
                await assert_dead(auth, outcome)
        assert await auth.authenticate(fresh.access_token)


class TestDeleteAccount:
    async def test_needs_the_password(self, auth: AuthService) -> None:
        user = await register(auth)
        with pytest.raises(WrongPassword):
            await auth.delete_account(user.id, password="password124")
        assert await login(auth)

    async def test_deletes_everything_and_stops_the_runs(
        self, auth: AuthService, database: Database
    ) -> None:
        user = await register(auth)
        await auth.create_api_key(user.id, name="laptop")
        await login(auth)
        run_id = (await begin_answer(database, user.id)).id
        heard: list[Notice] = []
        listening, told = asyncio.Event(), asyncio.Event()

        def receive(notice: Notice) -> None:
            heard.append(notice)
            told.set()

        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(Listener(database.dsn, receive, listening.set).run()),
                group.create_task(auth.notifier.run()),
            ]
            async with asyncio.timeout(30):
                await listening.wait()
                await auth.delete_account(user.id, password=PASSWORD)
                await told.wait()
            for task in background:
                task.cancel()
        assert heard == [{"kind": "stopped", "run_ids": [str(run_id)]}]
        async with database.reading() as work:
            assert await work.runs.statuses([run_id]) == {}
            with pytest.raises(UserNotFound):
                await work.users.get(user.id)

    async def test_that_fails_loses_nothing_of_an_answer(
        self, auth: AuthService, database: Database
    ) -> None:
        user = await register(auth)
        run = await begin_answer(database, user.id)
        async with database.transaction() as work:
            await work.connection.run(_NO_DELETION)
            await work.connection.run(_ON_DELETE)
        with pytest.raises(TertuliaError):
            await auth.delete_account(user.id, password=PASSWORD)
        assert await login(auth)
        assert await answer_of(database, run) == (RunStatus.CANCELLED, "one two", False)

    async def test_frees_address_and_name(self, auth: AuthService) -> None:
        user = await register(auth)
        await auth.delete_account(user.id, password=PASSWORD)
        assert (await register(auth)).id != user.id


class TestApiKeys:
    async def test_expire(self, auth: AuthService) -> None:
        user = await register(auth)
        made = await auth.create_api_key(user.id, name="old", lifetime=timedelta(0))
        with pytest.raises(Unauthenticated):
            await auth.authenticate(made.secret)

    async def test_open_nothing_once_revoked(self, auth: AuthService) -> None:
        user = await register(auth)
        made = await auth.create_api_key(user.id, name="laptop")
        await auth.revoke_api_key(made.api_key.id, user_id=user.id)
        with pytest.raises(Unauthenticated):
            await auth.authenticate(made.secret)
        with pytest.raises(ApiKeyNotFound):
            await auth.revoke_api_key(made.api_key.id, user_id=user.id)

    async def test_are_shown_by_the_beginning_of_their_secret(self, auth: AuthService) -> None:
        user = await register(auth)
        made = await auth.create_api_key(user.id, name="laptop")
        (shown,) = (await auth.list_api_keys(user.id, limit=5)).items
        assert made.secret.startswith(shown.prefix)
        assert len(shown.prefix) == 11

    async def test_are_no_more_than_allowed_even_when_made_at_once(self, auth: AuthService) -> None:
        user = await register(auth)
        few = replace(auth, api_keys_max=3)
        outcomes = await asyncio.gather(
            *(few.create_api_key(user.id, name=f"key {number}") for number in range(8)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, TooManyApiKeys) for one in outcomes) == 5
        page = await auth.list_api_keys(user.id, limit=9)
        await auth.revoke_api_key(page.items[0].id, user_id=user.id)
        assert await few.create_api_key(user.id, name="another")

    async def test_are_listed_in_pages(self, auth: AuthService) -> None:
        user = await register(auth)
        for number in range(3):
            await auth.create_api_key(user.id, name=f"key {number}")
        first = await auth.list_api_keys(user.id, limit=2)
        second = await auth.list_api_keys(user.id, limit=2, cursor=first.next_cursor)
        names = [one.name for one in (*first.items, *second.items)]
        assert names == ["key 2", "key 1", "key 0"]
        assert second.next_cursor is None


class TestDeactivation:
    async def test_closes_every_door(
        self, auth: AuthService, administration: UserAdministration
    ) -> None:
        user = await register(auth)
        tokens = await login(auth)
        key = (await auth.create_api_key(user.id, name="laptop")).secret
        await administration.set_active(EMAIL, is_active=False)
        doors = (
            auth.authenticate(tokens.access_token),
            auth.authenticate(key),
            auth.refresh(tokens.refresh_token),
            login(auth),
        )
        outcomes = await asyncio.gather(*doors, return_exceptions=True)
        assert [type(one) for one in outcomes] == [UserInactive] * 4

    async def test_tells_nobody_without_the_password(
        self, auth: AuthService, administration: UserAdministration
    ) -> None:
        await register(auth)
        await administration.set_active(EMAIL, is_active=False)
        with pytest.raises(WrongCredentials):
            await login(auth, password="password124")

    async def test_taken_back_leaves_sessions_ended_and_opens_keys(
        self, auth: AuthService, administration: UserAdministration
    ) -> None:
        user = await register(auth)
        tokens = await login(auth)
        key = (await auth.create_api_key(user.id, name="laptop")).secret
        await administration.set_active(EMAIL, is_active=False)
        await administration.set_active(EMAIL, is_active=True)
        await assert_dead(auth, tokens)
        assert await auth.authenticate(key)
        assert await login(auth)

    async def test_racing_with_logins_leaves_no_session(
        self, auth: AuthService, administration: UserAdministration
    ) -> None:
        user = await register(auth)
        outcomes = await asyncio.gather(
            *(login(auth) for _ in range(5)),
            administration.set_active(EMAIL, is_active=False),
            *(login(auth) for _ in range(5)),
            return_exceptions=True,
        )
        assert all(isinstance(one, Tokens | User | TertuliaError) for one in outcomes)
        assert not (await auth.list_sessions(user.id, limit=20)).items


def test_secrets_do_not_show_themselves_when_printed() -> None:
    assert "secret" not in repr(Tokens("a secret", "a secret", 1))
