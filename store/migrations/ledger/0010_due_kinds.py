"""The kinds of due work are no longer listed by the database: a queue may name what only a newer worker knows."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_KNOWN = ("match_session", "complete_booking", "charge_booking", "expire_booking")


def upgrade() -> None:
    with op.batch_alter_table("due") as table:
        table.drop_constraint(op.f("ck_due_kind_known"), type_="check")


def downgrade() -> None:
    """Forgets work of kinds that the older version does not know."""
    listed = ", ".join(f"'{kind}'" for kind in _KNOWN)
    op.execute(f"DELETE FROM due WHERE kind NOT IN ({listed})")
    with op.batch_alter_table("due") as table:
        table.create_check_constraint(op.f("ck_due_kind_known"), f"kind IN ({listed})")
