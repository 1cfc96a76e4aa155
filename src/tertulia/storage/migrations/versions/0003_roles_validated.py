"""Check the rows that were there before 0002 against its rules, while everybody goes on writing.

Revision: 0003
Follows: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In a transaction of its own: 0002 holds locks that stop all writing.
    op.execute("ALTER TABLE messages VALIDATE CONSTRAINT ck_messages_role")
    op.execute("ALTER TABLE conversations VALIDATE CONSTRAINT ck_conversations_retention")


def downgrade() -> None:
    """There is nothing to take back: what was checked stays true."""
