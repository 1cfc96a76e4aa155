"""The statements about what pydantic-ai's conversation store keeps."""

from typing import Literal

from tertulia.storage.statements import Statement, statement

# The record as it was saved, beside the conversation as it is now.
_RECORD = """
    SELECT c.id, c.head_id, c.last_seq, c.message_count, c.created_at, c.updated_at,
        a.record, a.branches, a.revision, a.head_id AS saved_head_id,
        COALESCE((SELECT entry_id FROM agent_messages WHERE message_id = c.head_id),
            CAST(c.head_id AS text)) AS head_entry_id,
        (a.last_seq, a.message_count) IS NOT DISTINCT FROM (c.last_seq, c.message_count)
            AND a.head_id IS NOT DISTINCT FROM c.head_id AS is_as_saved,
        EXISTS (SELECT FROM runs
            WHERE conversation_id = c.id AND status IN ('queued', 'running')) AS is_active
    FROM conversations c
    LEFT JOIN agent_conversations a ON a.conversation_id = c.id
    WHERE c.user_id = :user_id
"""
_SHOWN_AT = """
    CASE WHEN (a.last_seq, a.message_count) IS NOT DISTINCT FROM (c.last_seq, c.message_count)
        AND a.head_id IS NOT DISTINCT FROM c.head_id THEN a.saved_at ELSE c.updated_at END
"""
GET = statement(f"{_RECORD} AND c.id = :id")
FIND = statement(f"{_RECORD} AND c.id = ANY(CAST(:ids AS uuid[]))")


def _list(scope: str) -> Statement:
    # No index helps: one on what a new message changes would cost every message its own write.
    return statement(
        f"""
        {_RECORD} AND c.retention <> 'temporary' {scope}
        ORDER BY {_SHOWN_AT} DESC, c.created_at, c.id LIMIT CAST(:limit AS bigint)
        """
    )


LIST = _list("")
LIST_SCOPE = _list("AND a.scope = :scope")

CREATE = statement(
    """
    INSERT INTO conversations (id, user_id, title, model_type)
    VALUES (:id, :user_id, :title, :model_type) ON CONFLICT (id) DO NOTHING
    """
)
SAVE = statement(
    """
    INSERT INTO agent_conversations (conversation_id, scope, record, branches, revision, saved_at,
        head_id, last_seq, message_count)
    SELECT id, :scope, CAST(:record AS json), CAST(:branches AS text[]), :revision, :saved_at,
        head_id, last_seq, message_count
    FROM conversations WHERE id = :id AND user_id = :user_id
    ON CONFLICT (conversation_id) DO UPDATE SET scope = excluded.scope, record = excluded.record,
        branches = excluded.branches, revision = excluded.revision, saved_at = excluded.saved_at,
        head_id = excluded.head_id, last_seq = excluded.last_seq,
        message_count = excluded.message_count
    """
)
ADD_BODIES = statement(
    """
    INSERT INTO agent_messages (message_id, conversation_id, entry_id, is_first, body)
    SELECT n.message_id, c.id, n.entry_id, n.is_first, CAST(n.body AS json)
    FROM unnest(CAST(:message_ids AS uuid[]), CAST(:entry_ids AS text[]),
            CAST(:firsts AS boolean[]), CAST(:bodies AS text[]))
        AS n (message_id, entry_id, is_first, body)
    JOIN conversations c ON c.id = :conversation_id AND c.user_id = :user_id
    """
)

# An entry is found by its own id, and by that of the message it ends with. A fork repeats entries,
# so there may be several: that of the conversation in question first.
_FOUND = """
    SELECT m.*, COALESCE(found.is_exact, false) AS is_exact FROM (
        SELECT message_id AS id, entry_id = :entry_id AS is_exact FROM agent_messages
        WHERE entry_id IN (:entry_id, :base)
        UNION ALL
        SELECT id, id = :message_id FROM messages WHERE id IN (:message_id, :base_message_id)
    ) found
    JOIN messages m ON m.id = found.id
    JOIN conversations c ON c.id = m.conversation_id AND c.user_id = :user_id
    ORDER BY m.conversation_id = :conversation_id DESC NULLS LAST, is_exact DESC,
        m.created_at, m.id
    LIMIT 1
"""
LOCATE = statement(
    f"""
    SELECT found.id, found.conversation_id, found.parent_id, found.is_exact, c.title, c.model_type
    FROM ({_FOUND}) found JOIN conversations c ON c.id = found.conversation_id
    """
)
# As in `message_lists`: how far each branch on the way to the root is shared.
_WAY = """
    WITH RECURSIVE tip AS ({tip}), way (conversation_id, branch, upto) AS (
        SELECT conversation_id, branch, seq FROM tip
        UNION ALL
        SELECT way.conversation_id, b.parent_number, b.forked_at_seq
        FROM way CROSS JOIN LATERAL (
            SELECT * FROM branches
            WHERE conversation_id = way.conversation_id AND number = way.branch LIMIT 1
        ) b WHERE b.parent_number IS NOT NULL
    )
"""
# Entries are counted backwards: one more than are wanted, for that is what the first one follows.
# What is known of a message is looked up message by message, which a join would not promise.
_EDGE = """, edge AS (
        SELECT e.seq FROM way CROSS JOIN LATERAL (
            SELECT m.seq FROM messages m
            WHERE m.conversation_id = way.conversation_id AND m.branch = way.branch
                AND m.seq <= way.upto AND COALESCE(
                    (SELECT entry_id IS NOT NULL FROM agent_messages WHERE message_id = m.id), true)
            ORDER BY m.seq DESC LIMIT :limit + 1
        ) e ORDER BY e.seq DESC OFFSET :limit LIMIT 1
    )
"""


def _history(reach: Literal["all", "some"]) -> Statement:
    edge, after = (
        (_EDGE, "AND seq >= COALESCE((SELECT seq FROM edge), 0)") if reach == "some" else ("", "")
    )
    return statement(
        f"""
        {_WAY.format(tip=_FOUND)} {edge}
        SELECT m.id, m.role, m.created_at, m.model_type, m.finish_reason, m.prompt_tokens,
            m.response_tokens, m.cached_tokens, m.reasoning_tokens,
            a.message_id IS NOT NULL AS is_known, a.entry_id, a.is_first, s.body,
            CASE WHEN s.body IS NULL THEN m.content ELSE '' END AS content,
            CASE WHEN s.body IS NULL THEN m.parts END AS parts
        FROM way CROSS JOIN LATERAL (
            SELECT * FROM messages
            WHERE conversation_id = way.conversation_id AND branch = way.branch
                AND seq <= way.upto {after}
            ORDER BY seq
        ) m
        LEFT JOIN LATERAL (
            SELECT * FROM agent_messages WHERE message_id = m.id LIMIT 1
        ) a ON true
        CROSS JOIN LATERAL (
            SELECT CASE WHEN a.message_updated_at = m.updated_at THEN a.body END AS body
        ) s
        ORDER BY m.seq
        """
    )


HISTORY = _history("all")
HISTORY_TAIL = _history("some")

_OWNED_TIP = """
    SELECT m.* FROM messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.id = :tip_id AND c.user_id = :user_id
"""
WAY_IDS = statement(
    f"""
    {_WAY.format(tip=_OWNED_TIP)}
    SELECT m.id FROM way CROSS JOIN LATERAL (
        SELECT id, seq FROM messages
        WHERE conversation_id = way.conversation_id AND branch = way.branch AND seq <= way.upto
    ) m ORDER BY m.seq
    """
)
# They keep their times, so that what is read of them is the same, too.
COPY = statement(
    """
    WITH n AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:copy_ids AS uuid[]),
                CAST(:copy_parent_ids AS uuid[]))
            WITH ORDINALITY AS n (id, copy_id, copy_parent_id, number)
    ), moved AS (
        UPDATE conversations SET last_seq = :last_seq,
            last_branch = GREATEST(last_branch, :branch),
            message_count = message_count + cardinality(CAST(:ids AS uuid[])),
            head_id = :head_id, head_seq = :last_seq, head_branch = :branch, head_is_tip = true,
            updated_at = now()
        WHERE id = :conversation_id AND user_id = :user_id
    ), forked AS (
        INSERT INTO branches (conversation_id, number, parent_number, forked_at_seq)
        SELECT :conversation_id, :branch, NULL, 0 WHERE :branch > 0
    ), named AS (
        INSERT INTO agent_messages (message_id, conversation_id, entry_id, is_first, body,
            message_updated_at)
        SELECT n.copy_id, :conversation_id,
            CASE WHEN a.message_id IS NULL OR n.copy_id = :head_id
                THEN COALESCE(a.entry_id, CAST(n.id AS text)) ELSE a.entry_id END,
            COALESCE(a.is_first, true), a.body, COALESCE(a.message_updated_at, m.updated_at)
        FROM n JOIN messages m ON m.id = n.id LEFT JOIN agent_messages a ON a.message_id = n.id
    )
    INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content, parts,
        created_at, updated_at, model_type, finish_reason, prompt_tokens, response_tokens,
        total_tokens, cached_tokens, reasoning_tokens)
    SELECT n.copy_id, :conversation_id, n.copy_parent_id, :first_seq + n.number - 1, :branch,
        m.role, m.content, m.parts, m.created_at, m.updated_at, m.model_type, m.finish_reason,
        m.prompt_tokens, m.response_tokens, m.total_tokens, m.cached_tokens, m.reasoning_tokens
    FROM n JOIN messages m ON m.id = n.id
    """
)
IS_READY = statement("SELECT to_regclass('agent_messages') IS NOT NULL AS is_ready")
