"""Pages of lists that are sorted by creation time, newest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from tertulia.domain.users import ApiKey, Session, User
from tertulia.http.paging import Page, decode_cursor, encode_cursor

Listed = TypeVar("Listed", User, Session, ApiKey)


def place_of(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Return the creation time and id of the last item of the page before.

    Raises:
        Invalid: The cursor is not one of such a list.
    """
    return None if cursor is None else decode_cursor(cursor, (datetime, UUID))


def page_of(found: Sequence[Listed], limit: int) -> Page[Listed]:
    """Return the first `limit` of what was found by looking for one more than that."""
    shown = found[:limit]
    if len(found) <= limit:
        return Page(shown, next_cursor=None)
    return Page(shown, next_cursor=encode_cursor(shown[-1].created_at, shown[-1].id))
