"""The statements that list messages, in pages bounded in rows and in bytes.

Which rows make a page is decided before any of their words are read: `octet_length` and
`pg_column_size` know the size of a value that is stored outside its row (TOAST) from the row alone.
"""

from typing import Literal

from tertulia.storage.statements import Statement, statement

# Whose it is, is asked once and not per row: only so is the index's order always the list's.
_OF_OWNED_CONVERSATION = """
    conversation_id = (
        SELECT id FROM conversations
        WHERE id = :conversation_id AND user_id = :user_id AND retention <> 'temporary'
    )
"""
# From the message's own branch up to the root: how far each branch on the way is shared. The limit
# says that each step is one look-up; a join might read all branches for every step.
_WAY = """
    WITH RECURSIVE way (branch, upto) AS (
        SELECT m.branch, m.seq FROM messages m JOIN conversations c ON c.id = m.conversation_id
        WHERE m.id = :tip_id AND m.conversation_id = :conversation_id AND c.user_id = :user_id
        UNION ALL
        SELECT b.parent_number, b.forked_at_seq FROM way CROSS JOIN LATERAL (
            SELECT * FROM branches
            WHERE conversation_id = :conversation_id AND number = way.branch LIMIT 1
        ) b WHERE b.parent_number IS NOT NULL
    )
"""


def _all_branches(after: str, order: str) -> str:
    return f"SELECT * FROM messages WHERE {_OF_OWNED_CONVERSATION} AND {after} ORDER BY {order}"


def _one_branch(after: str, order: str) -> str:
    return f"""
        SELECT m.* FROM way CROSS JOIN LATERAL (
            SELECT * FROM messages
            WHERE conversation_id = :conversation_id AND branch = way.branch
                AND seq <= way.upto AND {after}
            ORDER BY {order} LIMIT :reach
        ) m ORDER BY {order}
    """


def _page(candidates: str, order: Literal["seq", "seq DESC"], *, way: str = "") -> Statement:
    """Compile a statement that returns a page of the candidates, the first of them in any case.

    `is_last` of the last row says whether any candidate is left; there is one more than `limit`.
    """
    return statement(
        f"""
        {way}
        SELECT * FROM (
            SELECT *, row_number() OVER sofar AS number, lead(seq) OVER sofar IS NULL AS is_last,
                sum(octet_length(content)) OVER sofar AS content_bytes,
                sum(COALESCE(pg_column_size(parts), 0)) OVER sofar AS parts_bytes
            FROM ({candidates} OFFSET :skip LIMIT :candidates) candidates
            WINDOW sofar AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)
        ) page
        WHERE number = 1 OR (number <= :limit
            AND content_bytes <= :content_bytes AND parts_bytes <= :parts_bytes)
        ORDER BY {order}
        """
    )


LIST = _page(_all_branches("seq > :after_seq", "seq"), "seq")
LIST_BACKWARDS = _page(_all_branches("seq < :before_seq", "seq DESC"), "seq DESC")
BRANCH = _page(_one_branch("seq > :after_seq", "seq"), "seq", way=_WAY)
BRANCH_BACKWARDS = _page(_one_branch("seq < :before_seq", "seq DESC"), "seq DESC", way=_WAY)
