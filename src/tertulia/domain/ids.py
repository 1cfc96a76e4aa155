"""Identifiers: UUID version 7, so that rows made together lie together in an index."""

from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """Return a new time-ordered id (RFC 9562, version 7).

    Order between rows is never read from an id (clocks of replicas differ): messages carry a
    sequence number given by the database.
    """
    return uuid_utils.compat.uuid7()
