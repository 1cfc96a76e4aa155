import asyncio
from dataclasses import replace

import pytest

from tertulia.auth.administration import UserAdministration
from tertulia.domain.errors import EmailTaken, Invalid, UserNotFound
from tertulia.domain.ids import new_id
from tertulia.domain.runs import RunStatus
from tertulia.domain.users import User
from tertulia.storage.database import Database
from tertulia.storage.notices import Listener, Notice, Notifier
from tests.storage.rows import new_conversation
from tests.storage.running import LEASE, append_run, texts, write

from .answers import answer_of, begin_answer, queue_answer


async def create(administration: UserAdministration, name: str = "ana") -> User:
    return await administration.create_user(
        email=f"{name}@example.com", username=name, password="password123"
    )


class TestCreateUser:
    async def test_makes_an_administrator_if_told(self, administration: UserAdministration) -> None:
        user = await administration.create_user(
            email="root@example.com", username="root", password="password123", is_admin=True
        )
        assert user.is_admin

    @pytest.mark.parametrize(
        ("field", "value"),
        [("email", "ana"), ("username", "an"), ("username", "a\ud800na"), ("password", "short")],
    )
    async def test_names_the_field_that_is_wrong(
        self, administration: UserAdministration, field: str, value: str
    ) -> None:
        account = {"email": "a@example.com", "username": "ana", "password": "password123"}
        account[field] = value
        with pytest.raises(Invalid) as refused:
            await administration.create_user(
                email=account["email"], username=account["username"], password=account["password"]
            )
        assert refused.value.field == f"body.{field}"

    async def test_of_a_taken_address_is_refused(self, administration: UserAdministration) -> None:
        await create(administration)
        with pytest.raises(EmailTaken):
            await create(administration)


class TestListUsers:
    async def test_shows_everybody_in_pages(self, administration: UserAdministration) -> None:
        for name in ("ana", "bob", "eve"):
            await create(administration, name)
        first = await administration.list_users(limit=2)
        second = await administration.list_users(limit=2, cursor=first.next_cursor)
        assert [one.username for one in (*first.items, *second.items)] == ["eve", "bob", "ana"]
        assert second.next_cursor is None


class TestSetActive:
    async def test_of_nobody_is_not_found(self, administration: UserAdministration) -> None:
        with pytest.raises(UserNotFound):
            await administration.set_active("nobody@example.com", is_active=False)

    async def test_ends_the_runs_and_keeps_what_they_said(
        self, administration: UserAdministration, database: Database
    ) -> None:
        user, other = await create(administration), await create(administration, "bob")
        running, others = [await begin_answer(database, each.id) for each in (user, other)]
        queued = await queue_answer(database, running)
        await administration.set_active(user.email, is_active=False)
        assert await answer_of(database, running) == (RunStatus.CANCELLED, "one two", False)
        assert await answer_of(database, queued) == (RunStatus.CANCELLED, "", False)
        assert (await answer_of(database, others))[0] is RunStatus.RUNNING

    async def test_fences_whoever_executes_the_runs(
        self, administration: UserAdministration, database: Database
    ) -> None:
        user, owner = await create(administration), new_id()
        conversation = await new_conversation(database, user.id)
        async with database.transaction() as work:
            run = await append_run(work, conversation, owner=owner, lease=LEASE)
        await administration.set_active(user.email, is_active=False)
        assert await write(database, run, texts("more"), owner=owner) == set()
        async with database.reading() as work:
            assert await work.leases.extend([run.id], owner=owner, lease=LEASE) == {}
            assert await work.leases.claim(owner=owner, lease=LEASE, limit=9) == ([], [])

    async def test_tells_the_executors_where_it_can(
        self, administration: UserAdministration, database: Database
    ) -> None:
        user = await create(administration)
        run = await begin_answer(database, user.id)
        heard: asyncio.Queue[Notice] = asyncio.Queue()
        listening, notifier = asyncio.Event(), Notifier(database)
        async with asyncio.TaskGroup() as group:
            listener = Listener(database.dsn, heard.put_nowait, listening.set)
            task = group.create_task(listener.run())
            async with asyncio.timeout(30):
                await listening.wait()
                await replace(administration, notifier=notifier).set_active(
                    user.email, is_active=False
                )
                await notifier.flush()
                assert await heard.get() == {"kind": "stopped", "run_ids": [str(run.id)]}
            task.cancel()


class TestDelete:
    async def test_leaves_nothing_of_the_account(self, administration: UserAdministration) -> None:
        user = await create(administration)
        await administration.delete(user.email)
        assert (await administration.list_users(limit=10)).items == []

    async def test_of_nobody_is_not_found(self, administration: UserAdministration) -> None:
        with pytest.raises(UserNotFound):
            await administration.delete("nobody@example.com")
