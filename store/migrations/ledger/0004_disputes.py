"""Disputes, corrections, money that reversals set free, dispute windows, sealed chains, and red invoices in parts."""

import sqlalchemy as sa
from alembic import op

from store.database import APPEND_ONLY_MARK, is_write_locked_per_database

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

APPEND_ONLY = (
    "billing_terms",
    "month_seal",
    "credit_entry",
    "dispute",
    "correction",
    "correction_decision",
    "dispute_end",
)


def upgrade() -> None:
    _create_tables()
    op.add_column("statement", sa.Column("issued_at", sa.BigInteger(), nullable=True))
    op.add_column("statement", sa.Column("dispute_until", sa.BigInteger(), nullable=True))
    if is_write_locked_per_database(op.get_bind()):
        _rebuild_invoice(one_red_each=False)
    else:
        op.drop_constraint("uq_invoice_reverses", "invoice", type_="unique")
        op.create_index("ix_invoice_reverses", "invoice", ["reverses"])
    for table in APPEND_ONLY:
        _guard(table)


def downgrade() -> None:
    """Keeps of several red invoices of one blue one the first: the older version knows no others."""
    for table in reversed(APPEND_ONLY):
        _unguard(table)
        op.drop_table(table)
    if is_write_locked_per_database(op.get_bind()):
        _rebuild_invoice(one_red_each=True)
    else:
        _unguard("invoice")
        op.execute(f"DELETE FROM invoice WHERE {_LATER_RED}")
        _guard("invoice")
        op.drop_index("ix_invoice_reverses", "invoice")
        op.create_unique_constraint("uq_invoice_reverses", "invoice", ["reverses"])
    op.drop_column("statement", "dispute_until")
    op.drop_column("statement", "issued_at")


_LATER_RED = (
    "kind = 'red' AND EXISTS (SELECT 1 FROM invoice other WHERE other.reverses = invoice.reverses"
    " AND other.invoice_no < invoice.invoice_no)"
)


def _rebuild_invoice(one_red_each: bool) -> None:
    """This engine drops no constraint of a table that is there: make the table anew. The red ones go before the blue
    ones they refer to, since nothing may refer to a row of a table that is dropped."""
    _unguard("invoice")
    if one_red_each:
        op.execute(f"DELETE FROM invoice WHERE {_LATER_RED}")
        op.drop_index("ix_invoice_reverses", "invoice")
    op.drop_index("ix_invoice_statement_id", "invoice")
    unique = [sa.UniqueConstraint("reverses", name=op.f("uq_invoice_reverses"))] if one_red_each else []
    op.create_table(
        "invoice_anew",
        sa.Column("invoice_no", sa.String(), nullable=False),
        sa.Column("statement_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("reverses", sa.String(), nullable=True),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(kind = 'red') = (reverses IS NOT NULL)", name=op.f("ck_invoice_red_reverses")),
        sa.CheckConstraint("kind IN ('blue', 'red')", name=op.f("ck_invoice_kind_known")),
        sa.CheckConstraint("length(invoice_no) = 20", name=op.f("ck_invoice_twenty_digits")),
        sa.ForeignKeyConstraint(
            ["reverses"], ["invoice_anew.invoice_no"], name=op.f("fk_invoice_reverses"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["statement_id"], ["statement.statement_id"], name=op.f("fk_invoice_statement_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("invoice_no", name=op.f("pk_invoice")),
        *unique,
    )
    columns = "invoice_no, statement_id, kind, reverses, amount_fen, issued_at, recorded_by, recorded_at"
    op.execute(f"INSERT INTO invoice_anew ({columns}) SELECT {columns} FROM invoice ORDER BY kind")
    op.execute("DELETE FROM invoice WHERE kind = 'red'")
    op.drop_table("invoice")
    op.rename_table("invoice_anew", "invoice")
    op.create_index("ix_invoice_statement_id", "invoice", ["statement_id"])
    if not one_red_each:
        op.create_index("ix_invoice_reverses", "invoice", ["reverses"])
    _guard("invoice")


def _guard(table: str) -> None:
    for event in ("UPDATE", "DELETE"):
        name = f"openlab_{table}_no_{event.lower()}"
        if is_write_locked_per_database(op.get_bind()):
            refusal = f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: {table}'); END"
            op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} {refusal}")
        else:
            refusal = "FOR EACH ROW EXECUTE FUNCTION openlab_refuse_edit()"
            op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} {refusal}")


def _unguard(table: str) -> None:
    of_table = "" if is_write_locked_per_database(op.get_bind()) else f" ON {table}"
    for event in ("update", "delete"):
        op.execute(f"DROP TRIGGER openlab_{table}_no_{event}{of_table}")


def _create_tables() -> None:
    op.create_table(
        "billing_terms",
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("terms_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("dispute_days", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("dispute_days >= 0 AND dispute_days <= 60", name=op.f("ck_billing_terms_days_known")),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.host_id"], name=op.f("fk_billing_terms_host_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["set_by"], ["person.person_id"], name=op.f("fk_billing_terms_set_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("host_id", "terms_no", name=op.f("pk_billing_terms")),
        sa.UniqueConstraint("host_id", "valid_from", name=op.f("uq_billing_terms_host_id_valid_from")),
    )
    op.create_table(
        "month_seal",
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("month", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("chain", sa.String(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("row_sum", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["host_id", "month"],
            ["posting_period.host_id", "posting_period.month"],
            name="fk_month_seal_posting_period",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("host_id", "month", "chain", name=op.f("pk_month_seal")),
    )
    op.create_table(
        "credit_entry",
        sa.Column("entry_id", sa.String(), nullable=False),
        sa.Column("payment_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("charge_id", sa.String(), nullable=True),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("external_ref", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'refund') = (charge_id IS NULL)", name=op.f("ck_credit_entry_refund_names_no_charge")
        ),
        sa.CheckConstraint(
            "(kind = 'refund') = (external_ref IS NOT NULL)", name=op.f("ck_credit_entry_refund_has_a_reference")
        ),
        sa.CheckConstraint("kind IN ('release', 'apply', 'refund')", name=op.f("ck_credit_entry_kind_known")),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_credit_entry_amount_positive")),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charge.charge_id"], name=op.f("fk_credit_entry_charge_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payment.payment_id"], name=op.f("fk_credit_entry_payment_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_credit_entry")),
        sa.UniqueConstraint("external_ref", name=op.f("uq_credit_entry_external_ref")),
    )
    with op.batch_alter_table("credit_entry", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credit_entry_charge_id"), ["charge_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_credit_entry_payment_id"), ["payment_id"], unique=False)

    op.create_table(
        "dispute",
        sa.Column("dispute_id", sa.String(), nullable=False),
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("dispute_no", sa.BigInteger(), nullable=False),
        sa.Column("line_no", sa.BigInteger(), nullable=True),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("payer_org", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("raised_by", sa.String(), nullable=False),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reason <> ''", name=op.f("ck_dispute_says_why")),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charge.charge_id"], name=op.f("fk_dispute_charge_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_dispute_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["payer_org"], ["org.org_id"], name=op.f("fk_dispute_payer_org"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["raised_by"], ["person.person_id"], name=op.f("fk_dispute_raised_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("dispute_id", name=op.f("pk_dispute")),
        sa.UniqueConstraint("charge_id", "dispute_no", name=op.f("uq_dispute_charge_id_dispute_no")),
    )
    with op.batch_alter_table("dispute", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dispute_host_id"), ["host_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_dispute_payer_org"), ["payer_org"], unique=False)

    op.create_table(
        "correction",
        sa.Column("correction_id", sa.String(), nullable=False),
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("correction_no", sa.BigInteger(), nullable=False),
        sa.Column("dispute_id", sa.String(), nullable=True),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=True),
        sa.Column("metered_before_ms", sa.BigInteger(), nullable=True),
        sa.Column("metered_after_ms", sa.BigInteger(), nullable=True),
        sa.Column("lines", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("evidence_sha256", sa.String(), nullable=True),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'metered' AND metered_before_ms IS NOT NULL AND metered_after_ms IS NOT NULL AND metered_before_ms >= 0 AND metered_after_ms >= 0) OR (kind <> 'metered' AND metered_before_ms IS NULL AND metered_after_ms IS NULL)",
            name=op.f("ck_correction_metered_has_quantities"),
        ),
        sa.CheckConstraint(
            "kind <> 'stands' OR dispute_id IS NOT NULL", name=op.f("ck_correction_stands_answers_a_dispute")
        ),
        sa.CheckConstraint(
            "kind IN ('metered', 'waiver', 'withdrawal', 'stands')", name=op.f("ck_correction_kind_known")
        ),
        sa.CheckConstraint("reason <> '' AND evidence <> ''", name=op.f("ck_correction_says_why")),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charge.charge_id"], name=op.f("fk_correction_charge_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["dispute_id"], ["dispute.dispute_id"], name=op.f("fk_correction_dispute_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_correction_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["proposed_by"], ["person.person_id"], name=op.f("fk_correction_proposed_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["usage_session.session_id"], name=op.f("fk_correction_session_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("correction_id", name=op.f("pk_correction")),
        sa.UniqueConstraint("charge_id", "correction_no", name=op.f("uq_correction_charge_id_correction_no")),
        sa.UniqueConstraint("correction_id", "proposed_by", name=op.f("uq_correction_correction_id_proposed_by")),
    )
    with op.batch_alter_table("correction", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_correction_dispute_id"), ["dispute_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_host_id"), ["host_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_session_id"), ["session_id"], unique=False)

    op.create_table(
        "correction_decision",
        sa.Column("correction_id", sa.String(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("proposed_by <> decided_by", name=op.f("ck_correction_decision_two_people")),
        sa.ForeignKeyConstraint(
            ["correction_id", "proposed_by"],
            ["correction.correction_id", "correction.proposed_by"],
            name="fk_correction_decision_correction",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["decided_by"], ["person.person_id"], name=op.f("fk_correction_decision_decided_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("correction_id", name=op.f("pk_correction_decision")),
    )
    op.create_table(
        "dispute_end",
        sa.Column("dispute_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("correction_id", sa.String(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("ended_by", sa.String(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(outcome = 'withdrawn') = (correction_id IS NULL)", name=op.f("ck_dispute_end_ended_by_a_correction")
        ),
        sa.CheckConstraint(
            "outcome IN ('corrected', 'stands', 'withdrawn')", name=op.f("ck_dispute_end_outcome_known")
        ),
        sa.ForeignKeyConstraint(
            ["correction_id"],
            ["correction.correction_id"],
            name=op.f("fk_dispute_end_correction_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["dispute_id"], ["dispute.dispute_id"], name=op.f("fk_dispute_end_dispute_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["ended_by"], ["person.person_id"], name=op.f("fk_dispute_end_ended_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("dispute_id", name=op.f("pk_dispute_end")),
        sa.UniqueConstraint("correction_id", name=op.f("uq_dispute_end_correction_id")),
    )
