"""The statements about runs."""

from tertulia.storage.repositories.message_statements import AT_HEAD
from tertulia.storage.statements import statement

# Not the marks: there may be thousands, and only a replay needs them.
_SHOWN = """
    r.id, r.user_id, r.conversation_id, r.message_id, r.seq, r.status, r.attempt, r.model_type,
    r.settings, r.error_code, r.error_message, r.created_at, r.started_at, r.ended_at
"""
SELECTED = f"""
    {_SHOWN}, m.prompt_tokens, m.response_tokens, m.cached_tokens, m.reasoning_tokens,
    m.cost_usd, m.finish_reason
"""
_SELECT = f"SELECT {SELECTED} FROM runs r JOIN messages m ON m.id = r.message_id"
GET = statement(f"{_SELECT} WHERE r.id = :id AND r.user_id = :user_id")
LIST = statement(
    f"""{_SELECT} WHERE r.conversation_id = :conversation_id AND r.user_id = :user_id
        AND r.seq < :before_seq
        AND (SELECT retention <> 'temporary' FROM conversations WHERE id = :conversation_id)
        ORDER BY r.seq DESC LIMIT :limit"""
)
NEWEST = statement(
    f"""
    SELECT newest.* FROM ({_SELECT} WHERE r.conversation_id = :conversation_id
        AND r.user_id = :user_id ORDER BY r.seq DESC LIMIT 1) newest
    JOIN messages answer ON answer.id = newest.message_id
    JOIN messages prompt ON prompt.id = answer.parent_id
    WHERE prompt.content = COALESCE(:content, prompt.content)
    """
)
# Few runs are told decisions, and those soon after the one that asked for them.
DECISIONS = statement(
    """
    SELECT few.id, few.decisions FROM (
        SELECT id, seq, settings -> 'decisions' AS decisions FROM runs
        WHERE conversation_id = :conversation_id AND user_id = :user_id AND seq > :after_seq
        ORDER BY seq LIMIT :limit
    ) few WHERE few.decisions IS NOT NULL ORDER BY few.seq
    """
)
STATUSES = statement("SELECT id, status FROM runs WHERE id = ANY(CAST(:ids AS uuid[]))")
REPLAY = statement(
    """
    SELECT r.restart_seq, r.restart_attempt, r.marks, m.content, m.parts
    FROM runs r JOIN messages m ON m.id = r.message_id
    WHERE r.id = :id AND r.user_id = :user_id
        AND r.status IN ('completed', 'cancelled', 'failed')
    """
)
_NEW = """
    INSERT INTO runs AS r (id, user_id, conversation_id, message_id, seq, status, model_type,
        settings, label, attempt, max_attempts, owner, lease_until, started_at)
"""
_RETURNING_NEW = f"""
    RETURNING {_SHOWN}, CAST(NULL AS bigint) AS prompt_tokens,
        CAST(NULL AS bigint) AS response_tokens, CAST(NULL AS bigint) AS cached_tokens,
        CAST(NULL AS bigint) AS reasoning_tokens, CAST(NULL AS numeric) AS cost_usd,
        CAST(NULL AS text) AS finish_reason
"""
# The clock, not now(): this transaction may have waited for locks for most of a lease.
CREATE = statement(
    f"""
    {_NEW} VALUES (:id, :user_id, :conversation_id, :message_id, :seq, :status, :model_type,
        :settings, CAST(:settings AS jsonb) ->> 'label', :attempt, :max_attempts, :owner,
        clock_timestamp() + CAST(:lease AS interval),
        CASE WHEN :status = 'running' THEN clock_timestamp() END)
    {_RETURNING_NEW}
    """
)
# A question, its answer, still empty, and the run that writes it. The model is the one that is
# named, or what the conversation's label is known to mean; with neither, nothing is stored.
START_AT_HEAD = statement(
    f"""
    WITH {AT_HEAD}, begun AS (
        SELECT place.*, COALESCE(CAST(:model_type AS text),
            (CAST(:models AS text[]))[array_position(CAST(:labels AS text[]), label)]) AS model_type
        FROM place
    ), meant AS (
        SELECT * FROM begun WHERE model_type IS NOT NULL
    ), moved AS (
        UPDATE conversations c SET last_seq = meant.seq + 1, message_count = message_count + 2,
            head_id = :answer_id, head_seq = meant.seq + 1, head_branch = meant.branch,
            head_is_tip = true, updated_at = now()
        FROM meant WHERE c.id = meant.id
    ), asked AS (
        INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content, parts)
        SELECT CAST(:question_id AS uuid), id, head_id, seq, branch, 'user',
            CAST(:content AS text), CAST(:parts AS jsonb) FROM meant
    ), answered AS (
        INSERT INTO messages (id, conversation_id, parent_id, seq, branch, role, content, run_id,
            model_type)
        SELECT CAST(:answer_id AS uuid), id, CAST(:question_id AS uuid), seq + 1, branch,
            'assistant', '', CAST(:id AS uuid), model_type FROM meant
    )
    {_NEW} SELECT CAST(:id AS uuid), CAST(:user_id AS uuid), id, CAST(:answer_id AS uuid), seq + 1,
        'running', model_type, CAST(:settings AS jsonb), CAST(:settings AS jsonb) ->> 'label', 1,
        CAST(:max_attempts AS integer), CAST(:owner AS uuid),
        clock_timestamp() + CAST(:lease AS interval), clock_timestamp()
    FROM meant {_RETURNING_NEW}
    """
)
DELETE = statement("DELETE FROM runs WHERE id = :id AND user_id = :user_id")
_LOCK_ALL = """
    SELECT id, status, attempt, message_id FROM runs
    WHERE {whose} AND status IN ('queued', 'running') ORDER BY id FOR UPDATE
"""
LOCK_ACTIVE = statement(_LOCK_ALL.format(whose="conversation_id = :conversation_id"))
LOCK_ACTIVE_OF_USER = statement(_LOCK_ALL.format(whose="user_id = :user_id"))
COUNT_ACTIVE = statement(
    """
    SELECT count(*) AS active FROM (
        SELECT FROM runs WHERE conversation_id = :conversation_id
            AND status IN ('queued', 'running') LIMIT :limit
    ) few
    """
)
_STOP = """
    WITH stopped AS (
        UPDATE runs SET status = 'cancelled', ended_at = clock_timestamp(), owner = NULL,
            lease_until = NULL
        WHERE id IN (SELECT id FROM runs WHERE {whose} AND status IN ('queued', 'running')
            ORDER BY id FOR UPDATE)
        RETURNING id
    ), forgotten AS (DELETE FROM run_events WHERE run_id IN (SELECT id FROM stopped))
    SELECT id FROM stopped
"""
STOP_IN_CONVERSATION = statement(_STOP.format(whose="conversation_id = :conversation_id"))
STOP_OF_USER = statement(_STOP.format(whose="user_id = :user_id"))
LOCK = statement(
    """
    SELECT id, status, attempt, message_id FROM runs
    WHERE id = :id AND user_id = :user_id FOR UPDATE
    """
)
_FINISH = f"""
    ended AS (
        UPDATE runs r SET status = :status, ended_at = clock_timestamp(), owner = NULL,
            lease_until = NULL, error_code = :error_code, error_message = :error_message,
            restart_seq = :restart_seq, restart_attempt = :restart_attempt, marks = :marks
        {{which}}
        RETURNING {_SHOWN}
    ), told AS (
        UPDATE messages SET content = :content, parts = :parts, is_success = :is_success,
            status_code = :status_code, prompt_tokens = :prompt_tokens,
            response_tokens = :response_tokens, total_tokens = :total_tokens,
            cached_tokens = :cached_tokens, reasoning_tokens = :reasoning_tokens,
            cost_usd = :cost_usd, finish_reason = :finish_reason,
            first_token_ms = :first_token_ms, provider_request_id = :provider_request_id,
            latency_ms = EXTRACT(epoch FROM ended.ended_at - ended.started_at) * 1000,
            updated_at = now()
        FROM ended WHERE messages.id = ended.message_id
    ), titled AS (
        INSERT INTO jobs (id, kind, payload)
        SELECT :job_id, 'title', jsonb_build_object(
            'conversation_id', ended.conversation_id, 'user_id', ended.user_id,
            'message_id', ended.message_id)
        FROM ended JOIN conversations c ON c.id = ended.conversation_id
        WHERE c.title IS NULL AND :status = 'completed'
    ), forgotten AS (DELETE FROM run_events WHERE run_id IN (SELECT id FROM ended))
    SELECT *, CAST(:prompt_tokens AS bigint) AS prompt_tokens,
        CAST(:response_tokens AS bigint) AS response_tokens,
        CAST(:cached_tokens AS bigint) AS cached_tokens,
        CAST(:reasoning_tokens AS bigint) AS reasoning_tokens,
        CAST(:cost_usd AS numeric(18, 9)) AS cost_usd,
        CAST(:finish_reason AS text) AS finish_reason,
        EXISTS (SELECT FROM runs waiting WHERE waiting.conversation_id = ended.conversation_id
            AND waiting.status = 'queued' AND waiting.id <> ended.id) AS another_waits
    FROM ended
"""
FINISH = statement(
    "WITH "
    + _FINISH.format(
        which="WHERE id = :id AND attempt = :attempt AND status IN ('queued', 'running')"
    )
)
# By whoever executes it, in a transaction of its own. A row that somebody has locked at this moment
# is passed over: one run must not make the others of its process wait.
FINISH_HELD = statement(
    f"""
    WITH held AS MATERIALIZED (
        SELECT id AS held_id FROM runs
        WHERE id = :id AND attempt = :attempt AND status = 'running' AND owner = :owner
        FOR NO KEY UPDATE SKIP LOCKED
    ), {_FINISH.format(which="FROM held WHERE id = held_id")}
    """
)
SETTLE = statement(
    """
    UPDATE messages m SET response_tokens = GREATEST(m.response_tokens, :response_tokens),
        first_token_ms = COALESCE(m.first_token_ms, :first_token_ms)
    FROM runs r WHERE m.id = r.message_id
        AND r.id = :run_id AND r.attempt = :attempt AND r.status = 'cancelled'
    """
)
