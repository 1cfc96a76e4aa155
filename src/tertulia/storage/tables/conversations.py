"""Conversations, the branches of their trees, and messages."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tertulia.storage.tables.metadata import id_column, metadata, moment

conversations = Table(
    "conversations",
    metadata,
    id_column(),
    Column("user_id", Uuid(), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("title", Text(), nullable=True),
    Column("model_type", Text(), nullable=False),
    Column("is_archived", Boolean(), nullable=False, server_default=text("false")),
    Column("metadata", JSONB(), nullable=False, server_default=text("'{}'::jsonb")),
    # `domain.conversations.Retention`.
    Column("retention", Text(), nullable=False, server_default=text("'kept'")),
    # Kept here so that a listing never counts: they change only under this row's lock.
    Column("message_count", BigInteger(), nullable=False, server_default=text("0")),
    Column("last_seq", BigInteger(), nullable=False, server_default=text("0")),
    Column("last_branch", Integer(), nullable=False, server_default=text("0")),
    Column("head_id", Uuid(), nullable=True),
    Column("head_seq", BigInteger(), nullable=False, server_default=text("0")),
    Column("head_branch", Integer(), nullable=False, server_default=text("0")),
    # Whether the head is the last message of its branch, so that the next one goes on in it.
    Column("head_is_tip", Boolean(), nullable=False, server_default=text("true")),
    moment("created_at"),
    moment("updated_at"),
    CheckConstraint("message_count >= 0", name="message_count"),
    CheckConstraint("retention IN ('kept', 'with_runs', 'temporary')", name="retention"),
    Index("ix_conversations_newest", "user_id", text("created_at DESC"), text("id DESC")),
    Index(
        "ix_conversations_archived",
        "user_id",
        "is_archived",
        text("created_at DESC"),
        text("id DESC"),
    ),
    Index(
        "ix_conversations_model",
        "user_id",
        "model_type",
        text("created_at DESC"),
        text("id DESC"),
    ),
    # For the sweep.
    Index(
        "ix_conversations_temporary",
        "created_at",
        postgresql_where=text("retention = 'temporary'"),
    ),
    # No index holds a column that a new message changes, and there is room left on the page:
    # the counters are updated in place (heap-only tuples).
    postgresql_with={"fillfactor": "85"},
)

branches = Table(
    "branches",
    metadata,
    Column(
        "conversation_id",
        Uuid(),
        ForeignKey("conversations.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("number", Integer(), primary_key=True, autoincrement=False),
    # Where it leaves its parent: everything up to and including this message is shared.
    # Branch 0 needs no row; a branch that starts at the root has no parent.
    Column("parent_number", Integer(), nullable=True),
    Column("forked_at_seq", BigInteger(), nullable=False),
)

messages = Table(
    "messages",
    metadata,
    id_column(),
    Column(
        "conversation_id",
        Uuid(),
        ForeignKey("conversations.id", ondelete="CASCADE"),
        nullable=False,
    ),
    # No foreign key: parent and child are written under the conversation's lock, and the check
    # would cost an index and a look-up per row on every delete of a conversation.
    Column("parent_id", Uuid(), nullable=True),
    Column("seq", BigInteger(), nullable=False),
    Column("branch", Integer(), nullable=False),
    Column("role", Text(), nullable=False),
    Column("content", Text(), nullable=False),
    # Only where the message is more than its text.
    Column("parts", JSONB(), nullable=True),
    moment("created_at"),
    moment("updated_at"),
    # The rest is set on answers that a run wrote.
    Column("run_id", Uuid(), nullable=True),
    Column("model_type", Text(), nullable=True),
    Column("is_success", Boolean(), nullable=True),
    Column("status_code", Integer(), nullable=True),
    Column("prompt_tokens", BigInteger(), nullable=True),
    Column("response_tokens", BigInteger(), nullable=True),
    Column("total_tokens", BigInteger(), nullable=True),
    Column("cached_tokens", BigInteger(), nullable=True),
    Column("reasoning_tokens", BigInteger(), nullable=True),
    Column("cost_usd", Numeric(18, 9), nullable=True),
    Column("finish_reason", Text(), nullable=True),
    Column("latency_ms", Integer(), nullable=True),
    Column("first_token_ms", Integer(), nullable=True),
    Column("provider_request_id", Text(), nullable=True),
    UniqueConstraint("conversation_id", "seq"),
    Index("ix_messages_branch", "conversation_id", "branch", "seq"),
    CheckConstraint("role IN ('user', 'assistant', 'system', 'developer', 'tool')", name="role"),
)
