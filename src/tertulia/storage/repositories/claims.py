"""Who asks, proven by the statement that does what is asked.

Whether a login still holds is for the database to say, at each request: who remembered it would
let a revoked one in. As a statement of its own that is a fifth of what a short request costs; as a
part of the statement that the request is about, next to nothing.
"""

import functools
import re
from typing import Any

from tertulia.domain.errors import Unauthenticated, UserInactive
from tertulia.domain.users import INVALID_TOKEN, Claim
from tertulia.storage.connection import Connection, Row
from tertulia.storage.statements import Statement, statement

_USER = "u.id, u.email, u.username, u.is_active, u.is_admin, u.created_at, u.updated_at"
_IS_LIVE = "s.revoked_at IS NULL AND s.expires_at > now()"
# The token's own end is compared here and not where it is read, so that only the database's clock
# counts and replicas may disagree about the time.
_CLAIMED = """
    FROM sessions s JOIN users u ON u.id = s.user_id
    WHERE s.id = :claimed_session AND s.user_id = :user_id
        AND CAST(:claimed_until AS timestamptz) > now()
"""
_AUTHENTICATE = statement(f"SELECT {_USER}, {_IS_LIVE} AS is_live {_CLAIMED}")
# The same as `authenticate` asks of a row: who adds a condition adds it there, too.
_CLAIMANT = f"""
    claimant AS MATERIALIZED (SELECT u.id {_CLAIMED} AND {_IS_LIVE} AND u.is_active)
"""
_WITH = re.compile(r"\s*WITH(\s+RECURSIVE)?\s")
_USER_ID = re.compile(r":user_id\b")


async def authenticate(connection: Connection, claim: Claim) -> Row:
    """Return the user's row.

    Raises:
        Unauthenticated: There is no such session, or it has ended.
        UserInactive: The user's account is closed.
    """
    row = await connection.first(
        _AUTHENTICATE,
        claimed_session=claim.session_id,
        user_id=claim.user_id,
        claimed_until=claim.expires_at,
    )
    if row is None:
        raise Unauthenticated(INVALID_TOKEN)
    # Closing an account ends its sessions; its user is told why, not to log in again.
    if not row.is_active:
        raise UserInactive
    if not row.is_live:
        raise Unauthenticated(INVALID_TOKEN)
    return row


@functools.cache
def proving(query: Statement) -> Statement:
    """Return the statement with nobody in the place of `:user_id` unless a claim holds.

    >>> proving(statement("SELECT * FROM t WHERE owner = :user_id")).sql.split("(")[-1]
    'SELECT id FROM claimant)'
    """
    if not _USER_ID.search(query.source):
        raise ValueError("The statement asks nowhere whose it is")
    source = _USER_ID.sub("(SELECT id FROM claimant)", query.source)
    begins = _WITH.match(source)
    if begins is None:
        return statement(f"WITH {_CLAIMANT} {source}")
    return statement(f"WITH{begins[1] or ''} {_CLAIMANT}, {source[begins.end() :]}")


class ProvingConnection:
    """Runs a user's statement that proves the claim to be that user, by the way.

    Where the claim does not hold the statement finds and changes nothing. Where it found nothing
    the claim is judged by itself.
    """

    __slots__ = ("_claim", "_connection")

    def __init__(self, connection: Connection, claim: Claim) -> None:
        self._connection = connection
        self._claim = claim

    async def all(self, query: Statement, **parameters: Any) -> list[Row]:  # noqa: ANN401  as `Connection`
        """Return every row; `user_id` is among the parameters.

        Raises:
            Unauthenticated: The claim does not hold.
            UserInactive: The user's account is closed.
        """
        rows = await self._connection.all(proving(query), **parameters, **self._claimed)
        if not rows:
            await authenticate(self._connection, self._claim)
        return rows

    async def first(self, query: Statement, **parameters: Any) -> Row | None:  # noqa: ANN401  as `Connection`
        """Return the first row, or None; see `all`."""
        row = await self._connection.first(proving(query), **parameters, **self._claimed)
        if row is None:
            await authenticate(self._connection, self._claim)
        return row

    @property
    def _claimed(self) -> dict[str, Any]:
        claim = self._claim
        return {"claimed_session": claim.session_id, "claimed_until": claim.expires_at}
