"""The statements about single messages; those that list them are in `message_lists`."""

from tertulia.storage.statements import statement

APPEND = statement(
    """
    WITH moved AS (
        UPDATE conversations SET last_seq = :seq, last_branch = GREATEST(last_branch, :branch),
            message_count = message_count + 1, head_id = :id, head_seq = :seq,
            head_branch = :branch, head_is_tip = true, updated_at = now()
        WHERE id = :conversation_id
    ), forked AS (
        INSERT INTO branches (conversation_id, number, parent_number, forked_at_seq)
        SELECT :conversation_id, :branch, :parent_branch, :parent_seq WHERE :forks
    )
    INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content, parts,
        run_id, model_type)
    SELECT CAST(:id AS uuid), CAST(:conversation_id AS uuid), CAST(:parent_id AS uuid),
        CAST(:seq AS integer), CAST(:branch AS integer), CAST(:role AS text),
        CAST(:content AS text), CAST(:parts AS jsonb), CAST(:run_id AS uuid),
        CAST(:model_type AS text)
    WHERE NOT :alone OR NOT EXISTS (
        SELECT FROM runs
        WHERE conversation_id = :conversation_id AND status IN ('queued', 'running')
    )
    RETURNING *
    """
)
# Where nearly every message goes, found and locked by the statement that puts it there: below the
# head, which is the last of its branch, of a conversation that is kept and is not being answered.
# Anything else is no row. What else was asked than the conversation's row is seen as it was when
# the statement began, and the row itself as it is once it is locked; if somebody was quicker, its
# `last_seq` differs, for every run begins with a message.
AT_HEAD = """
    locked AS MATERIALIZED (
        SELECT * FROM conversations
        WHERE id = :conversation_id AND user_id = :user_id AND retention = 'kept'
        FOR NO KEY UPDATE
    ), place AS (
        SELECT locked.id, locked.head_id, locked.model_type AS label, locked.last_seq + 1 AS seq,
            CASE WHEN locked.head_id IS NULL THEN 0 ELSE locked.head_branch END AS branch
        FROM locked JOIN conversations seen ON seen.id = locked.id
        WHERE seen.last_seq = locked.last_seq AND seen.head_id IS NOT DISTINCT FROM locked.head_id
            AND (locked.head_is_tip OR locked.last_seq = 0)
            AND NOT EXISTS (
                SELECT FROM runs
                WHERE conversation_id = :conversation_id AND status IN ('queued', 'running')
            )
    )
"""
APPEND_AT_HEAD = statement(
    f"""
    WITH {AT_HEAD}, moved AS (
        UPDATE conversations c SET last_seq = place.seq, message_count = message_count + 1,
            head_id = :id, head_seq = place.seq, head_branch = place.branch, head_is_tip = true,
            updated_at = now()
        FROM place WHERE c.id = place.id
    )
    INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content)
    SELECT CAST(:id AS uuid), place.id, place.head_id, place.seq, place.branch,
        CAST(:role AS text), CAST(:content AS text)
    FROM place RETURNING *
    """
)
# Many at once, each below the one before.
APPEND_ALL = statement(
    """
    WITH moved AS (
        UPDATE conversations SET last_seq = :last_seq,
            last_branch = GREATEST(last_branch, :branch),
            message_count = message_count + cardinality(CAST(:ids AS uuid[])),
            head_id = :head_id, head_seq = :last_seq, head_branch = :branch, head_is_tip = true,
            updated_at = now()
        WHERE id = :conversation_id
    ), forked AS (
        INSERT INTO branches (conversation_id, number, parent_number, forked_at_seq)
        SELECT :conversation_id, :branch, :parent_branch, :parent_seq WHERE :forks
    )
    INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content, parts)
    SELECT n.id, :conversation_id, n.parent_id, :first_seq + n.number - 1, :branch, n.role,
        n.content, CAST(n.parts AS jsonb)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:parent_ids AS uuid[]), CAST(:roles AS text[]),
            CAST(:contents AS text[]), CAST(:parts AS text[]))
        WITH ORDINALITY AS n (id, parent_id, role, content, parts, number)
    RETURNING *
    """
)
PLACE = statement(
    """
    SELECT parent.seq, parent.branch, parent.role, NOT EXISTS (
        SELECT FROM messages later
        WHERE later.conversation_id = parent.conversation_id
            AND later.branch = parent.branch AND later.seq > parent.seq
    ) AS is_tip
    FROM messages parent WHERE parent.id = :id AND parent.conversation_id = :conversation_id
    """
)
GET = statement(
    """
    SELECT m.* FROM messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.id = :id AND m.conversation_id = :conversation_id AND c.user_id = :user_id
    """
)
SIZE_OF = statement(
    """
    SELECT COALESCE(sum(octet_length(m.content) + COALESCE(pg_column_size(m.parts), 0)), 0)::bigint
        AS bytes
    FROM messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.id = ANY(CAST(:ids AS uuid[])) AND c.user_id = :user_id
    """
)
FIND_MANY = statement(
    """
    SELECT m.* FROM messages m JOIN conversations c ON c.id = m.conversation_id
    WHERE m.id = ANY(CAST(:ids AS uuid[])) AND c.user_id = :user_id
    """
)
REPLACE = statement(
    """
    WITH renumbered AS (
        UPDATE runs SET restart_seq = restart_seq + cardinality(marks) + 2,
            restart_attempt = attempt, marks = :marks
        WHERE message_id = :id
    )
    UPDATE messages SET content = :content, parts = :parts, updated_at = now()
    WHERE id = :id AND conversation_id = :conversation_id RETURNING *
    """
)
PARENTS = statement("SELECT id, parent_id FROM messages WHERE id = ANY(CAST(:ids AS uuid[]))")
# The branches that left here leave at its parent from now on, or the next delete on their way
# would not find the children that they begin with. A branch that an agent left here ends at its
# parent, too.
DELETE = statement(
    """
    WITH gone AS (
        DELETE FROM messages WHERE id = :id AND conversation_id = :conversation_id
        RETURNING id, parent_id
    ), forks AS (
        UPDATE branches SET parent_number = parent.branch,
            forked_at_seq = COALESCE(parent.seq, 0)
        FROM gone LEFT JOIN messages parent ON parent.id = gone.parent_id
        WHERE branches.conversation_id = :conversation_id AND forked_at_seq = :seq
    ), adopted AS (
        UPDATE messages child SET parent_id = gone.parent_id FROM gone
        WHERE child.conversation_id = :conversation_id AND child.parent_id = gone.id
            AND child.seq IN (
                SELECT min(seq) FROM messages
                WHERE conversation_id = :conversation_id AND branch = :branch AND seq > :seq
                UNION ALL
                SELECT (SELECT min(m.seq) FROM messages m
                    WHERE m.conversation_id = :conversation_id AND m.branch = b.number)
                FROM branches b
                WHERE b.conversation_id = :conversation_id AND b.forked_at_seq = :seq
            )
    ), forgotten AS (
        DELETE FROM agent_messages USING gone WHERE message_id = gone.id
    ), left_branches AS (
        UPDATE agent_conversations SET branches = array_remove(array_replace(branches, name, heir),
            NULL)
        FROM (
            SELECT COALESCE(a.entry_id, CAST(gone.id AS text)) AS name,
                COALESCE(h.entry_id, CAST(gone.parent_id AS text)) AS heir
            FROM gone LEFT JOIN agent_messages a ON a.message_id = gone.id
                LEFT JOIN agent_messages h ON h.message_id = gone.parent_id
        ) names
        WHERE conversation_id = :conversation_id AND name = ANY (branches)
    )
    UPDATE conversations SET message_count = message_count - 1, updated_at = now()
    WHERE id = :conversation_id AND EXISTS (SELECT FROM gone)
    RETURNING (SELECT parent_id FROM gone) AS parent_id
    """
)
