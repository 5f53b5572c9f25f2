"""What the county pays its hosts: policies, assessments, runs with their inputs and results, and exports."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.database import Base
from store.periods import PeriodKind
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to


class RunState(StrEnum):
    """A run counts as granted only when it is locked."""

    PREPARED = "prepared"
    LOCKED = "locked"
    WITHDRAWN = "withdrawn"


class Grade(StrEnum):
    """The outcome of a host's yearly assessment (优秀, 良好, 合格, 不合格)."""

    EXCELLENT = "excellent"
    GOOD = "good"
    PASS = "pass"
    FAIL = "fail"


class MarkCode(StrEnum):
    """What no instrument shows of a booking and people record, so that a policy can leave its fees out: a test that law
    obliges to, one ordered by an enforcing authority, one for a product's certification, a commercial or a bulk
    inspection, medical examination, filming; already funded from elsewhere; claimed already by the same invoice.
    """

    STATUTORY = "statutory"
    ENFORCEMENT = "enforcement"
    CERTIFICATION_TEST = "certification_test"
    COMMERCIAL_INSPECTION = "commercial_inspection"
    BULK = "bulk"
    MEDICAL = "medical"
    FILMING = "filming"
    ALREADY_FUNDED = "already_funded"
    DOUBLE_INVOICE = "double_invoice"


class ExportFormat(StrEnum):
    """How a file is written; the canonical rows in it are the same."""

    CSV = "csv"
    XLSX = "xlsx"
    JSON = "json"


class RewardPolicy(Base):
    """A reward scheme."""

    __tablename__ = "reward_policy"
    policy_id: Mapped[TextKey]
    name_zh: Mapped[str]
    name_en: Mapped[str]


class RewardPolicyVersion(Base):
    """A whole policy as one canonical document, in force for periods that start in or after `from_month`."""

    __tablename__ = "reward_policy_version"
    policy_id: Mapped[str] = refers_to("reward_policy.policy_id", primary_key=True)
    version: Mapped[IntegerKey]
    from_month: Mapped[int]
    body: Mapped[str]
    body_sha256: Mapped[str]
    prepared_by: Mapped[str] = refers_to("person.person_id")
    approved_by: Mapped[str] = refers_to("person.person_id")
    published_at: Mapped[datetime]
    __table_args__ = (
        UniqueConstraint("policy_id", "from_month"),
        CheckConstraint("prepared_by <> approved_by", name="two_people"),
    )


class Assessment(Base):
    """The grade of a host for a year, with its evidence; a correction is a further version."""

    __tablename__ = "assessment"
    host_id: Mapped[str] = refers_to("host.host_id", primary_key=True)
    year: Mapped[IntegerKey]
    version: Mapped[IntegerKey]
    grade: Mapped[str]
    evidence: Mapped[str]
    prepared_by: Mapped[str] = refers_to("person.person_id")
    approved_by: Mapped[str] = refers_to("person.person_id")
    recorded_at: Mapped[datetime]
    __table_args__ = (one_of("grade", Grade), CheckConstraint("prepared_by <> approved_by", name="two_people"))


class RewardRun(Base):
    """One computation of a policy over a period: what it read (by hash and watermark) and what came out (by hash).

    `state` goes from prepared to locked or withdrawn, once; everything else never changes. The steps on the way there
    and what was paid are rows of their own (reward_steps.py).
    """

    __tablename__ = "reward_run"
    run_id: Mapped[TextKey]
    policy_id: Mapped[str]
    policy_version: Mapped[int]
    period_kind: Mapped[str]
    period_first: Mapped[int]
    run_no: Mapped[int]
    state: Mapped[str]
    engine_version: Mapped[str]
    watermark: Mapped[datetime]
    charge_count: Mapped[int]
    base_fen: Mapped[int]
    payable_fen: Mapped[int]
    input_sha256: Mapped[str]
    result_sha256: Mapped[str]
    prepared_by: Mapped[str] = refers_to("person.person_id")
    prepared_at: Mapped[datetime]
    closed_by: Mapped[str | None] = refers_to("person.person_id")
    closed_at: Mapped[datetime | None]
    close_reason: Mapped[str]
    __table_args__ = (
        one_of("state", RunState),
        one_of("period_kind", PeriodKind),
        CheckConstraint("(state = 'prepared') = (closed_by IS NULL)", name="closed_by_somebody"),
        CheckConstraint("(state = 'prepared') = (closed_at IS NULL)", name="closed_at_some_time"),
        CheckConstraint("state <> 'locked' OR closed_by <> prepared_by", name="two_people"),
        CheckConstraint("state <> 'withdrawn' OR close_reason <> ''", name="withdrawn_with_reason"),
        UniqueConstraint("policy_id", "period_kind", "period_first", "run_no"),
        Index("ix_reward_run_preparer", "run_id", "prepared_by", unique=True),
        ForeignKeyConstraint(
            ["policy_id", "policy_version"],
            ["reward_policy_version.policy_id", "reward_policy_version.version"],
            name="fk_reward_run_policy_version",
            ondelete="RESTRICT",
        ),
    )


class RewardInput(Base):
    """One charge in one run: counted, or left out for exactly one reason.

    Its two keys are looked at a row at a time on SQLite only: docs/adr/0012.
    """

    __tablename__ = "reward_input"
    run_id: Mapped[str] = refers_to("reward_run.run_id", primary_key=True)
    charge_id: Mapped[str] = refers_to("charge.charge_id", primary_key=True)
    host_id: Mapped[str]
    amount_fen: Mapped[int]
    eligible_fen: Mapped[int]
    reason: Mapped[str]
    __table_args__ = (CheckConstraint("reason = 'eligible' OR eligible_fen = 0", name="excluded_counts_nothing"),)


class RewardResult(Base):
    """What one host gets out of one run: all that is known now, minus what was granted before for the same period.

    A negative difference is not claimed back but carried to the host's next run, and shown in both.
    """

    __tablename__ = "reward_result"
    run_id: Mapped[str] = refers_to("reward_run.run_id", primary_key=True)
    host_id: Mapped[str] = refers_to("host.host_id", primary_key=True)
    base_fen: Mapped[int]
    grade: Mapped[str]
    coefficient_bp: Mapped[int]
    reward_fen: Mapped[int]
    granted_before_fen: Mapped[int]
    carried_in_fen: Mapped[int]
    payable_fen: Mapped[int]
    carried_out_fen: Mapped[int]
    explanation: Mapped[str]
    __table_args__ = (
        CheckConstraint(
            "payable_fen + carried_out_fen = reward_fen - granted_before_fen + carried_in_fen",
            name="nothing_gets_lost",
        ),
        CheckConstraint("payable_fen >= 0 AND carried_out_fen <= 0 AND carried_in_fen <= 0", name="carried_is_owed"),
        CheckConstraint("coefficient_bp >= 0", name="coefficient_not_negative"),
    )


class RewardMark(Base):
    """What somebody recorded of a booking, with its evidence, for a second person to approve; or that an earlier mark
    does not hold (`withdraws`, the same booking and code). It holds for every charge of the booking, of any revision.
    """

    __tablename__ = "reward_mark"
    mark_id: Mapped[TextKey]
    booking_id: Mapped[str] = refers_to("booking.booking_id", index=True)
    code: Mapped[str]
    withdraws: Mapped[str | None]
    evidence: Mapped[str]
    evidence_sha256: Mapped[str | None]
    prepared_by: Mapped[str] = refers_to("person.person_id")
    prepared_at: Mapped[datetime]
    __table_args__ = (
        one_of("code", MarkCode),
        CheckConstraint("evidence <> ''", name="has_evidence"),
        CheckConstraint("evidence_sha256 IS NULL OR length(evidence_sha256) = 64", name="evidence_has_a_hash"),
        CheckConstraint("withdraws IS NULL OR withdraws <> mark_id", name="withdraws_another"),
        UniqueConstraint("mark_id", "prepared_by"),
        UniqueConstraint("mark_id", "booking_id", "code"),
        ForeignKeyConstraint(
            ["withdraws", "booking_id", "code"],
            ["reward_mark.mark_id", "reward_mark.booking_id", "reward_mark.code"],
            name="fk_reward_mark_withdraws",
            ondelete="RESTRICT",
        ),
    )


class RewardMarkDecision(Base):
    """What a second person decided about a mark. It counts for every run that is prepared after its approval."""

    __tablename__ = "reward_mark_decision"
    mark_id: Mapped[TextKey]
    approved: Mapped[bool]
    note: Mapped[str]
    prepared_by: Mapped[str]
    decided_by: Mapped[str] = refers_to("person.person_id")
    decided_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("prepared_by <> decided_by", name="two_people"),
        CheckConstraint("approved OR note <> ''", name="refused_with_reason"),
        ForeignKeyConstraint(
            ["mark_id", "prepared_by"],
            ["reward_mark.mark_id", "reward_mark.prepared_by"],
            name="fk_reward_mark_decision_mark",
            ondelete="RESTRICT",
        ),
    )


class ExportFile(Base):
    """A file that left the house: what it showed, by content hash, who made it and when."""

    __tablename__ = "export_file"
    export_id: Mapped[TextKey]
    subject_kind: Mapped[str]
    subject_id: Mapped[str] = mapped_column(index=True)
    format: Mapped[str]
    template_version: Mapped[str]
    row_count: Mapped[int]
    total_fen: Mapped[int]
    content_sha256: Mapped[str]
    file_sha256: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[datetime]
    __table_args__ = (one_of("format", ExportFormat),)
