import asyncio
import threading
from collections.abc import Iterator

import pytest

from tertulia.auth.passwords import HashingCost, Passwords
from tertulia.domain.errors import Overloaded

from .conftest import CHEAP


@pytest.fixture
def narrow() -> Iterator[Passwords]:
    """One thread, for which nobody waits long; a hash takes long enough to meet others."""
    passwords = Passwords(HashingCost(memory_kib=64 * 1024), threads=1, waiting_s=0.01)
    yield passwords
    passwords.close()


class TestHash:
    async def test_is_argon2id_at_the_documented_cost(self) -> None:
        passwords = Passwords()
        try:
            assert (await passwords.hash("secret")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        finally:
            passwords.close()

    async def test_is_never_twice_the_same(self, passwords: Passwords) -> None:
        assert await passwords.hash("secret") != await passwords.hash("secret")


class TestVerify:
    @pytest.mark.parametrize("password", ["secret", "", "密码", "\x00", "x" * 5000, " secret "])
    async def test_knows_the_password_from_others(
        self, passwords: Passwords, password: str
    ) -> None:
        stored = await passwords.hash(password)
        assert (await passwords.verify(password, stored)).is_right
        assert not (await passwords.verify(password + " ", stored)).is_right

    @pytest.mark.parametrize("stored", [None, "", "!", "$argon2id$", "secret"])
    async def test_works_as_much_against_no_hash_and_is_wrong(
        self, passwords: Passwords, stored: str | None
    ) -> None:
        assert not (await passwords.verify("secret", stored)).is_right
        assert passwords.verified == 1

    async def test_gives_a_better_hash_for_one_of_another_cost(self, passwords: Passwords) -> None:
        stored = await passwords.hash("secret")
        stronger = Passwords(HashingCost(memory_kib=16, passes=2))
        try:
            checked = await stronger.verify("secret", stored)
            assert checked.is_right
            assert checked.better_hash is not None
            assert "m=16,t=2,p=1" in checked.better_hash
            assert await stronger.verify("secret", checked.better_hash) == type(checked)(True)
            assert (await stronger.verify("wrong", stored)).better_hash is None
        finally:
            stronger.close()


class TestBounds:
    async def test_who_has_waited_too_long_is_refused(self, narrow: Passwords) -> None:
        made = await asyncio.gather(
            *(narrow.hash("secret") for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(one, str) for one in made) == 1
        assert sum(isinstance(one, Overloaded) for one in made) == 4

    async def test_any_number_may_wait_that_long(self, passwords: Passwords) -> None:
        assert len(await asyncio.gather(*(passwords.hash("secret") for _ in range(200)))) == 200

    async def test_who_gives_up_leaves_room_for_others(self, narrow: Passwords) -> None:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await narrow.hash("secret")
        assert await narrow.hash("secret")

    async def test_the_event_loop_goes_on_meanwhile(self, narrow: Passwords) -> None:
        turns = 0
        async with asyncio.TaskGroup() as group:
            hashing = group.create_task(narrow.hash("secret"))
            while not hashing.done():
                turns += 1
                await asyncio.sleep(0)
        assert turns > 10

    async def test_only_as_many_threads_as_told(self) -> None:
        passwords = Passwords(CHEAP, threads=2)
        try:
            await asyncio.gather(*(passwords.hash("secret") for _ in range(20)))
            names = [one.name for one in threading.enumerate() if one.name.startswith("passwords")]
            assert len(names) <= 2
        finally:
            passwords.close()

    async def test_closing_ends_the_threads(self) -> None:
        passwords = Passwords(HashingCost(memory_kib=8, passes=1))
        await passwords.hash("secret")
        ours = [one for one in threading.enumerate() if one.name.startswith("passwords")]
        passwords.close()
        assert ours
        assert not any(one.is_alive() for one in ours)
