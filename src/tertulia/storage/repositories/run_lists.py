"""The statements that list runs with what they said, in pages bounded in rows and in bytes."""

from typing import Literal

from tertulia.storage.repositories.run_statements import SELECTED
from tertulia.storage.statements import Statement, statement


def _labelled(order: Literal["ASC", "DESC"]) -> Statement:
    """Compile a statement that returns a page, the first of them in any case.

    Which rows make a page is decided by the sizes of their answers, before those are read.
    """
    after = ">" if order == "ASC" else "<"
    return statement(
        f"""
        SELECT page.*, answer.content, answer.parts FROM (
            SELECT *, row_number() OVER sofar AS number, lead(id) OVER sofar IS NULL AS is_last,
                sum(answer_bytes) OVER sofar AS bytes
            FROM (
                SELECT {SELECTED}, c.metadata,
                    octet_length(m.content) + COALESCE(pg_column_size(m.parts), 0) AS answer_bytes
                FROM runs r JOIN messages m ON m.id = r.message_id
                    JOIN conversations c ON c.id = r.conversation_id
                WHERE r.user_id = :user_id AND r.label = :label
                    AND (r.created_at, r.id) {after} (:after_at, :after_id)
                    AND r.status = 'completed' AND c.user_id = :user_id
                    AND r.model_type = COALESCE(:model_type, r.model_type)
                    AND c.metadata @> CAST(:metadata AS jsonb)
                ORDER BY r.created_at {order}, r.id {order} LIMIT :candidates
            ) candidates
            WINDOW sofar AS (ORDER BY created_at {order}, id {order} ROWS UNBOUNDED PRECEDING)
        ) page JOIN messages answer ON answer.id = page.message_id
        WHERE number = 1 OR (number <= :limit AND bytes <= :bytes)
        ORDER BY page.created_at {order}, page.id {order}
        """
    )


LABELLED = _labelled("ASC")
LABELLED_BACKWARDS = _labelled("DESC")
