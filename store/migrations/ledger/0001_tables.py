"""The tables of the ledger database"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("alert_id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("open_slot", sa.BigInteger(), nullable=True),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("done_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alert")),
        sa.UniqueConstraint("rule", "subject", "open_slot", name=op.f("uq_alert_rule_subject_open_slot")),
    )
    op.create_table(
        "chain_head",
        sa.Column("chain_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("pk_chain_head")),
    )
    op.create_table(
        "due",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.String(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('match_session', 'complete_booking', 'charge_booking', 'expire_booking')",
            name=op.f("ck_due_kind_known"),
        ),
        sa.PrimaryKeyConstraint("kind", "subject_id", name=op.f("pk_due")),
    )
    with op.batch_alter_table("due", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_due_due_at"), ["due_at"], unique=False)

    op.create_table(
        "export_file",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("template_version", sa.String(), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("file_sha256", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("format IN ('csv', 'xlsx', 'json')", name=op.f("ck_export_file_format_known")),
        sa.PrimaryKeyConstraint("export_id", name=op.f("pk_export_file")),
    )
    with op.batch_alter_table("export_file", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_export_file_subject_id"), ["subject_id"], unique=False)

    op.create_table(
        "idempotency_key",
        sa.Column("principal", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "route", "key", name=op.f("pk_idempotency_key")),
    )
    op.create_table(
        "number_series",
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("last_no", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("series", name=op.f("pk_number_series")),
    )
    op.create_table(
        "org",
        sa.Column("org_id", sa.String(), nullable=False),
        sa.Column("uscc", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('host', 'sme', 'academic', 'gov')", name=op.f("ck_org_kind_known")),
        sa.CheckConstraint("state IN ('pending', 'active', 'suspended')", name=op.f("ck_org_state_known")),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_org")),
        sa.UniqueConstraint("uscc", name=op.f("uq_org_uscc")),
    )
    op.create_table(
        "quarantine",
        sa.Column("quarantine_id", sa.String(), nullable=False),
        sa.Column("topic", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("replayed_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "reason IN ('bad_topic', 'too_large', 'not_json', 'unknown_schema', 'invalid', 'unknown_agent', 'unknown_instrument', 'foreign_instrument', 'revoked_agent', 'wrong_kind', 'series_refused')",
            name=op.f("ck_quarantine_reason_known"),
        ),
        sa.PrimaryKeyConstraint("quarantine_id", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "reward_policy",
        sa.Column("policy_id", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("policy_id", name=op.f("pk_reward_policy")),
    )
    op.create_table(
        "usage_conflict",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payload_sha256", sa.String(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "stream", "seq", "payload_sha256", name=op.f("pk_usage_conflict")),
    )
    op.create_table(
        "affiliation_event",
        sa.Column("host_org", sa.String(), nullable=False),
        sa.Column("other_org", sa.String(), nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('affiliated', 'independent')", name=op.f("ck_affiliation_event_state_known")),
        sa.CheckConstraint("host_org <> other_org", name=op.f("ck_affiliation_event_two_parties")),
        sa.ForeignKeyConstraint(
            ["host_org"], ["org.org_id"], name=op.f("fk_affiliation_event_host_org"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["other_org"], ["org.org_id"], name=op.f("fk_affiliation_event_other_org"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("host_org", "other_org", "effective_at", name=op.f("pk_affiliation_event")),
    )
    op.create_table(
        "audit_event",
        sa.Column("chain_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("prev_hash", sa.String(), nullable=False),
        sa.Column("row_hash", sa.String(), nullable=False),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_audit_event_seq_from_one")),
        sa.ForeignKeyConstraint(
            ["chain_id"], ["chain_head.chain_id"], name=op.f("fk_audit_event_chain_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("chain_id", "seq", name=op.f("pk_audit_event")),
        sa.UniqueConstraint("row_hash", name=op.f("uq_audit_event_row_hash")),
    )
    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_event_subject"), ["subject"], unique=False)

    op.create_table(
        "host",
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("org_id", sa.String(), nullable=False),
        sa.Column("host_type", sa.String(), nullable=False),
        sa.Column("cluster_zh", sa.String(), nullable=False),
        sa.Column("cluster_en", sa.String(), nullable=False),
        sa.Column("town_zh", sa.String(), nullable=False),
        sa.Column("town_en", sa.String(), nullable=False),
        sa.Column("latitude_e6", sa.BigInteger(), nullable=False),
        sa.Column("longitude_e6", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.org_id"], name=op.f("fk_host_org_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_host")),
        sa.UniqueConstraint("org_id", name=op.f("uq_host_org_id")),
    )
    op.create_table(
        "person",
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("login", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("org_id", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["org.org_id"], name=op.f("fk_person_org_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_person")),
        sa.UniqueConstraint("login", name=op.f("uq_person_login")),
    )
    with op.batch_alter_table("person", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_person_org_id"), ["org_id"], unique=False)

    op.create_table(
        "access_token",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('session', 'bearer')", name=op.f("ck_access_token_kind_known")),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.person_id"], name=op.f("fk_access_token_person_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_access_token")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_access_token_token_sha256")),
    )
    with op.batch_alter_table("access_token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_token_person_id"), ["person_id"], unique=False)

    op.create_table(
        "agent",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("registered_by", sa.String(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_agent_host_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_agent")),
    )
    with op.batch_alter_table("agent", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_agent_host_id"), ["host_id"], unique=False)

    op.create_table(
        "anomaly",
        sa.Column("anomaly_id", sa.String(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("rule_version", sa.String(), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("blocks_reward", sa.Boolean(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_anomaly_host_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("anomaly_id", name=op.f("pk_anomaly")),
        sa.UniqueConstraint(
            "rule",
            "rule_version",
            "subject_kind",
            "subject_id",
            name=op.f("uq_anomaly_rule_rule_version_subject_kind_subject_id"),
        ),
    )
    with op.batch_alter_table("anomaly", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_anomaly_host_id"), ["host_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_anomaly_subject_id"), ["subject_id"], unique=False)

    op.create_table(
        "assessment",
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("year", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("grade", sa.String(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("grade IN ('excellent', 'good', 'pass', 'fail')", name=op.f("ck_assessment_grade_known")),
        sa.CheckConstraint("prepared_by <> approved_by", name=op.f("ck_assessment_two_people")),
        sa.ForeignKeyConstraint(
            ["approved_by"], ["person.person_id"], name=op.f("fk_assessment_approved_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_assessment_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["prepared_by"], ["person.person_id"], name=op.f("fk_assessment_prepared_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("host_id", "year", "version", name=op.f("pk_assessment")),
    )
    op.create_table(
        "lab",
        sa.Column("lab_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_lab_host_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("lab_id", name=op.f("pk_lab")),
    )
    with op.batch_alter_table("lab", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lab_host_id"), ["host_id"], unique=False)

    op.create_table(
        "posting_period",
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("month", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("seal", sa.String(), nullable=True),
        sa.Column("locked_by", sa.String(), nullable=True),
        sa.Column("locked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state <> 'locked' OR (seal IS NOT NULL AND locked_at IS NOT NULL)",
            name=op.f("ck_posting_period_locked_is_sealed"),
        ),
        sa.CheckConstraint("state IN ('open', 'closing', 'locked')", name=op.f("ck_posting_period_state_known")),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.host_id"], name=op.f("fk_posting_period_host_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("host_id", "month", name=op.f("pk_posting_period")),
    )
    op.create_table(
        "reward_policy_version",
        sa.Column("policy_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("from_month", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("prepared_by <> approved_by", name=op.f("ck_reward_policy_version_two_people")),
        sa.ForeignKeyConstraint(
            ["approved_by"],
            ["person.person_id"],
            name=op.f("fk_reward_policy_version_approved_by"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["policy_id"],
            ["reward_policy.policy_id"],
            name=op.f("fk_reward_policy_version_policy_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["prepared_by"],
            ["person.person_id"],
            name=op.f("fk_reward_policy_version_prepared_by"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("policy_id", "version", name=op.f("pk_reward_policy_version")),
        sa.UniqueConstraint("policy_id", "from_month", name=op.f("uq_reward_policy_version_policy_id_from_month")),
    )
    op.create_table(
        "role_grant",
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("host_scope", sa.String(), nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(role = 'lab_manager') = (host_scope <> '')", name=op.f("ck_role_grant_managers_have_a_host")
        ),
        sa.CheckConstraint(
            "role IN ('sme', 'lab_manager', 'county_officer', 'finance', 'auditor', 'admin')",
            name=op.f("ck_role_grant_role_known"),
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.person_id"], name=op.f("fk_role_grant_person_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("person_id", "role", "host_scope", name=op.f("pk_role_grant")),
    )
    op.create_table(
        "statement",
        sa.Column("statement_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("payer_org", sa.String(), nullable=False),
        sa.Column("month", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("part", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=True),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("line_count", sa.BigInteger(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("prepared_at", sa.BigInteger(), nullable=False),
        sa.Column("finalized_by", sa.String(), nullable=True),
        sa.Column("finalized_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(state = 'draft' AND number IS NULL AND finalized_at IS NULL AND finalized_by IS NULL) OR (state = 'final' AND number IS NOT NULL AND finalized_at IS NOT NULL AND finalized_by IS NOT NULL)",
            name=op.f("ck_statement_final_is_numbered"),
        ),
        sa.CheckConstraint("kind IN ('statement', 'credit_note')", name=op.f("ck_statement_kind_known")),
        sa.CheckConstraint("state IN ('draft', 'final')", name=op.f("ck_statement_state_known")),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_statement_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["payer_org"], ["org.org_id"], name=op.f("fk_statement_payer_org"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("statement_id", name=op.f("pk_statement")),
        sa.UniqueConstraint(
            "host_id", "payer_org", "month", "kind", "part", name=op.f("uq_statement_host_id_payer_org_month_kind_part")
        ),
        sa.UniqueConstraint("number", name=op.f("uq_statement_number")),
        sa.UniqueConstraint("statement_id", "line_count", name=op.f("uq_statement_statement_id_line_count")),
    )
    with op.batch_alter_table("statement", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_statement_payer_org"), ["payer_org"], unique=False)

    op.create_table(
        "agent_status",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("heard_at", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(), nullable=False),
        sa.Column("software", sa.String(), nullable=False),
        sa.Column("queued", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("skew_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agent.agent_id"], name=op.f("fk_agent_status_agent_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("agent_id", name=op.f("pk_agent_status")),
    )
    op.create_table(
        "anomaly_decision",
        sa.Column("anomaly_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("verdict IN ('cleared', 'confirmed')", name=op.f("ck_anomaly_decision_verdict_known")),
        sa.ForeignKeyConstraint(
            ["anomaly_id"], ["anomaly.anomaly_id"], name=op.f("fk_anomaly_decision_anomaly_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["decided_by"], ["person.person_id"], name=op.f("fk_anomaly_decision_decided_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("anomaly_id", name=op.f("pk_anomaly_decision")),
    )
    op.create_table(
        "instrument",
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("lab_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("category_code", sa.String(), nullable=False),
        sa.Column("category_zh", sa.String(), nullable=False),
        sa.Column("category_en", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("supply", sa.String(), nullable=False),
        sa.Column("power_rated_w", sa.BigInteger(), nullable=False),
        sa.Column("power_standby_w", sa.BigInteger(), nullable=False),
        sa.Column("power_idle_w", sa.BigInteger(), nullable=False),
        sa.Column("power_running_w", sa.BigInteger(), nullable=False),
        sa.Column("run_threshold_w", sa.BigInteger(), nullable=False),
        sa.Column("use_detection", sa.String(), nullable=False),
        sa.Column("original_value_fen", sa.BigInteger(), nullable=False),
        sa.Column("share_mode", sa.String(), nullable=False),
        sa.Column("run_status", sa.String(), nullable=False),
        sa.Column("approval", sa.String(), nullable=False),
        sa.Column("buffer_minutes", sa.BigInteger(), nullable=False),
        sa.Column("max_slot_minutes", sa.BigInteger(), nullable=False),
        sa.Column("traceability_months", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("approval IN ('automatic', 'manager')", name=op.f("ck_instrument_approval_known")),
        sa.CheckConstraint(
            "run_status IN ('normal', 'faulty', 'in_repair', 'retired')", name=op.f("ck_instrument_run_status_known")
        ),
        sa.CheckConstraint(
            "share_mode IN ('external', 'internal', 'none')", name=op.f("ck_instrument_share_mode_known")
        ),
        sa.CheckConstraint(
            "use_detection IN ('power', 'power+checkin', 'checkin')", name=op.f("ck_instrument_use_detection_known")
        ),
        sa.CheckConstraint("buffer_minutes >= 0", name=op.f("ck_instrument_buffer_not_negative")),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_instrument_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["lab_id"], ["lab.lab_id"], name=op.f("fk_instrument_lab_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("instrument_id", name=op.f("pk_instrument")),
        sa.UniqueConstraint("code", name=op.f("uq_instrument_code")),
    )
    with op.batch_alter_table("instrument", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_instrument_host_id"), ["host_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_instrument_lab_id"), ["lab_id"], unique=False)

    op.create_table(
        "invoice",
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
            ["reverses"], ["invoice.invoice_no"], name=op.f("fk_invoice_reverses"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["statement_id"], ["statement.statement_id"], name=op.f("fk_invoice_statement_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("invoice_no", name=op.f("pk_invoice")),
        sa.UniqueConstraint("reverses", name=op.f("uq_invoice_reverses")),
    )
    with op.batch_alter_table("invoice", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_invoice_statement_id"), ["statement_id"], unique=False)

    op.create_table(
        "payment",
        sa.Column("payment_id", sa.String(), nullable=False),
        sa.Column("statement_id", sa.String(), nullable=False),
        sa.Column("tender", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("external_ref", sa.String(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("tender IN ('cash', 'voucher', 'waiver')", name=op.f("ck_payment_tender_known")),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_payment_amount_positive")),
        sa.ForeignKeyConstraint(
            ["statement_id"], ["statement.statement_id"], name=op.f("fk_payment_statement_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("payment_id", name=op.f("pk_payment")),
        sa.UniqueConstraint("tender", "external_ref", name=op.f("uq_payment_tender_external_ref")),
    )
    with op.batch_alter_table("payment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_payment_statement_id"), ["statement_id"], unique=False)

    op.create_table(
        "reward_run",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("policy_id", sa.String(), nullable=False),
        sa.Column("policy_version", sa.BigInteger(), nullable=False),
        sa.Column("period_kind", sa.String(), nullable=False),
        sa.Column("period_first", sa.BigInteger(), nullable=False),
        sa.Column("run_no", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("engine_version", sa.String(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("charge_count", sa.BigInteger(), nullable=False),
        sa.Column("base_fen", sa.BigInteger(), nullable=False),
        sa.Column("payable_fen", sa.BigInteger(), nullable=False),
        sa.Column("input_sha256", sa.String(), nullable=False),
        sa.Column("result_sha256", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("prepared_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_by", sa.String(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("close_reason", sa.String(), nullable=False),
        sa.CheckConstraint(
            "(state = 'prepared') = (closed_at IS NULL)", name=op.f("ck_reward_run_closed_at_some_time")
        ),
        sa.CheckConstraint("(state = 'prepared') = (closed_by IS NULL)", name=op.f("ck_reward_run_closed_by_somebody")),
        sa.CheckConstraint("period_kind IN ('month', 'quarter', 'year')", name=op.f("ck_reward_run_period_kind_known")),
        sa.CheckConstraint("state <> 'locked' OR closed_by <> prepared_by", name=op.f("ck_reward_run_two_people")),
        sa.CheckConstraint(
            "state <> 'withdrawn' OR close_reason <> ''", name=op.f("ck_reward_run_withdrawn_with_reason")
        ),
        sa.CheckConstraint("state IN ('prepared', 'locked', 'withdrawn')", name=op.f("ck_reward_run_state_known")),
        sa.ForeignKeyConstraint(
            ["closed_by"], ["person.person_id"], name=op.f("fk_reward_run_closed_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["policy_id", "policy_version"],
            ["reward_policy_version.policy_id", "reward_policy_version.version"],
            name="fk_reward_run_policy_version",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["prepared_by"], ["person.person_id"], name=op.f("fk_reward_run_prepared_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_reward_run")),
        sa.UniqueConstraint(
            "policy_id",
            "period_kind",
            "period_first",
            "run_no",
            name=op.f("uq_reward_run_policy_id_period_kind_period_first_run_no"),
        ),
    )
    op.create_table(
        "usage_stream",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("chain_seq", sa.BigInteger(), nullable=False),
        sa.Column("chain_hash", sa.String(), nullable=False),
        sa.Column("chained_upto", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('usage', 'telemetry')", name=op.f("ck_usage_stream_kind_known")),
        sa.CheckConstraint("upto >= 0 AND chained_upto <= upto", name=op.f("ck_usage_stream_marks_in_order")),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agent.agent_id"], name=op.f("fk_usage_stream_agent_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("agent_id", "stream", name=op.f("pk_usage_stream")),
    )
    op.create_table(
        "calendar_row",
        sa.Column("row_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('booking', 'outage', 'reservation')", name=op.f("ck_calendar_row_kind_known")),
        sa.CheckConstraint("to_at > from_at", name=op.f("ck_calendar_row_runs_forward")),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_calendar_row_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_calendar_row")),
    )
    with op.batch_alter_table("calendar_row", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_calendar_row_instrument_id_from_at"), ["instrument_id", "from_at"], unique=False
        )

    op.create_table(
        "certificate",
        sa.Column("certificate_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.BigInteger(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('verification', 'calibration')", name=op.f("ck_certificate_kind_known")),
        sa.CheckConstraint("valid_to > valid_from", name=op.f("ck_certificate_validity_runs_forward")),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_certificate_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("certificate_id", name=op.f("pk_certificate")),
        sa.UniqueConstraint("instrument_id", "number", name=op.f("uq_certificate_instrument_id_number")),
    )
    with op.batch_alter_table("certificate", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_certificate_instrument_id"), ["instrument_id"], unique=False)

    op.create_table(
        "meter_position",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("boot", sa.String(), nullable=False),
        sa.Column("to_ms", sa.BigInteger(), nullable=False),
        sa.Column("accounted_to", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("odo_off_ms", sa.BigInteger(), nullable=False),
        sa.Column("odo_standby_ms", sa.BigInteger(), nullable=False),
        sa.Column("odo_running_ms", sa.BigInteger(), nullable=False),
        sa.Column("odo_unknown_ms", sa.BigInteger(), nullable=False),
        sa.Column("sessions", sa.BigInteger(), nullable=False),
        sa.Column("open_session_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["agent_id", "stream"],
            ["usage_stream.agent_id", "usage_stream.stream"],
            name=op.f("fk_meter_position_agent_id_stream"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_meter_position_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("agent_id", "stream", "instrument_id", name=op.f("pk_meter_position")),
    )
    with op.batch_alter_table("meter_position", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_meter_position_instrument_id"), ["instrument_id"], unique=False)

    op.create_table(
        "metering",
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("effective_at", sa.BigInteger(), nullable=False),
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("meter_serial", sa.String(), nullable=False),
        sa.Column("ct_ratio_milli", sa.BigInteger(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("profile_sha256", sa.String(), nullable=False),
        sa.Column("sample_period_ms", sa.BigInteger(), nullable=False),
        sa.Column("installed_by", sa.String(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("ct_ratio_milli > 0", name=op.f("ck_metering_ct_ratio_positive")),
        sa.CheckConstraint("sample_period_ms > 0", name=op.f("ck_metering_period_positive")),
        sa.ForeignKeyConstraint(
            ["agent_id"], ["agent.agent_id"], name=op.f("fk_metering_agent_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_metering_instrument_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("instrument_id", "effective_at", name=op.f("pk_metering")),
    )
    with op.batch_alter_table("metering", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_metering_agent_id"), ["agent_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_metering_agent_id_instrument_id"), ["agent_id", "instrument_id"], unique=False
        )

    op.create_table(
        "reward_result",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("base_fen", sa.BigInteger(), nullable=False),
        sa.Column("grade", sa.String(), nullable=False),
        sa.Column("coefficient_bp", sa.BigInteger(), nullable=False),
        sa.Column("reward_fen", sa.BigInteger(), nullable=False),
        sa.Column("granted_before_fen", sa.BigInteger(), nullable=False),
        sa.Column("carried_in_fen", sa.BigInteger(), nullable=False),
        sa.Column("payable_fen", sa.BigInteger(), nullable=False),
        sa.Column("carried_out_fen", sa.BigInteger(), nullable=False),
        sa.Column("explanation", sa.String(), nullable=False),
        sa.CheckConstraint("coefficient_bp >= 0", name=op.f("ck_reward_result_coefficient_not_negative")),
        sa.CheckConstraint(
            "payable_fen + carried_out_fen = reward_fen - granted_before_fen + carried_in_fen",
            name=op.f("ck_reward_result_nothing_gets_lost"),
        ),
        sa.CheckConstraint(
            "payable_fen >= 0 AND carried_out_fen <= 0 AND carried_in_fen <= 0",
            name=op.f("ck_reward_result_carried_is_owed"),
        ),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.host_id"], name=op.f("fk_reward_result_host_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reward_run.run_id"], name=op.f("fk_reward_result_run_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", "host_id", name=op.f("pk_reward_result")),
    )
    op.create_table(
        "tariff",
        sa.Column("tariff_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_tariff_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_tariff_instrument_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("tariff_id", name=op.f("pk_tariff")),
        sa.UniqueConstraint("instrument_id", name=op.f("uq_tariff_instrument_id")),
    )
    with op.batch_alter_table("tariff", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_tariff_host_id"), ["host_id"], unique=False)

    op.create_table(
        "test_item",
        sa.Column("test_item_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("name_zh", sa.String(), nullable=False),
        sa.Column("name_en", sa.String(), nullable=False),
        sa.Column("standard", sa.String(), nullable=False),
        sa.Column("typical_session_minutes", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_test_item_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("test_item_id", name=op.f("pk_test_item")),
    )
    with op.batch_alter_table("test_item", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_test_item_instrument_id"), ["instrument_id"], unique=False)

    op.create_table(
        "usage_record",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=True),
        sa.Column("session_id", sa.String(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("payload_sha256", sa.String(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_usage_record_seq_from_one")),
        sa.ForeignKeyConstraint(
            ["agent_id", "stream"],
            ["usage_stream.agent_id", "usage_stream.stream"],
            name=op.f("fk_usage_record_agent_id_stream"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_usage_record_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("agent_id", "stream", "seq", name=op.f("pk_usage_record")),
    )
    with op.batch_alter_table("usage_record", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_usage_record_instrument_id_at"), ["instrument_id", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_usage_record_session_id"), ["session_id"], unique=False)

    op.create_table(
        "booking",
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("payer_org", sa.String(), nullable=False),
        sa.Column("person_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("slot_from", sa.BigInteger(), nullable=False),
        sa.Column("slot_to", sa.BigInteger(), nullable=False),
        sa.Column("calendar_row_id", sa.String(), nullable=True),
        sa.Column("tariff_id", sa.String(), nullable=False),
        sa.Column("tariff_version", sa.BigInteger(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_quantity", sa.BigInteger(), nullable=True),
        sa.Column("quote", sa.String(), nullable=False),
        sa.Column("quote_sha256", sa.String(), nullable=False),
        sa.Column("checked_in_at", sa.BigInteger(), nullable=True),
        sa.Column("checked_out_at", sa.BigInteger(), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("mode IN ('self_operated', 'samples')", name=op.f("ck_booking_mode_known")),
        sa.CheckConstraint("purpose IN ('customer', 'internal', 'maintenance')", name=op.f("ck_booking_purpose_known")),
        sa.CheckConstraint(
            "state IN ('requested', 'confirmed', 'checked_in', 'samples_received', 'scheduled', 'in_use', 'completed', 'results_confirmed', 'reported', 'closed', 'rejected', 'cancelled', 'expired', 'no_show')",
            name=op.f("ck_booking_state_known"),
        ),
        sa.CheckConstraint("quantity >= 0", name=op.f("ck_booking_quantity_not_negative")),
        sa.CheckConstraint("slot_to > slot_from", name=op.f("ck_booking_slot_runs_forward")),
        sa.ForeignKeyConstraint(
            ["calendar_row_id"], ["calendar_row.row_id"], name=op.f("fk_booking_calendar_row_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_booking_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_booking_instrument_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["payer_org"], ["org.org_id"], name=op.f("fk_booking_payer_org"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["person_id"], ["person.person_id"], name=op.f("fk_booking_person_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["tariff_id"], ["tariff.tariff_id"], name=op.f("fk_booking_tariff_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("booking_id", name=op.f("pk_booking")),
        sa.UniqueConstraint("calendar_row_id", name=op.f("uq_booking_calendar_row_id")),
    )
    with op.batch_alter_table("booking", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_booking_host_id"), ["host_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_booking_instrument_id_slot_from"), ["instrument_id", "slot_from"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_booking_payer_org"), ["payer_org"], unique=False)
        batch_op.create_index("ix_booking_state_slot_to", ["state", "slot_to"], unique=False)

    op.create_table(
        "tariff_version",
        sa.Column("tariff_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("body_sha256", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("approved_by", sa.String(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("prepared_by <> approved_by", name=op.f("ck_tariff_version_two_people")),
        sa.ForeignKeyConstraint(
            ["approved_by"], ["person.person_id"], name=op.f("fk_tariff_version_approved_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["prepared_by"], ["person.person_id"], name=op.f("fk_tariff_version_prepared_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["tariff_id"], ["tariff.tariff_id"], name=op.f("fk_tariff_version_tariff_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("tariff_id", "version", name=op.f("pk_tariff_version")),
        sa.UniqueConstraint("tariff_id", "valid_from", name=op.f("uq_tariff_version_tariff_id_valid_from")),
    )
    op.create_table(
        "usage_session",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("metering_from", sa.BigInteger(), nullable=False),
        sa.Column("open_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("close_seq", sa.BigInteger(), nullable=True),
        sa.Column("open_slot", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("odo_running_first_ms", sa.BigInteger(), nullable=False),
        sa.Column("odo_running_last_ms", sa.BigInteger(), nullable=False),
        sa.Column("odo_unknown_first_ms", sa.BigInteger(), nullable=False),
        sa.Column("odo_unknown_last_ms", sa.BigInteger(), nullable=False),
        sa.Column("flags", sa.String(), nullable=False),
        sa.CheckConstraint(
            "(ended_at IS NULL AND close_seq IS NULL AND open_slot IS NOT NULL AND open_slot = 1) OR (ended_at IS NOT NULL AND close_seq IS NOT NULL AND open_slot IS NULL)",
            name=op.f("ck_usage_session_open_or_ended"),
        ),
        sa.CheckConstraint("last_at >= started_at", name=op.f("ck_usage_session_runs_forward")),
        sa.CheckConstraint("odo_running_last_ms >= odo_running_first_ms", name=op.f("ck_usage_session_running_rises")),
        sa.CheckConstraint("odo_unknown_last_ms >= odo_unknown_first_ms", name=op.f("ck_usage_session_unknown_rises")),
        sa.ForeignKeyConstraint(
            ["instrument_id", "metering_from"],
            ["metering.instrument_id", "metering.effective_at"],
            name=op.f("fk_usage_session_instrument_id_metering_from"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_usage_session_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_usage_session")),
        sa.UniqueConstraint("agent_id", "stream", "open_seq", name=op.f("uq_usage_session_agent_id_stream_open_seq")),
        sa.UniqueConstraint(
            "instrument_id", "stream", "open_slot", name=op.f("uq_usage_session_instrument_id_stream_open_slot")
        ),
    )
    with op.batch_alter_table("usage_session", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_usage_session_instrument_id_started_at"), ["instrument_id", "started_at"], unique=False
        )

    op.create_table(
        "booking_event",
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("event_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("from_state", sa.String(), nullable=False),
        sa.Column("to_state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("facts", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_booking_event_booking_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("booking_id", "event_no", name=op.f("pk_booking_event")),
    )
    op.create_table(
        "booking_use",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("running_ms", sa.BigInteger(), nullable=False),
        sa.Column("unknown_ms", sa.BigInteger(), nullable=False),
        sa.Column("matched_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("running_ms >= 0 AND unknown_ms >= 0", name=op.f("ck_booking_use_not_negative")),
        sa.CheckConstraint("to_at >= from_at", name=op.f("ck_booking_use_runs_forward")),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_booking_use_booking_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["usage_session.session_id"], name=op.f("fk_booking_use_session_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("session_id", "booking_id", name=op.f("pk_booking_use")),
    )
    with op.batch_alter_table("booking_use", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_booking_use_booking_id"), ["booking_id"], unique=False)

    op.create_table(
        "charge",
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("booking_id", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("prev_revision", sa.BigInteger(), nullable=True),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("payer_org", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("category", sa.String(), nullable=False),
        sa.Column("tariff_id", sa.String(), nullable=False),
        sa.Column("tariff_version", sa.BigInteger(), nullable=False),
        sa.Column("calc_version", sa.String(), nullable=False),
        sa.Column("input", sa.String(), nullable=False),
        sa.Column("input_sha256", sa.String(), nullable=False),
        sa.Column("service_at", sa.BigInteger(), nullable=False),
        sa.Column("service_month", sa.BigInteger(), nullable=False),
        sa.Column("posting_month", sa.BigInteger(), nullable=False),
        sa.Column("total_fen", sa.BigInteger(), nullable=False),
        sa.Column("net_fen", sa.BigInteger(), nullable=False),
        sa.Column("line_count", sa.BigInteger(), nullable=False),
        sa.Column("metered_ms", sa.BigInteger(), nullable=False),
        sa.Column("internal", sa.Boolean(), nullable=False),
        sa.Column("has_session", sa.Boolean(), nullable=False),
        sa.Column("certificate_valid", sa.Boolean(), nullable=False),
        sa.Column("coverage_bp", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("row_hash", sa.String(), nullable=False),
        sa.CheckConstraint(
            "(revision % 2 = 1 AND total_fen >= 0) OR (revision % 2 = 0 AND total_fen <= 0 AND reason <> '')",
            name=op.f("ck_charge_odd_charges_even_reverses"),
        ),
        sa.CheckConstraint(
            "purpose IN ('use', 'cancellation', 'no_show', 'manual')", name=op.f("ck_charge_purpose_known")
        ),
        sa.CheckConstraint(
            "(revision = 1 AND prev_revision IS NULL) OR (revision > 1 AND prev_revision IS NOT NULL AND prev_revision = revision - 1)",
            name=op.f("ck_charge_revision_follows"),
        ),
        sa.CheckConstraint("coverage_bp >= 0 AND coverage_bp <= 10000", name=op.f("ck_charge_coverage_share")),
        sa.CheckConstraint("posting_month >= service_month", name=op.f("ck_charge_posted_not_before_service")),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_charge_revision_from_one")),
        sa.ForeignKeyConstraint(
            ["booking_id", "purpose", "prev_revision"],
            ["charge.booking_id", "charge.purpose", "charge.revision"],
            name="fk_charge_prev_revision",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["booking_id"], ["booking.booking_id"], name=op.f("fk_charge_booking_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["host_id"], ["host.host_id"], name=op.f("fk_charge_host_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_charge_instrument_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["payer_org"], ["org.org_id"], name=op.f("fk_charge_payer_org"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["tariff_id", "tariff_version"],
            ["tariff_version.tariff_id", "tariff_version.version"],
            name="fk_charge_tariff_version",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("charge_id", name=op.f("pk_charge")),
        sa.UniqueConstraint("booking_id", "purpose", "revision", name=op.f("uq_charge_booking_id_purpose_revision")),
        sa.UniqueConstraint("charge_id", "line_count", name=op.f("uq_charge_charge_id_line_count")),
        sa.UniqueConstraint("row_hash", name=op.f("uq_charge_row_hash")),
    )
    with op.batch_alter_table("charge", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_charge_posting_month_host_id"), ["posting_month", "host_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_charge_service_month_host_id"), ["service_month", "host_id"], unique=False)

    op.create_table(
        "unbooked_use",
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("running_ms", sa.BigInteger(), nullable=False),
        sa.Column("unknown_ms", sa.BigInteger(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=True),
        sa.Column("classified_by", sa.String(), nullable=True),
        sa.Column("classified_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "purpose IN ('customer', 'internal', 'maintenance')", name=op.f("ck_unbooked_use_purpose_known")
        ),
        sa.CheckConstraint("to_at >= from_at", name=op.f("ck_unbooked_use_runs_forward")),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_unbooked_use_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["usage_session.session_id"], name=op.f("fk_unbooked_use_session_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("session_id", "from_at", name=op.f("pk_unbooked_use")),
    )
    with op.batch_alter_table("unbooked_use", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_unbooked_use_instrument_id"), ["instrument_id"], unique=False)

    op.create_table(
        "usage_entry",
        sa.Column("agent_id", sa.String(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("chain_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("records_sha256", sa.String(), nullable=False),
        sa.Column("instrument_id", sa.String(), nullable=True),
        sa.Column("session_id", sa.String(), nullable=True),
        sa.Column("metric", sa.String(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("prev_revision", sa.BigInteger(), nullable=True),
        sa.Column("quantity_ms", sa.BigInteger(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("prev_hash", sa.String(), nullable=False),
        sa.Column("row_hash", sa.String(), nullable=False),
        sa.CheckConstraint(
            "(revision % 2 = 1 AND quantity_ms >= 0) OR (revision % 2 = 0 AND quantity_ms <= 0 AND reason <> '')",
            name=op.f("ck_usage_entry_odd_states_even_reverses"),
        ),
        sa.CheckConstraint(
            "kind IN ('session', 'unknown', 'event', 'fold', 'correction')", name=op.f("ck_usage_entry_kind_known")
        ),
        sa.CheckConstraint(
            "(revision = 1 AND prev_revision IS NULL) OR (revision > 1 AND prev_revision IS NOT NULL AND prev_revision = revision - 1)",
            name=op.f("ck_usage_entry_revision_follows"),
        ),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_usage_entry_revision_from_one")),
        sa.CheckConstraint("to_at >= from_at", name=op.f("ck_usage_entry_runs_forward")),
        sa.ForeignKeyConstraint(
            ["agent_id", "stream"],
            ["usage_stream.agent_id", "usage_stream.stream"],
            name=op.f("fk_usage_entry_agent_id_stream"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["instrument_id"],
            ["instrument.instrument_id"],
            name=op.f("fk_usage_entry_instrument_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["session_id", "metric", "prev_revision"],
            ["usage_entry.session_id", "usage_entry.metric", "usage_entry.revision"],
            name="fk_usage_entry_prev_revision",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["session_id"], ["usage_session.session_id"], name=op.f("fk_usage_entry_session_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("agent_id", "stream", "chain_seq", name=op.f("pk_usage_entry")),
        sa.UniqueConstraint("row_hash", name=op.f("uq_usage_entry_row_hash")),
        sa.UniqueConstraint("session_id", "metric", "revision", name=op.f("uq_usage_entry_session_id_metric_revision")),
    )
    op.create_table(
        "charge_evidence",
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("content_sha256", sa.String(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("kind IN ('samples', 'records')", name=op.f("ck_charge_evidence_kind_known")),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charge.charge_id"], name=op.f("fk_charge_evidence_charge_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("charge_id", "kind", name=op.f("pk_charge_evidence")),
    )
    op.create_table(
        "charge_line",
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("line_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("line_count", sa.BigInteger(), nullable=False),
        sa.Column("component", sa.String(), nullable=False),
        sa.Column("item_code", sa.String(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("per_quantity", sa.BigInteger(), nullable=False),
        sa.Column("unit_fen", sa.BigInteger(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.String(), nullable=False),
        sa.CheckConstraint(
            "component IN ('setup', 'time', 'sample', 'item', 'minimum', 'cancellation', 'no_show', 'manual')",
            name=op.f("ck_charge_line_component_known"),
        ),
        sa.CheckConstraint("line_no >= 1 AND line_no <= line_count", name=op.f("ck_charge_line_line_fits")),
        sa.CheckConstraint("per_quantity > 0", name=op.f("ck_charge_line_per_quantity_positive")),
        sa.ForeignKeyConstraint(
            ["charge_id", "line_count"],
            ["charge.charge_id", "charge.line_count"],
            name=op.f("fk_charge_line_charge_id_line_count"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("charge_id", "line_no", name=op.f("pk_charge_line")),
        sa.UniqueConstraint(
            "charge_id", "component", "item_code", name=op.f("uq_charge_line_charge_id_component_item_code")
        ),
    )
    op.create_table(
        "reward_input",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("eligible_fen", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.CheckConstraint(
            "reason = 'eligible' OR eligible_fen = 0", name=op.f("ck_reward_input_excluded_counts_nothing")
        ),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charge.charge_id"], name=op.f("fk_reward_input_charge_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reward_run.run_id"], name=op.f("fk_reward_input_run_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", "charge_id", name=op.f("pk_reward_input")),
    )
    op.create_table(
        "settlement",
        sa.Column("payment_id", sa.String(), nullable=False),
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_fen > 0", name=op.f("ck_settlement_amount_positive")),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charge.charge_id"], name=op.f("fk_settlement_charge_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["payment_id"], ["payment.payment_id"], name=op.f("fk_settlement_payment_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("payment_id", "charge_id", name=op.f("pk_settlement")),
    )
    with op.batch_alter_table("settlement", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_settlement_charge_id"), ["charge_id"], unique=False)

    op.create_table(
        "statement_line",
        sa.Column("statement_id", sa.String(), nullable=False),
        sa.Column("line_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("line_count", sa.BigInteger(), nullable=False),
        sa.Column("charge_id", sa.String(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("line_no >= 1 AND line_no <= line_count", name=op.f("ck_statement_line_line_fits")),
        sa.ForeignKeyConstraint(
            ["charge_id"], ["charge.charge_id"], name=op.f("fk_statement_line_charge_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["statement_id", "line_count"],
            ["statement.statement_id", "statement.line_count"],
            name=op.f("fk_statement_line_statement_id_line_count"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("statement_id", "line_no", name=op.f("pk_statement_line")),
        sa.UniqueConstraint("charge_id", name=op.f("uq_statement_line_charge_id")),
    )


def downgrade() -> None:
    op.drop_table("statement_line")
    with op.batch_alter_table("settlement", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_settlement_charge_id"))

    op.drop_table("settlement")
    op.drop_table("reward_input")
    op.drop_table("charge_line")
    op.drop_table("charge_evidence")
    op.drop_table("usage_entry")
    with op.batch_alter_table("unbooked_use", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_unbooked_use_instrument_id"))

    op.drop_table("unbooked_use")
    with op.batch_alter_table("charge", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_charge_service_month_host_id"))
        batch_op.drop_index(batch_op.f("ix_charge_posting_month_host_id"))

    op.drop_table("charge")
    with op.batch_alter_table("booking_use", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_booking_use_booking_id"))

    op.drop_table("booking_use")
    op.drop_table("booking_event")
    with op.batch_alter_table("usage_session", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_session_instrument_id_started_at"))

    op.drop_table("usage_session")
    op.drop_table("tariff_version")
    with op.batch_alter_table("booking", schema=None) as batch_op:
        batch_op.drop_index("ix_booking_state_slot_to")
        batch_op.drop_index(batch_op.f("ix_booking_payer_org"))
        batch_op.drop_index(batch_op.f("ix_booking_instrument_id_slot_from"))
        batch_op.drop_index(batch_op.f("ix_booking_host_id"))

    op.drop_table("booking")
    with op.batch_alter_table("usage_record", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_record_session_id"))
        batch_op.drop_index(batch_op.f("ix_usage_record_instrument_id_at"))

    op.drop_table("usage_record")
    with op.batch_alter_table("test_item", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_test_item_instrument_id"))

    op.drop_table("test_item")
    with op.batch_alter_table("tariff", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tariff_host_id"))

    op.drop_table("tariff")
    op.drop_table("reward_result")
    with op.batch_alter_table("metering", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_metering_agent_id_instrument_id"))
        batch_op.drop_index(batch_op.f("ix_metering_agent_id"))

    op.drop_table("metering")
    with op.batch_alter_table("meter_position", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_meter_position_instrument_id"))

    op.drop_table("meter_position")
    with op.batch_alter_table("certificate", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_certificate_instrument_id"))

    op.drop_table("certificate")
    with op.batch_alter_table("calendar_row", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_calendar_row_instrument_id_from_at"))

    op.drop_table("calendar_row")
    op.drop_table("usage_stream")
    op.drop_table("reward_run")
    with op.batch_alter_table("payment", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_payment_statement_id"))

    op.drop_table("payment")
    with op.batch_alter_table("invoice", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_invoice_statement_id"))

    op.drop_table("invoice")
    with op.batch_alter_table("instrument", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_instrument_lab_id"))
        batch_op.drop_index(batch_op.f("ix_instrument_host_id"))

    op.drop_table("instrument")
    op.drop_table("anomaly_decision")
    op.drop_table("agent_status")
    with op.batch_alter_table("statement", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_statement_payer_org"))

    op.drop_table("statement")
    op.drop_table("role_grant")
    op.drop_table("reward_policy_version")
    op.drop_table("posting_period")
    with op.batch_alter_table("lab", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_lab_host_id"))

    op.drop_table("lab")
    op.drop_table("assessment")
    with op.batch_alter_table("anomaly", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_anomaly_subject_id"))
        batch_op.drop_index(batch_op.f("ix_anomaly_host_id"))

    op.drop_table("anomaly")
    with op.batch_alter_table("agent", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_agent_host_id"))

    op.drop_table("agent")
    with op.batch_alter_table("access_token", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_access_token_person_id"))

    op.drop_table("access_token")
    with op.batch_alter_table("person", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_person_org_id"))

    op.drop_table("person")
    op.drop_table("host")
    with op.batch_alter_table("audit_event", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_event_subject"))

    op.drop_table("audit_event")
    op.drop_table("affiliation_event")
    op.drop_table("usage_conflict")
    op.drop_table("reward_policy")
    op.drop_table("quarantine")
    op.drop_table("org")
    op.drop_table("number_series")
    op.drop_table("idempotency_key")
    with op.batch_alter_table("export_file", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_export_file_subject_id"))

    op.drop_table("export_file")
    with op.batch_alter_table("due", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_due_due_at"))

    op.drop_table("due")
    op.drop_table("chain_head")
    op.drop_table("alert")
