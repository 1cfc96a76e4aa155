"""Find the runs that a protocol lists without reading any others.

Revision: 0005
Follows: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("label", sa.Text(), nullable=True))
    # Nobody writes runs meanwhile, which is not long: no row has a label yet. Built concurrently it
    # would wait for whoever waits to migrate after it.
    op.create_index(
        "ix_runs_labelled",
        "runs",
        ["user_id", sa.text("created_at DESC"), sa.text("id DESC")],
        unique=False,
        postgresql_where=sa.text("label IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "ix_runs_labelled", table_name="runs", postgresql_where=sa.text("label IS NOT NULL")
    )
    op.drop_column("runs", "label")
