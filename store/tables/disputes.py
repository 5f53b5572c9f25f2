"""Objections to charges, the corrections that answer them, money that was set free by a reversal, and month seals.

All append-only: an objection, a proposal and a decision are rows of their own. A correction changes no row of money or
use; it leads to a reversal and a new charge, and to links of the usage chain where the metered quantity was wrong.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped

from store.database import Base
from store.tables.columns import IntegerKey, TextKey, one_of, refers_to


class CorrectionKind(StrEnum):
    """What a lab proposes: another metered quantity, lines not charged, no charge at all, or that the charge stands."""

    METERED = "metered"
    WAIVER = "waiver"
    WITHDRAWAL = "withdrawal"
    STANDS = "stands"


class DisputeOutcome(StrEnum):
    """How a dispute ended. `withdrawn` is the payer's own step; the other two take two people of the host or county."""

    CORRECTED = "corrected"
    STANDS = "stands"
    WITHDRAWN = "withdrawn"


class CreditKind(StrEnum):
    """What happened to money: set free by a reversal, put on another charge, or paid back."""

    RELEASE = "release"
    APPLY = "apply"
    REFUND = "refund"


class Dispute(Base):
    """A payer objects to a charge (to one line of it, where `line_no` is set). Open until it has an end."""

    __tablename__ = "dispute"
    dispute_id: Mapped[TextKey]
    charge_id: Mapped[str] = refers_to("charge.charge_id")
    dispute_no: Mapped[int]
    line_no: Mapped[int | None]
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    payer_org: Mapped[str] = refers_to("org.org_id", index=True)
    reason: Mapped[str]
    raised_by: Mapped[str] = refers_to("person.person_id")
    raised_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("reason <> ''", name="says_why"),
        UniqueConstraint("charge_id", "dispute_no"),
    )


class Correction(Base):
    """What somebody proposes about a charge, with what it rests on. `body_sha256` is what the second person approves.

    Metered: the running time of `session_id` (null where a check-in is the meter) within the charge's booking is
    `metered_after_ms` instead of `metered_before_ms`. Waiver: `lines` is canonical JSON of [component, item] pairs.
    """

    __tablename__ = "correction"
    correction_id: Mapped[TextKey]
    charge_id: Mapped[str] = refers_to("charge.charge_id")
    correction_no: Mapped[int]
    dispute_id: Mapped[str | None] = refers_to("dispute.dispute_id", index=True)
    host_id: Mapped[str] = refers_to("host.host_id", index=True)
    kind: Mapped[str]
    session_id: Mapped[str | None] = refers_to("usage_session.session_id", index=True)
    metered_before_ms: Mapped[int | None]
    metered_after_ms: Mapped[int | None]
    lines: Mapped[str]
    reason: Mapped[str]
    evidence: Mapped[str]
    evidence_sha256: Mapped[str | None]
    body_sha256: Mapped[str]
    proposed_by: Mapped[str] = refers_to("person.person_id")
    proposed_at: Mapped[datetime]
    __table_args__ = (
        one_of("kind", CorrectionKind),
        CheckConstraint("reason <> '' AND evidence <> ''", name="says_why"),
        CheckConstraint(
            "(kind = 'metered' AND metered_before_ms IS NOT NULL AND metered_after_ms IS NOT NULL"
            " AND metered_before_ms >= 0 AND metered_after_ms >= 0)"
            " OR (kind <> 'metered' AND metered_before_ms IS NULL AND metered_after_ms IS NULL)",
            name="metered_has_quantities",
        ),
        CheckConstraint("kind <> 'stands' OR dispute_id IS NOT NULL", name="stands_answers_a_dispute"),
        UniqueConstraint("charge_id", "correction_no"),
        UniqueConstraint("correction_id", "proposed_by"),
    )


class CorrectionDecision(Base):
    """A second person's word on a correction, once. Approved, the charge's next revision takes it back, and the one
    after that (none for a withdrawal) is what it should have been."""

    __tablename__ = "correction_decision"
    correction_id: Mapped[TextKey]
    approved: Mapped[bool]
    note: Mapped[str]
    proposed_by: Mapped[str]
    decided_by: Mapped[str] = refers_to("person.person_id")
    decided_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("proposed_by <> decided_by", name="two_people"),
        ForeignKeyConstraint(
            ["correction_id", "proposed_by"],
            ["correction.correction_id", "correction.proposed_by"],
            name="fk_correction_decision_correction",
            ondelete="RESTRICT",
        ),
    )


class DisputeEnd(Base):
    """How a dispute ended, once."""

    __tablename__ = "dispute_end"
    dispute_id: Mapped[str] = refers_to("dispute.dispute_id", primary_key=True)
    outcome: Mapped[str]
    correction_id: Mapped[str | None] = refers_to("correction.correction_id", unique=True)
    note: Mapped[str]
    ended_by: Mapped[str] = refers_to("person.person_id")
    ended_at: Mapped[datetime]
    __table_args__ = (
        one_of("outcome", DisputeOutcome),
        CheckConstraint("(outcome = 'withdrawn') = (correction_id IS NULL)", name="ended_by_a_correction"),
    )


class CreditEntry(Base):
    """Money of one payment after its first settlement: what a reversal set free, where it went, what was paid back.

    Settled of a charge = its settlements - releases + applies. Credit of a payment = releases - applies - refunds.
    """

    __tablename__ = "credit_entry"
    entry_id: Mapped[TextKey]
    payment_id: Mapped[str] = refers_to("payment.payment_id", index=True)
    kind: Mapped[str]
    charge_id: Mapped[str | None] = refers_to("charge.charge_id", index=True)
    amount_fen: Mapped[int]
    external_ref: Mapped[str | None]
    reason: Mapped[str]
    recorded_by: Mapped[str]
    recorded_at: Mapped[datetime]
    __table_args__ = (
        one_of("kind", CreditKind),
        CheckConstraint("amount_fen > 0", name="amount_positive"),
        CheckConstraint("(kind = 'refund') = (charge_id IS NULL)", name="refund_names_no_charge"),
        CheckConstraint("(kind = 'refund') = (external_ref IS NOT NULL)", name="refund_has_a_reference"),
        UniqueConstraint("external_ref"),
    )


class BillingTerms(Base):
    """For how many days a payer may object to a statement of this host, from `valid_from` until the next row's."""

    __tablename__ = "billing_terms"
    host_id: Mapped[str] = refers_to("host.host_id", primary_key=True)
    valid_from: Mapped[datetime]
    terms_no: Mapped[IntegerKey]
    dispute_days: Mapped[int]
    set_by: Mapped[str] = refers_to("person.person_id")
    set_at: Mapped[datetime]
    __table_args__ = (
        CheckConstraint("dispute_days >= 0 AND dispute_days <= 60", name="days_known"),
        UniqueConstraint("host_id", "valid_from"),
    )


class MonthSeal(Base):
    """What one chain held when a host's month was locked: rows, their sum and a hash. Recomputes for ever.

    Chains: `charges` and `statements` of the month; `usage:<agent>/<stream>` and `audit:<chain>` up to row `row_count`.
    """

    __tablename__ = "month_seal"
    host_id: Mapped[TextKey]
    month: Mapped[IntegerKey]
    chain: Mapped[TextKey]
    row_count: Mapped[int]
    row_sum: Mapped[int]
    sha256: Mapped[str]
    __table_args__ = (
        ForeignKeyConstraint(
            ["host_id", "month"],
            ["posting_period.host_id", "posting_period.month"],
            name="fk_month_seal_posting_period",
            ondelete="RESTRICT",
        ),
    )
