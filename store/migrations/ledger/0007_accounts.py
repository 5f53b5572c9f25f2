"""Registration of firms, invitations, one-time tokens, letters, shared counts of attempts, affiliation by two people."""

import sqlalchemy as sa
from alembic import op

from store.database import APPEND_ONLY_MARK, is_write_locked_per_database

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APPEND_ONLY = ("affiliation_claim", "affiliation_decision")
# In the order in which they refer to each other.
TABLES = (
    "attempt_count",
    "one_time_token",
    "affiliation_claim",
    "invitation",
    "letter",
    "registration",
    "affiliation_decision",
)


def upgrade() -> None:
    _create_tables()
    op.add_column("person", sa.Column("email", sa.String(), nullable=True))
    op.create_index("ix_person_email", "person", ["email"])
    op.add_column("access_token", sa.Column("last_used_at", sa.BigInteger(), nullable=True))
    op.add_column("access_token", sa.Column("last_used_from", sa.String(), nullable=True))
    for table in APPEND_ONLY:
        _guard(table)


def downgrade() -> None:
    for table in APPEND_ONLY:
        _unguard(table)
    op.drop_column("access_token", "last_used_from")
    op.drop_column("access_token", "last_used_at")
    op.drop_index("ix_person_email", "person")
    op.drop_column("person", "email")
    for table in reversed(TABLES):
        op.drop_table(table)


def _guard(table: str) -> None:
    for event in ("UPDATE", "DELETE"):
        name = f"openlab_{table}_no_{event.lower()}"
        if is_write_locked_per_database(op.get_bind()):
            refusal = f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: {table}'); END"
        else:
            refusal = "FOR EACH ROW EXECUTE FUNCTION openlab_refuse_edit()"
        op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} {refusal}")


def _unguard(table: str) -> None:
    of_table = "" if is_write_locked_per_database(op.get_bind()) else f" ON {table}"
    for event in ("update", "delete"):
        op.execute(f"DROP TRIGGER openlab_{table}_no_{event}{of_table}")


def _create_tables() -> None:
    op.create_table(
        "attempt_count",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('address', 'registration', 'login')", name=op.f("ck_attempt_count_kind_known")),
        sa.PrimaryKeyConstraint("kind", "key", name=op.f("pk_attempt_count")),
    )
    op.create_table(
        "one_time_token",
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("issued_by", sa.String(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("purpose IN ('password_reset', 'invitation')", name=op.f("ck_one_time_token_purpose_known")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_one_time_token")),
    )
    op.create_index("ix_one_time_token_purpose_subject_id", "one_time_token", ["purpose", "subject_id"])

    op.create_table(
        "affiliation_claim",
        sa.Column("claim_id", sa.String(), nullable=False),
        sa.Column("host_org", sa.String(), nullable=False),
        sa.Column("other_org", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("ground", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("evidence_sha256", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("proposed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("evidence <> '' AND reason <> ''", name=op.f("ck_affiliation_claim_says_why")),
        sa.CheckConstraint(
            "ground IN ('holding', 'same_controller', 'shared_management', 'shared_identity')",
            name=op.f("ck_affiliation_claim_ground_known"),
        ),
        sa.CheckConstraint("state IN ('affiliated', 'independent')", name=op.f("ck_affiliation_claim_state_known")),
        sa.CheckConstraint(
            "until_at IS NULL OR state = 'affiliated'", name=op.f("ck_affiliation_claim_independence_has_no_end")
        ),
        sa.CheckConstraint("host_org <> other_org", name=op.f("ck_affiliation_claim_two_parties")),
        sa.CheckConstraint("until_at IS NULL OR until_at > from_at", name=op.f("ck_affiliation_claim_runs_forward")),
        sa.ForeignKeyConstraint(
            ["host_org"], ["org.org_id"], name=op.f("fk_affiliation_claim_host_org"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["other_org"], ["org.org_id"], name=op.f("fk_affiliation_claim_other_org"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["proposed_by"], ["person.person_id"], name=op.f("fk_affiliation_claim_proposed_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("claim_id", name=op.f("pk_affiliation_claim")),
        sa.UniqueConstraint("claim_id", "proposed_by", name=op.f("uq_affiliation_claim_claim_id_proposed_by")),
    )
    op.create_index("ix_affiliation_claim_host_org", "affiliation_claim", ["host_org"])
    op.create_index("ix_affiliation_claim_other_org", "affiliation_claim", ["other_org"])

    op.create_table(
        "invitation",
        sa.Column("invitation_id", sa.String(), nullable=False),
        sa.Column("org_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("host_scope", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("login", sa.String(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("invited_by", sa.String(), nullable=False),
        sa.Column("invited_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("accepted_by", sa.String(), nullable=True),
        sa.Column("accepted_at", sa.BigInteger(), nullable=True),
        sa.Column("withdrawn_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(role = 'lab_manager') = (host_scope <> '')", name=op.f("ck_invitation_managers_have_a_host")
        ),
        sa.CheckConstraint(
            "role IN ('sme', 'lab_manager', 'county_officer', 'finance', 'auditor', 'admin')",
            name=op.f("ck_invitation_role_known"),
        ),
        sa.CheckConstraint(
            "(accepted_by IS NULL) = (accepted_at IS NULL)", name=op.f("ck_invitation_accepted_by_somebody")
        ),
        sa.CheckConstraint("(email IS NULL) <> (login IS NULL)", name=op.f("ck_invitation_to_one_person")),
        sa.CheckConstraint("accepted_at IS NULL OR withdrawn_at IS NULL", name=op.f("ck_invitation_one_end")),
        sa.ForeignKeyConstraint(
            ["accepted_by"], ["person.person_id"], name=op.f("fk_invitation_accepted_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["invited_by"], ["person.person_id"], name=op.f("fk_invitation_invited_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["org_id"], ["org.org_id"], name=op.f("fk_invitation_org_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("invitation_id", name=op.f("pk_invitation")),
    )
    op.create_index("ix_invitation_org_id", "invitation", ["org_id"])

    op.create_table(
        "letter",
        sa.Column("letter_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("facts", sa.String(), nullable=False),
        sa.Column("written_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=True),
        sa.Column("opened_by", sa.String(), nullable=True),
        sa.CheckConstraint(
            "kind IN ('password_reset', 'invitation', 'registration_decided')", name=op.f("ck_letter_kind_known")
        ),
        sa.CheckConstraint("(opened_at IS NULL) = (opened_by IS NULL)", name=op.f("ck_letter_opened_by_somebody")),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.person_id"], name=op.f("fk_letter_person_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("letter_id", name=op.f("pk_letter")),
    )
    op.create_index("ix_letter_opened_at_letter_id", "letter", ["opened_at", "letter_id"])
    op.create_index("ix_letter_subject_id", "letter", ["subject_id"])

    op.create_table(
        "registration",
        sa.Column("registration_id", sa.String(), nullable=False),
        sa.Column("org_id", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("uscc", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("submitted_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(state = 'pending') = (decided_by IS NULL) AND (state = 'pending') = (decided_at IS NULL)",
            name=op.f("ck_registration_decided_by_somebody"),
        ),
        sa.CheckConstraint("kind IN ('host', 'sme', 'academic', 'gov')", name=op.f("ck_registration_kind_known")),
        sa.CheckConstraint("state <> 'rejected' OR reason <> ''", name=op.f("ck_registration_rejected_with_reason")),
        sa.CheckConstraint(
            "state IN ('pending', 'approved', 'joined', 'rejected')", name=op.f("ck_registration_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["decided_by"], ["person.person_id"], name=op.f("fk_registration_decided_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["org_id"], ["org.org_id"], name=op.f("fk_registration_org_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.person_id"], name=op.f("fk_registration_person_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("registration_id", name=op.f("pk_registration")),
    )
    op.create_index("ix_registration_org_id", "registration", ["org_id"])
    op.create_index("ix_registration_person_id", "registration", ["person_id"])
    op.create_index("ix_registration_state_registration_id", "registration", ["state", "registration_id"])
    op.create_index("ix_registration_uscc", "registration", ["uscc"])

    op.create_table(
        "affiliation_decision",
        sa.Column("claim_id", sa.String(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("proposed_by", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("proposed_by <> decided_by", name=op.f("ck_affiliation_decision_two_people")),
        sa.ForeignKeyConstraint(
            ["claim_id", "proposed_by"],
            ["affiliation_claim.claim_id", "affiliation_claim.proposed_by"],
            name="fk_affiliation_decision_claim",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["decided_by"], ["person.person_id"], name=op.f("fk_affiliation_decision_decided_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("claim_id", name=op.f("pk_affiliation_decision")),
    )
