from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from tertulia.auth.guesses import Guesses, network_of
from tertulia.domain.errors import (
    Overloaded,
    TertuliaError,
    TooManyAttempts,
    WrongCredentials,
    WrongPassword,
)

ANA, HOME = "ana@example.com", "192.0.2.1"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guesses(clock: Clock) -> Guesses:
    return Guesses(most=3, window_s=60.0, clock=clock)


def guess(guesses: Guesses, email: str = ANA, address: str = HOME) -> str:
    """Guess wrongly; return how that was answered."""
    with pytest.raises(TertuliaError) as refused, guesses.counted(email, address):
        raise WrongCredentials
    match refused.value:
        case TooManyAttempts(retry_after_s=seconds):
            return f"wait {seconds}"
        case _:
            return refused.value.code


def test_so_many_are_looked_at_and_no_more(guesses: Guesses) -> None:
    assert [guess(guesses) for _ in range(5)] == ["wrong_credentials"] * 3 + ["wait 60"] * 2


def test_a_password_that_confirms_something_counts_as_much(guesses: Guesses) -> None:
    for _ in range(3):
        with pytest.raises(WrongPassword), guesses.counted(ANA, HOME):
            raise WrongPassword
    assert guess(guesses) == "wait 60"


def test_each_counts_for_as_long_as_the_window(guesses: Guesses, clock: Clock) -> None:
    for _ in range(3):
        assert guess(guesses) == "wrong_credentials"
        clock.now += 25
    assert guess(guesses) == "wrong_credentials"
    assert guess(guesses) == "wait 10"
    clock.now += 9.5
    assert guess(guesses) == "wait 1"
    clock.now += 0.5
    assert [guess(guesses) for _ in range(2)] == ["wrong_credentials", "wait 25"]


def test_the_right_one_counts_nothing_and_forgets_nothing(guesses: Guesses) -> None:
    assert [guess(guesses) for _ in range(2)] == ["wrong_credentials"] * 2
    for _ in range(5):
        with guesses.counted(ANA, HOME):
            pass
    assert [guess(guesses) for _ in range(2)] == ["wrong_credentials", "wait 60"]


def test_what_was_not_looked_at_does_not_count(guesses: Guesses) -> None:
    for _ in range(5):
        with pytest.raises(Overloaded), guesses.counted(ANA, HOME):
            raise Overloaded
    assert guess(guesses) == "wrong_credentials"


def test_accounts_and_addresses_are_counted_apart(guesses: Guesses) -> None:
    while guess(guesses) == "wrong_credentials":
        pass
    assert guess(guesses, email="bob@example.com") == "wrong_credentials"
    assert guess(guesses, address="192.0.2.2") == "wrong_credentials"
    assert guess(guesses, email="ANA@EXAMPLE.com") == "wait 60"


def test_those_that_are_being_looked_at_may_all_be_wrong(guesses: Guesses) -> None:
    looked_at: list[AbstractContextManager[None]] = []
    for _ in range(3):
        looked_at.append(guesses.counted(ANA, HOME))
        looked_at[-1].__enter__()
    assert guess(guesses) == "wait 1"
    for each in looked_at:
        each.__exit__(None, None, None)
    assert guess(guesses) == "wrong_credentials"


def test_what_counts_no_more_is_forgotten(guesses: Guesses, clock: Clock) -> None:
    for number in range(100):
        guess(guesses, email=f"user{number}@example.com")
    clock.now += 59
    assert guess(guesses) == "wrong_credentials"
    assert len(guesses) == 101
    clock.now += 1
    guess(guesses)
    assert len(guesses) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "a socket", False),
    ],
)
def test_one_host_has_one_network(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
