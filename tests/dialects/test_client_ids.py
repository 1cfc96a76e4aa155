"""What the ids mean that clients make up."""

from uuid import UUID, uuid5

from tertulia.dialects.client_ids import as_uuid, named
from tertulia.domain.ids import new_id


def test_one_of_ours_is_itself() -> None:
    for ours in (new_id(), uuid5(new_id(), "x")):
        assert named(str(ours), within=new_id()) == (ours, False)


def test_any_other_is_made_up_for_one_user() -> None:
    ana, bob = new_id(), new_id()
    for theirs in ("x3Fk9", "0b7e1a52-6c1f-4d5e-9c3a-2f1d0c9b8a70", "日本"):
        found = named(theirs, within=ana)
        assert found.is_made_up
        assert found == named(theirs, within=ana)
        assert found.id != named(theirs, within=bob).id


def test_what_is_made_up_can_be_spoken_of_by_its_own_id() -> None:
    user = new_id()
    made = named("x3Fk9", within=user).id
    assert named(str(made), within=user) == (made, False)


def test_only_our_spelling_is_an_id() -> None:
    ours = new_id()
    assert as_uuid(str(ours).upper()) == ours
    for other in (ours.hex, f"{{{ours}}}", f"urn:uuid:{ours}", "", "x"):
        assert as_uuid(other) is None
    assert isinstance(as_uuid(str(ours)), UUID)
