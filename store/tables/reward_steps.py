"""The way of a reward run from its preparation to the money: steps, objections, payments; and proposed grades.

All append-only. `reward_run.state` says whether a run counts (prepared, locked, withdrawn); the stage it stands at is
`to_stage` of its last step. What the database refuses by itself is in migration 0005; who may do what is in
api/rewards/states.py.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped

from store.database import Base
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to
from store.tables.rewards import Grade


class RunStage(StrEnum):
    """Where a run stands on its way."""

    PREPARED = "prepared"
    CHECKED = "checked"
    NOTICED = "noticed"
    APPROVED = "approved"
    LOCKED = "locked"
    PAID = "paid"
    WITHDRAWN = "withdrawn"


class RunAction(StrEnum):
    """What a person does to a run once it is prepared."""

    CHECK = "check"
    PUBLISH = "publish"
    APPROVE = "approve"
    LOCK = "lock"
    PAY_PART = "pay-part"
    PAY = "pay"
    RETURN = "return"
    WITHDRAW = "withdraw"


class ObjectionOutcome(StrEnum):
    """An upheld objection leaves a run only the withdrawal; a rejected one lets it go on."""

    UPHELD = "upheld"
    REJECTED = "rejected"


STEPS = (
    ("prepared", "check", "checked"),
    ("checked", "publish", "noticed"),
    ("noticed", "approve", "approved"),
    ("approved", "lock", "locked"),
    ("locked", "pay-part", "locked"),
    ("locked", "pay", "paid"),
    ("locked", "return", "locked"),
    ("paid", "return", "locked"),
    ("prepared", "withdraw", "withdrawn"),
    ("checked", "withdraw", "withdrawn"),
    ("noticed", "withdraw", "withdrawn"),
    ("approved", "withdraw", "withdrawn"),
)
"""The steps that the database knows; a test holds the state machine against it."""

_KNOWN = " OR ".join(f"(from_stage = '{b}' AND action = '{act}' AND to_stage = '{a}')" for b, act, a in STEPS)


class RewardStep(Base):
    """One step of one run. Each begins where the one before ended; a run that was locked before steps were kept has
    its first one there. `notice_until` is the end of the public notice, set by `publish` alone."""

    __tablename__ = "reward_step"
    run_id: Mapped[str] = refers_to("reward_run.run_id", primary_key=True)
    step_no: Mapped[IntegerKey]
    prev_no: Mapped[int | None]
    from_stage: Mapped[str]
    action: Mapped[str]
    to_stage: Mapped[str]
    reason: Mapped[str]
    notice_until: Mapped[datetime | None]
    prepared_by: Mapped[str]
    done_by: Mapped[str] = refers_to("person.person_id")
    done_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint(_KNOWN, name="step_known"),
        CheckConstraint(
            "(step_no = 1 AND prev_no IS NULL AND from_stage IN ('prepared', 'locked'))"
            " OR (step_no > 1 AND prev_no IS NOT NULL AND prev_no = step_no - 1)",
            name="step_follows",
        ),
        CheckConstraint("action NOT IN ('check', 'approve', 'lock') OR done_by <> prepared_by", name="two_people"),
        CheckConstraint("action NOT IN ('withdraw', 'return') OR reason <> ''", name="says_why"),
        CheckConstraint("(action = 'publish') = (notice_until IS NOT NULL)", name="notice_has_an_end"),
        UniqueConstraint("run_id", "step_no", "to_stage"),
        ForeignKeyConstraint(
            ["run_id", "prepared_by"],
            ["reward_run.run_id", "reward_run.prepared_by"],
            name="fk_reward_step_preparer",
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["run_id", "prev_no", "from_stage"],
            ["reward_step.run_id", "reward_step.step_no", "reward_step.to_stage"],
            name="fk_reward_step_before",
            ondelete="RESTRICT",
        ),
    )


class RewardObjection(Base):
    """Somebody objects to a run while it is publicly announced (to one host's amount, where `host_id` is set)."""

    __tablename__ = "reward_objection"
    objection_id: Mapped[TextKey]
    run_id: Mapped[str] = refers_to("reward_run.run_id", index=True)
    objection_no: Mapped[int]
    host_id: Mapped[str | None] = refers_to("host.host_id")
    org_id: Mapped[str] = refers_to("org.org_id")
    objection: Mapped[str]
    raised_by: Mapped[str] = refers_to("person.person_id")
    raised_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("objection <> ''", name="says_why"),
        UniqueConstraint("run_id", "objection_no"),
        UniqueConstraint("objection_id", "raised_by"),
    )


class RewardObjectionAnswer(Base):
    """The one answer to an objection, by somebody else than who raised it."""

    __tablename__ = "reward_objection_answer"
    objection_id: Mapped[TextKey]
    outcome: Mapped[str]
    answer: Mapped[str]
    raised_by: Mapped[str]
    answered_by: Mapped[str] = refers_to("person.person_id")
    answered_at: Mapped[datetime]
    __table_args__ = (
        one_of("outcome", ObjectionOutcome),
        CheckConstraint("answer <> ''", name="says_why"),
        CheckConstraint("raised_by <> answered_by", name="two_people"),
        ForeignKeyConstraint(
            ["objection_id", "raised_by"],
            ["reward_objection.objection_id", "reward_objection.raised_by"],
            name="fk_reward_objection_answer_objection",
            ondelete="RESTRICT",
        ),
    )


class RewardPayment(Base):
    """Money that went to a host for a locked run, or came back (negative). `paid_at` is the start of the day (Shanghai)
    on which it was transferred; all of them together are between 0 and what the run grants the host."""

    __tablename__ = "reward_payment"
    run_id: Mapped[TextKey]
    host_id: Mapped[TextKey]
    payment_no: Mapped[IntegerKey]
    step_no: Mapped[int]
    amount_fen: Mapped[int]
    paid_at: Mapped[datetime]
    external_ref: Mapped[str]
    recorded_by: Mapped[str] = refers_to("person.person_id")
    recorded_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("amount_fen <> 0", name="some_money"),
        CheckConstraint("external_ref <> ''", name="has_a_reference"),
        UniqueConstraint("run_id", "host_id", "external_ref"),
        ForeignKeyConstraint(
            ["run_id", "host_id"],
            ["reward_result.run_id", "reward_result.host_id"],
            name="fk_reward_payment_result",
            ondelete="RESTRICT",
        ),
        ForeignKeyConstraint(
            ["run_id", "step_no"],
            ["reward_step.run_id", "reward_step.step_no"],
            name="fk_reward_payment_step",
            ondelete="RESTRICT",
        ),
    )


class AssessmentProposal(Base):
    """A grade that somebody prepared, with its evidence, for a second person to approve."""

    __tablename__ = "assessment_proposal"
    proposal_id: Mapped[TextKey]
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    year: Mapped[int]
    grade: Mapped[str]
    evidence: Mapped[str]
    prepared_by: Mapped[str] = refers_to("person.person_id")
    prepared_at: Mapped[datetime]
    __table_args__ = (
        one_of("grade", Grade),
        CheckConstraint("evidence <> ''", name="has_evidence"),
        UniqueConstraint("proposal_id", "prepared_by"),
    )


class AssessmentDecision(Base):
    """What a second person decided about a proposed grade: `version` of the assessment it became, null if refused."""

    __tablename__ = "assessment_decision"
    proposal_id: Mapped[TextKey]
    version: Mapped[int | None]
    note: Mapped[str]
    prepared_by: Mapped[str]
    decided_by: Mapped[str] = refers_to("person.person_id")
    decided_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("prepared_by <> decided_by", name="two_people"),
        CheckConstraint("version IS NOT NULL OR note <> ''", name="refused_with_reason"),
        ForeignKeyConstraint(
            ["proposal_id", "prepared_by"],
            ["assessment_proposal.proposal_id", "assessment_proposal.prepared_by"],
            name="fk_assessment_decision_proposal",
            ondelete="RESTRICT",
        ),
    )
