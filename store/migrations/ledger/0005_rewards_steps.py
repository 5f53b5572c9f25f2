"""The way of a reward run from its preparation to the money: steps, objections and their answers, payments, proposed
grades; and what the database refuses of them by itself."""

import sqlalchemy as sa
from alembic import op

from store.database import APPEND_ONLY_MARK, OUT_OF_ORDER_MARK, is_write_locked_per_database

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APPEND_ONLY = (
    "reward_step",
    "reward_objection",
    "reward_objection_answer",
    "reward_payment",
    "assessment_proposal",
    "assessment_decision",
)
_OF_RUN = "FROM reward_run WHERE reward_run.run_id = NEW.run_id"
_LAST_STAGE = "(SELECT s.to_stage FROM reward_step s WHERE s.run_id = NEW.run_id ORDER BY s.step_no DESC LIMIT 1)"
_LOCKED = f"EXISTS (SELECT 1 {_OF_RUN} AND reward_run.state = 'locked')"
_OPEN_OBJECTION = (
    "EXISTS (SELECT 1 FROM reward_objection o LEFT JOIN reward_objection_answer a ON a.objection_id = o.objection_id"
    " WHERE o.run_id = NEW.run_id AND coalesce(a.outcome, 'upheld') = 'upheld')"
)
_NOTICE_GOES_ON = "EXISTS (SELECT 1 FROM reward_step s WHERE s.run_id = NEW.run_id AND s.notice_until > NEW.done_at)"
_PAID = (
    "(SELECT coalesce(sum(p.amount_fen), 0) FROM reward_payment p"
    " WHERE p.run_id = NEW.run_id AND p.host_id = NEW.host_id) + NEW.amount_fen"
)
_GRANTED = "(SELECT r.payable_fen FROM reward_result r WHERE r.run_id = NEW.run_id AND r.host_id = NEW.host_id)"
# table, event, when it is refused. Money moves after the lock and everything else before it; nobody approves while the
# notice goes on or an objection stands; a run counts, or is off, only by its last step; no host gets more than its due.
ORDER = (
    (
        "reward_step",
        "INSERT",
        f"(NEW.action IN ('pay-part', 'pay', 'return')) <> {_LOCKED}"
        f" OR (NEW.action = 'approve' AND ({_NOTICE_GOES_ON} OR {_OPEN_OBJECTION}))",
    ),
    (
        "reward_run",
        "UPDATE",
        f"OLD.state = 'prepared' AND NEW.state <> 'prepared' AND NEW.state <> coalesce({_LAST_STAGE}, '')",
    ),
    ("reward_objection", "INSERT", f"coalesce({_LAST_STAGE}, '') <> 'noticed'"),
    ("reward_payment", "INSERT", f"NOT {_LOCKED} OR {_PAID} < 0 OR {_PAID} > {_GRANTED}"),
)


def upgrade() -> None:
    op.create_index("ix_reward_run_preparer", "reward_run", ["run_id", "prepared_by"], unique=True)
    _create_tables()
    for table in APPEND_ONLY:
        for event in ("UPDATE", "DELETE"):
            _refuse_edits(table, event)
    for table, event, condition in ORDER:
        _refuse_disorder(table, event, condition)


def downgrade() -> None:
    """Forgets how runs came to be locked, and what was paid."""
    sqlite = is_write_locked_per_database(op.get_bind())
    for table, _, _ in ORDER:
        op.execute(f"DROP TRIGGER openlab_{table}_order" + ("" if sqlite else f" ON {table}"))
        if not sqlite:
            op.execute(f"DROP FUNCTION openlab_refuse_{table}_disorder()")
    for table in reversed(APPEND_ONLY):
        for event in ("update", "delete"):
            op.execute(f"DROP TRIGGER openlab_{table}_no_{event}" + ("" if sqlite else f" ON {table}"))
        if table == "reward_step":
            # Each step refers to the one before it, and nothing may refer to a row that goes.
            last = op.get_bind().scalar(sa.text("SELECT coalesce(max(step_no), 0) FROM reward_step"))
            for step_no in range(int(last or 0), 0, -1):
                op.execute(f"DELETE FROM reward_step WHERE step_no = {step_no}")
        op.drop_table(table)
    op.drop_index("ix_reward_run_preparer", "reward_run")


def _refuse_edits(table: str, event: str) -> None:
    if is_write_locked_per_database(op.get_bind()):
        refusal = f"BEGIN SELECT RAISE(ABORT, '{APPEND_ONLY_MARK}: {table}'); END"
    else:
        refusal = "FOR EACH ROW EXECUTE FUNCTION openlab_refuse_edit()"
    op.execute(f"CREATE TRIGGER openlab_{table}_no_{event.lower()} BEFORE {event} ON {table} {refusal}")


def _refuse_disorder(table: str, event: str, condition: str) -> None:
    name = f"openlab_{table}_order"
    if is_write_locked_per_database(op.get_bind()):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {condition}"
            f" BEGIN SELECT RAISE(ABORT, '{OUT_OF_ORDER_MARK}: {table}'); END"
        )
        return
    function = f"openlab_refuse_{table}_disorder()"
    op.execute(
        f"CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {condition} THEN"
        f" RAISE EXCEPTION '{OUT_OF_ORDER_MARK}: {table}'; END IF; RETURN NEW; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}")


def _create_tables() -> None:
    op.create_table(
        "reward_step",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("step_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("prev_no", sa.BigInteger(), nullable=True),
        sa.Column("from_stage", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("to_stage", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("notice_until", sa.BigInteger(), nullable=True),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("done_by", sa.String(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "(action = 'publish') = (notice_until IS NOT NULL)", name=op.f("ck_reward_step_notice_has_an_end")
        ),
        sa.CheckConstraint(
            "(from_stage = 'prepared' AND action = 'check' AND to_stage = 'checked') OR (from_stage = 'checked' AND action = 'publish' AND to_stage = 'noticed') OR (from_stage = 'noticed' AND action = 'approve' AND to_stage = 'approved') OR (from_stage = 'approved' AND action = 'lock' AND to_stage = 'locked') OR (from_stage = 'locked' AND action = 'pay-part' AND to_stage = 'locked') OR (from_stage = 'locked' AND action = 'pay' AND to_stage = 'paid') OR (from_stage = 'locked' AND action = 'return' AND to_stage = 'locked') OR (from_stage = 'paid' AND action = 'return' AND to_stage = 'locked') OR (from_stage = 'prepared' AND action = 'withdraw' AND to_stage = 'withdrawn') OR (from_stage = 'checked' AND action = 'withdraw' AND to_stage = 'withdrawn') OR (from_stage = 'noticed' AND action = 'withdraw' AND to_stage = 'withdrawn') OR (from_stage = 'approved' AND action = 'withdraw' AND to_stage = 'withdrawn')",
            name=op.f("ck_reward_step_step_known"),
        ),
        sa.CheckConstraint(
            "(step_no = 1 AND prev_no IS NULL AND from_stage IN ('prepared', 'locked')) OR (step_no > 1 AND prev_no IS NOT NULL AND prev_no = step_no - 1)",
            name=op.f("ck_reward_step_step_follows"),
        ),
        sa.CheckConstraint(
            "action NOT IN ('check', 'approve', 'lock') OR done_by <> prepared_by",
            name=op.f("ck_reward_step_two_people"),
        ),
        sa.CheckConstraint(
            "action NOT IN ('withdraw', 'return') OR reason <> ''", name=op.f("ck_reward_step_says_why")
        ),
        sa.ForeignKeyConstraint(
            ["done_by"], ["person.person_id"], name=op.f("fk_reward_step_done_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "prepared_by"],
            ["reward_run.run_id", "reward_run.prepared_by"],
            name="fk_reward_step_preparer",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "prev_no", "from_stage"],
            ["reward_step.run_id", "reward_step.step_no", "reward_step.to_stage"],
            name="fk_reward_step_before",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reward_run.run_id"], name=op.f("fk_reward_step_run_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", "step_no", name=op.f("pk_reward_step")),
        sa.UniqueConstraint("run_id", "step_no", "to_stage", name=op.f("uq_reward_step_run_id_step_no_to_stage")),
    )
    op.create_table(
        "reward_objection",
        sa.Column("objection_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("objection_no", sa.BigInteger(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=True),
        sa.Column("org_id", sa.String(), nullable=False),
        sa.Column("objection", sa.String(), nullable=False),
        sa.Column("raised_by", sa.String(), nullable=False),
        sa.Column("raised_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("objection <> ''", name=op.f("ck_reward_objection_says_why")),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.host_id"], name=op.f("fk_reward_objection_host_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["org_id"], ["org.org_id"], name=op.f("fk_reward_objection_org_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["raised_by"], ["person.person_id"], name=op.f("fk_reward_objection_raised_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["reward_run.run_id"], name=op.f("fk_reward_objection_run_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("objection_id", name=op.f("pk_reward_objection")),
        sa.UniqueConstraint("objection_id", "raised_by", name=op.f("uq_reward_objection_objection_id_raised_by")),
        sa.UniqueConstraint("run_id", "objection_no", name=op.f("uq_reward_objection_run_id_objection_no")),
    )
    op.create_index(op.f("ix_reward_objection_run_id"), "reward_objection", ["run_id"], unique=False)
    op.create_table(
        "reward_objection_answer",
        sa.Column("objection_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("answer", sa.String(), nullable=False),
        sa.Column("raised_by", sa.String(), nullable=False),
        sa.Column("answered_by", sa.String(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("answer <> ''", name=op.f("ck_reward_objection_answer_says_why")),
        sa.CheckConstraint("outcome IN ('upheld', 'rejected')", name=op.f("ck_reward_objection_answer_outcome_known")),
        sa.CheckConstraint("raised_by <> answered_by", name=op.f("ck_reward_objection_answer_two_people")),
        sa.ForeignKeyConstraint(
            ["answered_by"],
            ["person.person_id"],
            name=op.f("fk_reward_objection_answer_answered_by"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["objection_id", "raised_by"],
            ["reward_objection.objection_id", "reward_objection.raised_by"],
            name="fk_reward_objection_answer_objection",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("objection_id", name=op.f("pk_reward_objection_answer")),
    )
    op.create_table(
        "reward_payment",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("payment_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step_no", sa.BigInteger(), nullable=False),
        sa.Column("amount_fen", sa.BigInteger(), nullable=False),
        sa.Column("paid_at", sa.BigInteger(), nullable=False),
        sa.Column("external_ref", sa.String(), nullable=False),
        sa.Column("recorded_by", sa.String(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("external_ref <> ''", name=op.f("ck_reward_payment_has_a_reference")),
        sa.CheckConstraint("amount_fen <> 0", name=op.f("ck_reward_payment_some_money")),
        sa.ForeignKeyConstraint(
            ["recorded_by"], ["person.person_id"], name=op.f("fk_reward_payment_recorded_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "host_id"],
            ["reward_result.run_id", "reward_result.host_id"],
            name="fk_reward_payment_result",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["run_id", "step_no"],
            ["reward_step.run_id", "reward_step.step_no"],
            name="fk_reward_payment_step",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("run_id", "host_id", "payment_no", name=op.f("pk_reward_payment")),
        sa.UniqueConstraint(
            "run_id", "host_id", "external_ref", name=op.f("uq_reward_payment_run_id_host_id_external_ref")
        ),
    )
    op.create_table(
        "assessment_proposal",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("host_id", sa.String(), nullable=False),
        sa.Column("year", sa.BigInteger(), nullable=False),
        sa.Column("grade", sa.String(), nullable=False),
        sa.Column("evidence", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("prepared_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("evidence <> ''", name=op.f("ck_assessment_proposal_has_evidence")),
        sa.CheckConstraint(
            "grade IN ('excellent', 'good', 'pass', 'fail')", name=op.f("ck_assessment_proposal_grade_known")
        ),
        sa.ForeignKeyConstraint(
            ["host_id"], ["host.host_id"], name=op.f("fk_assessment_proposal_host_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["prepared_by"], ["person.person_id"], name=op.f("fk_assessment_proposal_prepared_by"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_assessment_proposal")),
        sa.UniqueConstraint("proposal_id", "prepared_by", name=op.f("uq_assessment_proposal_proposal_id_prepared_by")),
    )
    op.create_index(op.f("ix_assessment_proposal_host_id"), "assessment_proposal", ["host_id"], unique=False)
    op.create_table(
        "assessment_decision",
        sa.Column("proposal_id", sa.String(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=True),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("prepared_by", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "version IS NOT NULL OR note <> ''", name=op.f("ck_assessment_decision_refused_with_reason")
        ),
        sa.CheckConstraint("prepared_by <> decided_by", name=op.f("ck_assessment_decision_two_people")),
        sa.ForeignKeyConstraint(
            ["decided_by"], ["person.person_id"], name=op.f("fk_assessment_decision_decided_by"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["proposal_id", "prepared_by"],
            ["assessment_proposal.proposal_id", "assessment_proposal.prepared_by"],
            name="fk_assessment_decision_proposal",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_assessment_decision")),
    )
