"""Usage records are found by their place in their stream: the index by session served no question.

It cost a tenth of what storing a record costs, and 40 bytes a record.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_usage_record_session_id", table_name="usage_record")


def downgrade() -> None:
    op.create_index("ix_usage_record_session_id", "usage_record", ["session_id"])
