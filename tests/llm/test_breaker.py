from dataclasses import dataclass

from tertulia.llm.breaker import Breaker


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(failures_to_open=5, open_s=15.0, clock=clock)
    for _ in range(5):
        assert breaker.admit()
        breaker.failed()
    return breaker


def test_it_opens_after_five_failures_in_a_row() -> None:
    assert not opened(Clock()).admit()


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(failures_to_open=5)

    for _ in range(3):
        for _ in range(4):
            breaker.failed()
        breaker.succeeded()

    assert breaker.admit()


def test_one_trial_is_admitted_after_fifteen_seconds() -> None:
    clock = Clock()
    breaker = opened(clock)

    clock.now += 14.9
    assert not breaker.admit()
    clock.now += 0.2
    assert [breaker.admit(), breaker.admit()] == [True, False]


def test_a_trial_that_fails_opens_it_again_at_once() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 15
    assert breaker.admit()

    breaker.failed()

    clock.now += 14
    assert not breaker.admit()
    clock.now += 1
    assert breaker.admit()


def test_the_first_token_of_a_trial_closes_it_for_everybody() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 15
    assert breaker.admit()

    breaker.answers()

    assert breaker.admit()


def test_a_trial_that_is_cancelled_makes_room_for_another() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += 15
    assert breaker.admit()

    breaker.left()

    assert breaker.admit()
