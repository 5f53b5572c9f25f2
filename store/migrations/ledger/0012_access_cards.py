"""Cards that people check in with, how they are taken back, and what each reading came to."""

import sqlalchemy as sa
from alembic import op

from store.database import APPEND_ONLY_MARK, is_write_locked_per_database

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("access_card", "card_revocation", "card_reading")


def upgrade() -> None:
    op.create_table(
        "access_card",
        sa.Column("card_id", sa.String(), nullable=False),
        sa.Column("card_sha256", sa.String(), nullable=False),
        sa.Column("host_scope", sa.String(), nullable=False),
        sa.Column("issue_no", sa.BigInteger(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=True),
        sa.Column("issued_by", sa.String(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("issue_no >= 1", name=op.f("ck_access_card_issue_no_from_one")),
        sa.CheckConstraint("valid_to IS NULL OR valid_to > valid_from", name=op.f("ck_access_card_runs_forward")),
        _refers("access_card", "person_id", "person.person_id"),
        _refers("access_card", "issued_by", "person.person_id"),
        sa.PrimaryKeyConstraint("card_id", name=op.f("pk_access_card")),
        sa.UniqueConstraint(
            "card_sha256", "host_scope", "issue_no", name=op.f("uq_access_card_card_sha256_host_scope_issue_no")
        ),
    )
    op.create_index(op.f("ix_access_card_person_id"), "access_card", ["person_id"])
    op.create_table(
        "card_revocation",
        sa.Column("card_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("revoked_by", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reason <> ''", name=op.f("ck_card_revocation_says_why")),
        _refers("card_revocation", "card_id", "access_card.card_id"),
        _refers("card_revocation", "revoked_by", "person.person_id"),
        sa.PrimaryKeyConstraint("card_id", name=op.f("pk_card_revocation")),
    )
    op.create_table(
        "card_reading",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=True),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("card_sha256", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=True),
        sa.Column("said", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("booking_id", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("judged_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('checked_in', 'checked_out', 'unknown_card', 'card_not_valid', 'clock_not_trusted',"
            " 'no_booking', 'bad_record')",
            name=op.f("ck_card_reading_outcome_known"),
        ),
        sa.CheckConstraint(
            "(booking_id IS NOT NULL) = (outcome IN ('checked_in', 'checked_out'))",
            name=op.f("ck_card_reading_says_which"),
        ),
        sa.ForeignKeyConstraint(
            ["agent_id", "stream", "seq"],
            ["usage_record.agent_id", "usage_record.stream", "usage_record.seq"],
            name=op.f("fk_card_reading_agent_id_stream_seq"),
            ondelete="RESTRICT",
        ),
        _refers("card_reading", "instrument_id", "instrument.instrument_id"),
        _refers("card_reading", "host_id", "host.host_id"),
        _refers("card_reading", "card_id", "access_card.card_id"),
        _refers("card_reading", "booking_id", "booking.booking_id"),
        sa.PrimaryKeyConstraint("agent_id", "stream", "seq", name=op.f("pk_card_reading")),
    )
    op.create_index("ix_card_reading_host_id_judged_at", "card_reading", ["host_id", "judged_at"])
    for table in TABLES:
        _guard(table)


def downgrade() -> None:
    for table in TABLES:
        _unguard(table)
    for table in reversed(TABLES):
        op.drop_table(table)


def _refers(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"), ondelete="RESTRICT")


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
