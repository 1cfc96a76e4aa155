"""What pydantic-ai's conversation store keeps beside conversations and their messages."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from tertulia.storage.tables.metadata import metadata, moment

agent_conversations = Table(
    "agent_conversations",
    metadata,
    Column(
        "conversation_id",
        Uuid(),
        ForeignKey("conversations.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("scope", Text(), nullable=True),
    # pydantic-ai's record, as it writes it. JSON and not JSONB: whose order of keys, digits and
    # characters must come back as they were.
    Column("record", JSON(), nullable=False),
    # The last entries of the branches that were left.
    Column("branches", ARRAY(Text()), nullable=False, server_default=text("'{}'::text[]")),
    Column("revision", Text(), nullable=False),
    # By the clock of who saved it.
    moment("saved_at", now=False),
    # How the conversation was then: what other doors have done since is seen from this.
    Column("head_id", Uuid(), nullable=True),
    Column("last_seq", BigInteger(), nullable=False),
    Column("message_count", BigInteger(), nullable=False),
)

# A message of pydantic-ai's (an entry of its log) is one message here, or several where several
# speak in it. Messages from other doors have no row, unless they were repeated in a fork.
agent_messages = Table(
    "agent_messages",
    metadata,
    # No foreign key, as for `messages.parent_id`.
    Column("message_id", Uuid(), primary_key=True),
    Column(
        "conversation_id",
        Uuid(),
        ForeignKey("conversations.id", ondelete="CASCADE"),
        nullable=False,
    ),
    # Of the entry that ends with this message; null: it goes on in the next one.
    Column("entry_id", Text(), nullable=True),
    Column("is_first", Boolean(), nullable=False),
    # This message's share of the entry, as pydantic-ai writes it. Null: as the message's parts say.
    Column("body", JSON(), nullable=True),
    # The message's `updated_at` when this was written: if it was corrected since, its parts count.
    moment("message_updated_at"),
    UniqueConstraint("conversation_id", "entry_id"),
    Index(None, "entry_id"),
)
