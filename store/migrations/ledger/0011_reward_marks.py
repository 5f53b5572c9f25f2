"""What people record of bookings that keeps their fees out of a reward, each with a second person's decision."""

import sqlalchemy as sa
from alembic import op

from store.database import APPEND_ONLY_MARK, is_write_locked_per_database

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

APPEND_ONLY = ("reward_mark", "reward_mark_decision")


def upgrade() -> None:
    op.create_table(
        "reward_mark",
        sa.Column("mark_id", sa.String(), nullable=False),
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("withdraws", sa.String(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("evidence_sha256", sa.String(), nullable=True),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("prepared_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "code IN ('statutory', 'enforcement', 'certification_test', 'commercial_inspection', 'bulk', 'medical',"
            " 'filming', 'already_funded', 'double_invoice')",
            name=op.f("ck_reward_mark_code_known"),
        ),
        sa.CheckConstraint("evidence <> ''", name=op.f("ck_reward_mark_has_evidence")),
        sa.CheckConstraint(
            "evidence_sha256 IS NULL OR length(evidence_sha256) = 64", name=op.f("ck_reward_mark_evidence_has_a_hash")
        ),
        sa.CheckConstraint("withdraws IS NULL OR withdraws <> mark_id", name=op.f("ck_reward_mark_withdraws_another")),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_reward_mark_booking_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["prepared_by"], ["person.person_id"], name=op.f("fk_reward_mark_prepared_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["withdraws", "booking_id", "code"],
            ["reward_mark.mark_id", "reward_mark.booking_id", "reward_mark.code"],
            name="fk_reward_mark_withdraws",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("mark_id", name=op.f("pk_reward_mark")),
        sa.UniqueConstraint("mark_id", "prepared_by", name=op.f("uq_reward_mark_mark_id_prepared_by")),
        sa.UniqueConstraint("mark_id", "booking_id", "code", name=op.f("uq_reward_mark_mark_id_booking_id_code")),
    )
    op.create_index(op.f("ix_reward_mark_booking_id"), "reward_mark", ["booking_id"], unique=False)
    op.create_table(
        "reward_mark_decision",
        sa.Column("mark_id", sa.String(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("prepared_by <> decided_by", name=op.f("ck_reward_mark_decision_two_people")),
        sa.CheckConstraint("approved OR note <> ''", name=op.f("ck_reward_mark_decision_refused_with_reason")),
        sa.ForeignKeyConstraint(
            ["decided_by"], ["person.person_id"], name=op.f("fk_reward_mark_decision_decided_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["mark_id", "prepared_by"],
            ["reward_mark.mark_id", "reward_mark.prepared_by"],
            name="fk_reward_mark_decision_mark",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("mark_id", name=op.f("pk_reward_mark_decision")),
    )
    for table in APPEND_ONLY:
        for event in ("UPDATE", "DELETE"):
            _refuse_edits(table, event)


def downgrade() -> None:
    """Forgets what people recorded; runs that left fees out for it cannot be verified any more."""
    sqlite = is_write_locked_per_database(op.get_bind())
    for table in reversed(APPEND_ONLY):
        for event in ("update", "delete"):
            op.execute(f"DROP TRIGGER openlab_{table}_no_{event}" + ("" if sqlite else f" ON {table}"))
    op.drop_table("reward_mark_decision")
    # A withdrawal refers to what it withdraws, and nothing may refer to a row that goes.
    op.execute("DELETE FROM reward_mark WHERE withdraws IS NOT NULL")
    op.drop_table("reward_mark")


def _refuse_edits(table: str, event: str) -> None:
    if is_write_locked_per_database(op.get_bind()):
        refusal = f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: {table}'); END"
    else:
        refusal = "FOR EACH ROW EXECUTE FUNCTION openlab_refuse_edit()"
    op.execute(f"CREATE TRIGGER openlab_{table}_no_{event.lower()} BEFORE {event} ON {table} {refusal}")
