"""Approval rules, qualification, strikes, consent and classification; the calendar is found by the end of its rows."""

import sqlalchemy as sa
from alembic import op

from store.database import APPEND_ONLY_MARK, is_write_locked_per_database

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = (
    "strike_policy",
    "booking_policy",
    "qualification_event",
    "booking_item",
    "booking_proposal",
    "check_in_code",
    "strike",
    "use_claim",
    "wrong_code",
    "strike_lift",
)
APPEND_ONLY = ("qualification_event", "booking_item", "strike", "strike_lift", "wrong_code")


def upgrade() -> None:
    _create_tables()
    op.add_column("booking", sa.Column("needed_by", sa.BigInteger(), nullable=True))
    op.drop_index("ix_calendar_row_instrument_id_from_at", "calendar_row")
    op.create_index("ix_calendar_row_instrument_id_to_at", "calendar_row", ["instrument_id", "to_at"])
    for table in APPEND_ONLY:
        _guard(table)


def downgrade() -> None:
    for table in APPEND_ONLY:
        _unguard(table)
    op.drop_index("ix_calendar_row_instrument_id_to_at", "calendar_row")
    op.create_index("ix_calendar_row_instrument_id_from_at", "calendar_row", ["instrument_id", "from_at"])
    op.drop_column("booking", "needed_by")
    for table in reversed(TABLES):
        op.drop_table(table)


def _guard(table: str) -> None:
    refuses = "FOR EACH ROW EXECUTE FUNCTION openlab_refuse_edit()"
    if is_write_locked_per_database(op.get_bind()):
        refuses = f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: {table}'); END"
    for event in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER openlab_{table}_no_{event.lower()} BEFORE {event} ON {table} {refuses}")


def _unguard(table: str) -> None:
    of_table = "" if is_write_locked_per_database(op.get_bind()) else f" ON {table}"
    for event in ("update", "delete"):
        op.execute(f"DROP TRIGGER openlab_{table}_no_{event}{of_table}")


def _create_tables() -> None:
    op.create_table(
        "strike_policy",
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("strikes", sa.BigInteger(), nullable=False),
        sa.Column("window_days", sa.BigInteger(), nullable=False),
        sa.Column("effect", sa.String(), nullable=False),
        sa.Column("effect_days", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("effect IN ('approval', 'blocked')", name=op.f("ck_strike_policy_effect_known")),
        sa.CheckConstraint(
            "strikes >= 1 AND window_days >= 1 AND effect_days >= 1", name=op.f("ck_strike_policy_counts_positive")
        ),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.host_id"], name=op.f("fk_strike_policy_host_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_strike_policy")),
    )
    op.create_table(
        "booking_policy",
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("auto_qualified", sa.Boolean(), nullable=False),
        sa.Column("auto_up_to_minutes", sa.BigInteger(), nullable=False),
        sa.Column("auto_needs_both", sa.Boolean(), nullable=False),
        sa.Column("needs_qualification", sa.Boolean(), nullable=False),
        sa.Column("needs_code", sa.Boolean(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("auto_up_to_minutes >= 0", name=op.f("ck_booking_policy_minutes_not_negative")),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_booking_policy_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("instrument_id", name=op.f("pk_booking_policy")),
    )
    op.create_table(
        "qualification_event",
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("training", sa.String(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('granted', 'revoked')", name=op.f("ck_qualification_event_state_known")),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_qualification_event_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.person_id"], name=op.f("fk_qualification_event_person_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["recorded_by"], ["person.person_id"], name=op.f("fk_qualification_event_recorded_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_qualification_event")),
    )
    op.create_index(
        "ix_qualification_event_instrument_id_person_id", "qualification_event", ["instrument_id", "person_id"]
    )
    op.create_index("ix_qualification_event_person_id", "qualification_event", ["person_id"])

    op.create_table(
        "booking_item",
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("test_item_id", sa.String(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("samples >= 0", name=op.f("ck_booking_item_samples_not_negative")),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_booking_item_booking_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["test_item_id"], ["test_item.test_item_id"], name=op.f("fk_booking_item_test_item_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("booking_id", "test_item_id", name=op.f("pk_booking_item")),
    )
    op.create_index("ix_booking_item_test_item_id", "booking_item", ["test_item_id"])

    op.create_table(
        "booking_proposal",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("by_party", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("slot_from", sa.BigInteger(), nullable=False),
        sa.Column("slot_to", sa.BigInteger(), nullable=False),
        sa.Column("tariff_id", sa.String(), nullable=False),
        sa.Column("tariff_version", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("quote", sa.String(), nullable=False),
        sa.Column("quote_sha256", sa.String(), nullable=False),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("difference_fen", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("answered_by", sa.String(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("answer_note", sa.String(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(state = 'open') = (answered_at IS NULL)", name=op.f("ck_booking_proposal_answered_once")),
        sa.CheckConstraint(
            "kind IN ('reschedule', 'displaced', 'on_behalf')", name=op.f("ck_booking_proposal_kind_known")
        ),
        sa.CheckConstraint(
            "state IN ('open', 'accepted', 'declined', 'withdrawn', 'expired')",
            name=op.f("ck_booking_proposal_state_known"),
        ),
        sa.CheckConstraint("slot_to > slot_from", name=op.f("ck_booking_proposal_slot_runs_forward")),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_booking_proposal_booking_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_booking_proposal")),
    )
    op.create_index("ix_booking_proposal_booking_id", "booking_proposal", ["booking_id"])

    op.create_table(
        "check_in_code",
        sa.Column("code_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("one_time", sa.Boolean(), nullable=False),
        sa.Column("code_sha256", sa.String(), nullable=False),
        sa.Column("issued_by", sa.String(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("used_for", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_check_in_code_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["issued_by"], ["person.person_id"], name=op.f("fk_check_in_code_issued_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["used_for"], ["booking.booking_id"], name=op.f("fk_check_in_code_used_for"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("code_id", name=op.f("pk_check_in_code")),
    )
    op.create_index("ix_check_in_code_instrument_id", "check_in_code", ["instrument_id"])

    op.create_table(
        "strike",
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("org_id", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_strike_booking_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_strike_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["org_id"], ["org.org_id"], name=op.f("fk_strike_org_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("booking_id", name=op.f("pk_strike")),
    )
    op.create_index("ix_strike_host_id_org_id", "strike", ["host_id", "org_id"])
    op.create_index("ix_strike_org_id", "strike", ["org_id"])

    op.create_table(
        "use_claim",
        sa.Column("claim_id", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("payer_org", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tariff_id", sa.String(), nullable=False),
        sa.Column("tariff_version", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("quote", sa.String(), nullable=False),
        sa.Column("quote_sha256", sa.String(), nullable=False),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.Column("answered_by", sa.String(), nullable=True),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("answer_note", sa.String(), nullable=False),
        sa.Column("booking_id", sa.String(), nullable=True),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(state = 'confirmed') = (booking_id IS NOT NULL)", name=op.f("ck_use_claim_confirmed_makes_a_booking")
        ),
        sa.CheckConstraint("(state = 'open') = (answered_at IS NULL)", name=op.f("ck_use_claim_answered_once")),
        sa.CheckConstraint(
            "state IN ('open', 'confirmed', 'refused', 'withdrawn')", name=op.f("ck_use_claim_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_use_claim_booking_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_use_claim_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_use_claim_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["payer_org"], ["org.org_id"], name=op.f("fk_use_claim_payer_org"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["proposed_by"], ["person.person_id"], name=op.f("fk_use_claim_proposed_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["usage_session.session_id"], name=op.f("fk_use_claim_session_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("claim_id", name=op.f("pk_use_claim")),
    )
    op.create_index("ix_use_claim_host_id", "use_claim", ["host_id"])
    op.create_index("ix_use_claim_payer_org", "use_claim", ["payer_org"])
    op.create_index("ix_use_claim_session_id", "use_claim", ["session_id"])

    op.create_table(
        "wrong_code",
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_wrong_code_booking_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.person_id"], name=op.f("fk_wrong_code_person_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_wrong_code")),
    )
    op.create_index("ix_wrong_code_booking_id", "wrong_code", ["booking_id"])

    op.create_table(
        "strike_lift",
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("lifted_by", sa.String(), nullable=False),
        sa.Column("lifted_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reason <> ''", name=op.f("ck_strike_lift_says_why")),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["strike.booking_id"], name=op.f("fk_strike_lift_booking_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("booking_id", name=op.f("pk_strike_lift")),
    )
