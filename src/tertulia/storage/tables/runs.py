"""Runs, their events, and what makes sending and later work durable."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from tertulia.storage.tables.metadata import id_column, metadata, moment

runs = Table(
    "runs",
    metadata,
    id_column(),
    Column("user_id", Uuid(), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column(
        "conversation_id",
        Uuid(),
        ForeignKey("conversations.id", ondelete="CASCADE"),
        nullable=False,
    ),
    # The answer; its row is there from the start, empty until the run ends.
    Column("message_id", Uuid(), ForeignKey("messages.id", ondelete="CASCADE"), nullable=False),
    # The answer's place in the conversation; runs of a conversation take turns in this order.
    Column("seq", BigInteger(), nullable=False),
    Column("status", Text(), nullable=False),
    Column("model_type", Text(), nullable=False),
    Column("settings", JSONB(), nullable=False, server_default=text("'{}'::jsonb")),
    # Under which a protocol lists it; a copy of what the settings say, for its index.
    Column("label", Text(), nullable=True),
    # Who may write, until when (database time), and in which attempt: an older attempt's
    # statements match no row.
    Column("attempt", Integer(), nullable=False, server_default=text("0")),
    Column("max_attempts", Integer(), nullable=False),
    Column("owner", Uuid(), nullable=True),
    moment("lease_until", nullable=True),
    Column("error_code", Text(), nullable=True),
    Column("error_message", Text(), nullable=True),
    # After the end the events are folded into the message. Event number restart_seq + 1 + i ended
    # at position marks[i] of the message's parts, so that any cursor can be served for ever.
    Column("restart_seq", Integer(), nullable=False, server_default=text("0")),
    Column("restart_attempt", Integer(), nullable=True),
    Column("marks", ARRAY(Integer()), nullable=False, server_default=text("'{}'::integer[]")),
    moment("created_at"),
    moment("started_at", nullable=True),
    moment("ended_at", nullable=True),
    UniqueConstraint("message_id"),
    Index(
        "uq_runs_one_running",
        "conversation_id",
        unique=True,
        postgresql_where=text("status = 'running'"),
    ),
    Index(
        "ix_runs_active",
        "conversation_id",
        "seq",
        postgresql_where=text("status IN ('queued', 'running')"),
    ),
    Index("ix_runs_newest", "conversation_id", text("seq DESC")),
    # What a protocol lists; most runs have no label.
    Index(
        "ix_runs_labelled",
        "user_id",
        text("created_at DESC"),
        text("id DESC"),
        postgresql_where=text("label IS NOT NULL"),
    ),
    Index(None, "user_id"),
    CheckConstraint(
        "status IN ('queued', 'running', 'completed', 'cancelled', 'failed')", name="status"
    ),
    CheckConstraint(
        "(status IN ('queued', 'running')) = (ended_at IS NULL)", name="ended_when_terminal"
    ),
    CheckConstraint("status <> 'failed' OR error_code IS NOT NULL", name="failed_says_why"),
    postgresql_with={"fillfactor": "70"},
)

# No foreign key to runs: its check would cost more than the row (about 10 µs against 5 µs).
# Rows are written only beside a locked run, and a trigger on runs takes them along when it goes.
run_events = Table(
    "run_events",
    metadata,
    Column("run_id", Uuid(), primary_key=True),
    Column("seq", Integer(), primary_key=True, autoincrement=False),
    Column("attempt", Integer(), nullable=False),
    Column("kind", Text(), nullable=False),
    # The text itself for `text` and `reasoning`, JSON for the rest.
    Column("data", Text(), nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", Uuid(), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text(), primary_key=True),
    Column("fingerprint", LargeBinary(), nullable=False),
    Column("resource_id", Uuid(), nullable=False),
    moment("created_at"),
    Index(None, "created_at"),
)

jobs = Table(
    "jobs",
    metadata,
    id_column(),
    Column("kind", Text(), nullable=False),
    Column("payload", JSONB(), nullable=False),
    Column("attempts", Integer(), nullable=False, server_default=text("0")),
    moment("created_at"),
    # Not before this; while a worker has it, the end of its lease.
    moment("due_at"),
    Column("last_error", Text(), nullable=True),
    Index(None, "due_at"),
)
