"""Users, their login sessions and their API keys."""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from tertulia.storage.tables.metadata import id_column, metadata, moment

users = Table(
    "users",
    metadata,
    id_column(),
    Column("email", Text(), nullable=False),
    # The form in which it is unique: `domain.users.identity_key`.
    Column("email_key", Text(), nullable=False),
    Column("username", Text(), nullable=False),
    Column("username_key", Text(), nullable=False),
    Column("password_hash", Text(), nullable=False),
    Column("is_active", Boolean(), nullable=False, server_default=text("true")),
    Column("is_admin", Boolean(), nullable=False, server_default=text("false")),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("email_key"),
    UniqueConstraint("username_key"),
)

sessions = Table(
    "sessions",
    metadata,
    id_column(),
    Column("user_id", Uuid(), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    # SHA-256 of what all refresh tokens of the session have in common, and of the rest of the one
    # that is good now; an older one is a sign of theft.
    Column("family_hash", LargeBinary(), nullable=False),
    Column("refresh_hash", LargeBinary(), nullable=False),
    moment("created_at"),
    moment("refreshed_at"),
    moment("expires_at", now=False),
    moment("revoked_at", nullable=True),
    Index(None, "user_id"),
    # For the sweep.
    Index("ix_sessions_ended", text("LEAST(expires_at, revoked_at)")),
)

api_keys = Table(
    "api_keys",
    metadata,
    id_column(),
    Column("user_id", Uuid(), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text(), nullable=False),
    Column("prefix", Text(), nullable=False),
    # SHA-256 is enough for a secret of 256 random bits; argon2 would cost 30 ms a request.
    Column("key_hash", LargeBinary(), nullable=False),
    moment("created_at"),
    moment("expires_at", nullable=True),
    moment("last_used_at", nullable=True),
    UniqueConstraint("key_hash"),
    Index(None, "user_id"),
    CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
)
