"""Finding words in what a user's conversations say."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tertulia.domain.conversations import Role
from tertulia.storage.connection import Row
from tertulia.storage.repositories.base import Repository
from tertulia.storage.statements import statement

SEARCHED_CONVERSATIONS = 200
"""The newest of the user's."""
SEARCHED_MESSAGES = 200
"""The newest of each of them."""
SEARCHED_BYTES = 2**24
"""Of messages' text, the newest first: under a second."""
_BEFORE_CHARS = 80
_EXCERPT_CHARS = 240

# Which messages are looked at is decided before any of their words are read: `octet_length` knows
# the size of a value that is stored outside its row from the row alone.
_FIND = statement(
    """
    WITH recent AS MATERIALIZED (
        SELECT id, title, created_at FROM conversations
        WHERE user_id = :user_id AND retention <> 'temporary'
        ORDER BY created_at DESC, id DESC LIMIT :conversations
    ), candidates AS MATERIALIZED (
        SELECT m.id, m.created_at, recent.title,
            sum(m.size) OVER (ORDER BY m.created_at DESC, m.id DESC) AS sofar
        FROM recent CROSS JOIN LATERAL (
            SELECT id, created_at, octet_length(content) AS size FROM messages
            WHERE conversation_id = recent.id ORDER BY seq DESC LIMIT :messages
        ) m
    )
    SELECT found.*, substring(text
        FROM greatest(1, strpos(lower(text), lower(:words)) - :before_chars) FOR :excerpt_chars
    ) AS excerpt
    FROM (
        SELECT m.conversation_id, c.title, m.id AS message_id, m.role, m.created_at,
            m.content AS text
        FROM candidates c JOIN messages m ON m.id = c.id
        WHERE c.sofar <= :bytes AND m.content ILIKE :pattern
        UNION ALL
        SELECT id, title, NULL, NULL, created_at, title FROM recent WHERE title ILIKE :pattern
        ORDER BY created_at DESC LIMIT :limit
    ) found
    """
)


@dataclass(frozen=True, slots=True)
class Found:
    """A message, or a conversation's title, that holds what was looked for."""

    conversation_id: UUID
    title: str | None
    message_id: UUID | None
    """None: it is the title that holds it."""
    role: Role | None
    created_at: datetime
    excerpt: str
    """What it says around the first place."""


class SearchRepository(Repository):
    """Questions about words."""

    async def find(self, query: str, *, user_id: UUID, limit: int) -> Sequence[Found]:
        """Return what of the user's holds these words as they stand, in any case, newest first.

        Only the newest is looked at: see `SEARCHED_CONVERSATIONS` and its neighbours.
        """
        rows = await self._connection.all(
            _FIND,
            user_id=user_id,
            words=query,
            pattern=f"%{_escaped(query)}%",
            limit=limit,
            conversations=SEARCHED_CONVERSATIONS,
            messages=SEARCHED_MESSAGES,
            bytes=SEARCHED_BYTES,
            before_chars=_BEFORE_CHARS,
            excerpt_chars=_EXCERPT_CHARS,
        )
        return [_found(row) for row in rows]


def _escaped(query: str) -> str:
    """Return a LIKE pattern that means just this text."""
    return query.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")


def _found(row: Row) -> Found:
    return Found(
        conversation_id=row.conversation_id,
        title=row.title,
        message_id=row.message_id,
        role=None if row.role is None else Role(row.role),
        created_at=row.created_at,
        excerpt=row.excerpt,
    )
