import pytest

from tertulia.auth.administration import UserAdministration
from tertulia.domain.errors import EmailTaken, Invalid, UserNotFound
from tertulia.domain.users import User


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


class TestSetAdmin:
    async def test_can_be_taken_back(self, administration: UserAdministration) -> None:
        user = await create(administration)
        assert (await administration.set_admin(user.email, is_admin=True)).is_admin
        assert not (await administration.set_admin(user.email, is_admin=False)).is_admin
