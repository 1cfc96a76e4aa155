"""What the WebSockets of one process may take together."""

from contextlib import ExitStack

import pytest

from tertulia.domain.errors import TooManyConnections
from tertulia.domain.ids import new_id
from tertulia.http.sockets import Sockets


def test_a_user_has_so_many_and_another_as_many() -> None:
    sockets, ana, bob = Sockets(2), new_id(), new_id()

    with sockets.opened(ana), sockets.opened(ana), sockets.opened(bob):
        with pytest.raises(TooManyConnections), sockets.opened(ana):
            pass
        with sockets.opened(bob):
            pass


def test_one_that_ends_in_whatever_way_makes_room_for_the_next() -> None:
    sockets, ana = Sockets(1), new_id()

    for fault in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(fault), sockets.opened(ana):
            raise fault
    with sockets.opened(ana):
        pass


def test_nothing_is_remembered_of_users_who_have_left() -> None:
    sockets = Sockets(3)

    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(sockets.opened(new_id()))

    assert not sockets._open  # pyright: ignore[reportPrivateUsage]


def test_what_waits_has_a_limit_over_all_of_them() -> None:
    sockets = Sockets(1, waiting_chars_max=100)

    assert sockets.take_in(60)
    assert not sockets.take_in(41)
    assert sockets.take_in(40)
    sockets.let_go(60)
    assert sockets.take_in(60)
