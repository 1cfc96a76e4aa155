"""Identifiers: UUID version 7, so that rows made together lie together in an index."""

from collections.abc import Sequence
from uuid import UUID, uuid5

import uuid_utils.compat


def new_id() -> UUID:
    """Return a new time-ordered id (RFC 9562, version 7).

    Order between rows is never read from an id (clocks of replicas differ): messages carry a
    sequence number given by the database.
    """
    return uuid_utils.compat.uuid7()


def ids_from(first: UUID, count: int) -> Sequence[UUID]:
    """Return as many ids as things were made at once: who knows the first knows all.

    The others have its name in them, and no time (UUID version 5).
    """
    return [first, *(uuid5(first, str(number)) for number in range(1, count))][:count]
