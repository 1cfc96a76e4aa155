"""What other people's protocols say of conversations: metadata, retention, more roles.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CHECK_ROLE = "ALTER TABLE messages ADD CONSTRAINT ck_messages_role CHECK ({}) NOT VALID"
# To be validated later: that reads every message, and here nobody may write any meanwhile.
_WIDER = _CHECK_ROLE.format("role IN ('user', 'assistant', 'system', 'developer', 'tool')")
_NARROWER = _CHECK_ROLE.format("role IN ('user', 'assistant', 'system')")


def upgrade() -> None:
    op.add_column(
        "conversations",
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
    )
    op.add_column(
        "conversations",
        sa.Column("retention", sa.Text(), server_default=sa.text("'kept'"), nullable=False),
    )
    op.execute(
        "ALTER TABLE conversations ADD CONSTRAINT ck_conversations_retention"
        " CHECK (retention IN ('kept', 'with_runs', 'temporary')) NOT VALID"
    )
    op.create_index(
        "ix_conversations_temporary",
        "conversations",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("retention = 'temporary'"),
    )
    op.drop_constraint(op.f("ck_messages_role"), "messages", type_="check")
    op.execute(_WIDER)


def downgrade() -> None:
    op.execute("UPDATE messages SET role = 'system' WHERE role = 'developer'")
    op.execute("UPDATE messages SET role = 'user' WHERE role = 'tool'")
    op.drop_constraint(op.f("ck_messages_role"), "messages", type_="check")
    op.execute(_NARROWER)
    op.execute("DELETE FROM conversations WHERE retention = 'temporary'")
    op.drop_index(
        "ix_conversations_temporary",
        table_name="conversations",
        postgresql_where=sa.text("retention = 'temporary'"),
    )
    op.drop_column("conversations", "retention")
    op.drop_column("conversations", "metadata")
