from tertulia.domain.ids import new_id
from tertulia.runs.changes import Changes


def notice(user_id: object, what: str = "run.ended") -> dict[str, object]:
    return {
        "kind": "changed",
        "what": what,
        "user_id": str(user_id),
        "conversation_id": "c",
        "run_id": "r",
    }


async def test_only_the_users_own_listeners_are_told() -> None:
    changes, ana, bob = Changes(), new_id(), new_id()
    with changes.of(ana) as hers, changes.of(bob) as his:
        changes.publish(notice(ana))
        changes.publish(notice(bob, "message.created"))
        changes.publish(notice(new_id()))
        told = {"type": "changed", "what": "run.ended", "conversation_id": "c", "run_id": "r"}
        assert await hers.next() == told
        assert await his.next() == {**told, "what": "message.created"}


async def test_a_listener_that_does_not_keep_up_is_told_so_once() -> None:
    changes, ana = Changes(), new_id()
    with changes.of(ana) as listening:
        for _ in range(300):
            changes.publish(notice(ana))
        frames = [await listening.next() for _ in range(257)]
        assert [frame["type"] for frame in frames] == ["changed"] * 256 + ["missed"]
        changes.publish(notice(ana))
        assert (await listening.next())["type"] == "changed"


async def test_whoever_left_is_forgotten() -> None:
    changes, ana = Changes(), new_id()
    with changes.of(ana):
        pass
    changes.publish(notice(ana))
    with changes.of(ana) as listening:
        assert not listening.missed
