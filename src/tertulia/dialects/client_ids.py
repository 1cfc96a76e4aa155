"""Ids that clients make up for conversations and messages that no server has seen yet.

Each becomes an id of ours that only it, and only its user, leads to (UUID version 5, RFC 9562): so
there is nothing to remember, nothing to look up, and no way to another user's things.
"""

from typing import Annotated, NamedTuple
from uuid import UUID, uuid5

from pydantic import AfterValidator, Field, StrictStr
from pydantic_core import PydanticCustomError

ID_CHARS_MAX = 200
_OURS = frozenset({5, 7})
"""Versions of UUIDs that are made here: of a client's id, and of nothing."""


class Named(NamedTuple):
    """What a client's id leads to."""

    id: UUID
    is_made_up: bool
    """Whether the client may be the first to speak of it; else it is ours, or missing."""


def named(client_id: str, *, within: UUID) -> Named:
    """Return what an id means: one of ours itself, any other the one that is made of it.

    Args:
        client_id: As the client sent it.
        within: The user whose conversation it is, or the conversation whose message.
    """
    found = as_uuid(client_id)
    if found is not None and found.version in _OURS:
        return Named(found, is_made_up=False)
    return Named(made_up(client_id, within=within), is_made_up=True)


def made_up(client_id: str, *, within: UUID) -> UUID:
    """Return the id that is made of a client's, whatever that looks like."""
    return uuid5(within, client_id)


def _addressable(client_id: str) -> str:
    """Return an id that can stand in an address: no slash, encoded or not, and no mere dots.

    What stands between a client and this server takes dots for a way to another folder.
    """
    if client_id in (".", "..") or "/" in client_id or "%2f" in client_id.lower():
        raise PydanticCustomError("address", "This cannot stand in an address")
    return client_id


AddressableId = Annotated[
    StrictStr, Field(min_length=1, max_length=ID_CHARS_MAX), AfterValidator(_addressable)
]
"""A client's id of a conversation, which stands in the addresses of what is in it."""


def as_uuid(text: str) -> UUID | None:
    """Return the id if it is spelled as we spell ours."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
