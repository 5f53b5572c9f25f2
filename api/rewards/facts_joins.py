"""What facts.py joins to charges: reversals, relations, anomalies, marks, moved money, invoices. Each as known at an
instant (the watermark), one row a charge, booking, statement or pair of parties."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Subquery, and_, case, cast, func, select, union_all
from sqlalchemy.orm import aliased

from api.charging.anomalies import CERTIFICATE_EXPIRED, COVERAGE_BELOW_95, FEE_WITHOUT_SESSION
from api.charging.settled import takes_back
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.calendar import BookingUse
from store.tables.charging import Charge, Invoice, Payment, Statement, StatementLine, StatementState, Tender
from store.tables.disputes import CreditEntry, CreditKind
from store.tables.registry import AffiliationEvent, Host
from store.tables.rewards import MarkCode, RewardMark, RewardMarkDecision

MARK_CODES = tuple(code.value for code in MarkCode)
REVIEWED_RULES = (FEE_WITHOUT_SESSION, COVERAGE_BELOW_95, CERTIFICATE_EXPIRED)
TENDERS = (Tender.CASH, Tender.VOUCHER, Tender.WAIVER)


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def reverses(reversal: type[Charge], charge: type[Charge], watermark: datetime) -> ColumnElement[bool]:
    """The row that takes a charge back. `revision > 1` says nothing new, but lets an engine see how few there are."""
    return and_(takes_back(reversal, charge), reversal.revision > 1, reversal.recorded_at <= watermark)


def relations(watermark: datetime) -> Subquery:
    """How a host and another party stood to each other, from each dated fact until the next."""
    event = AffiliationEvent
    until = func.lead(event.effective_at).over(
        partition_by=(event.host_org, event.other_org), order_by=event.effective_at
    )
    return (
        select(Host.host_id, event.other_org, event.state, event.effective_at.label("from_at"), until.label("to_at"))
        .join(Host, Host.org_id == event.host_org)
        .where(event.recorded_at <= watermark)
        .subquery()
    )


def anomaly_marks(watermark: datetime) -> Subquery:
    """Blocking anomalies by charge: found on the charge itself, on its booking, or on a session of its use.

    From the anomalies to the charges, of whatever period: there are few of the one and many of the other.
    """
    subject = Anomaly.subject_id
    booked = select(Charge.charge_id, Anomaly.anomaly_id, Anomaly.rule).select_from(Anomaly)

    def found(statement: Any, kind: str) -> Any:
        return statement.where(Anomaly.blocks_reward, Anomaly.found_at <= watermark, Anomaly.subject_kind == kind)

    subjects = union_all(
        found(select(subject.label("charge_id"), Anomaly.anomaly_id, Anomaly.rule), "charge"),
        found(booked.join(Charge, Charge.booking_id == subject), "booking"),
        found(
            booked.join(BookingUse, BookingUse.session_id == subject).join(
                Charge, Charge.booking_id == BookingUse.booking_id
            ),
            "session",
        ),
    ).subquery()
    cleared = AnomalyDecision.verdict == Verdict.CLEARED.value
    confirmed = AnomalyDecision.verdict == Verdict.CONFIRMED.value
    return (
        select(
            subjects.c.charge_id,
            *(func.max(_flag(and_(cleared, subjects.c.rule == rule))).label(rule) for rule in REVIEWED_RULES),
            func.max(_flag(confirmed)).label("confirmed"),
            func.max(_flag(AnomalyDecision.anomaly_id.is_(None))).label("undecided"),
        )
        .outerjoin(
            AnomalyDecision,
            and_(AnomalyDecision.anomaly_id == subjects.c.anomaly_id, AnomalyDecision.decided_at <= watermark),
        )
        .group_by(subjects.c.charge_id)
        .subquery()
    )


def standing_marks(watermark: datetime) -> Subquery:
    """Bookings with a 1 under the code of every mark that was approved, and not withdrawn again, by the watermark."""
    mark, decision = RewardMark, RewardMarkDecision
    later, later_decision = aliased(RewardMark), aliased(RewardMarkDecision)

    def approved(row: type[RewardMark], by: type[RewardMarkDecision]) -> ColumnElement[bool]:
        return and_(by.mark_id == row.mark_id, by.approved, by.decided_at <= watermark)

    gone = (
        select(later.withdraws)
        .join(later_decision, approved(later, later_decision))
        .where(later.withdraws.is_not(None))
    )
    return (
        select(mark.booking_id, *(func.max(_flag(mark.code == code)).label(code) for code in MARK_CODES))
        .join(decision, approved(mark, decision))
        .where(mark.withdraws.is_(None), mark.mark_id.not_in(gone))
        .group_by(mark.booking_id)
        .subquery()
    )


def moved_by_tender(watermark: datetime) -> Subquery:
    """Money that moved to a charge from one that was reversed. What a reversal set free is not taken off there: it is
    told of charges that are reversed, which count for nothing anyway."""
    amount = CreditEntry.amount_fen
    return (
        select(
            CreditEntry.charge_id,
            *(
                cast(func.sum(case((Payment.tender == tender.value, amount), else_=0)), BigInteger).label(tender.value)
                for tender in TENDERS
            ),
        )
        .join(Payment, Payment.payment_id == CreditEntry.payment_id)
        .where(CreditEntry.kind == CreditKind.APPLY.value, CreditEntry.recorded_at <= watermark)
        .group_by(CreditEntry.charge_id)
        .subquery()
    )


def invoiced_statements(watermark: datetime) -> Subquery:
    """Final statements whose invoices (red ones taken off) cover all charges on them that were not reversed."""
    reversal = aliased(Charge)
    live = (
        select(StatementLine.statement_id, func.sum(StatementLine.amount_fen).label("fen"))
        .join(Charge, Charge.charge_id == StatementLine.charge_id)
        .outerjoin(reversal, reverses(reversal, Charge, watermark))
        .where(Charge.revision % 2 == 1, reversal.charge_id.is_(None))
        .group_by(StatementLine.statement_id)
        .subquery()
    )
    sums = (
        select(Invoice.statement_id, func.sum(Invoice.amount_fen).label("fen"))
        .where(Invoice.recorded_at <= watermark)
        .group_by(Invoice.statement_id)
        .subquery()
    )
    return (
        select(Statement.statement_id)
        .join(live, live.c.statement_id == Statement.statement_id)
        .outerjoin(sums, sums.c.statement_id == Statement.statement_id)
        .where(
            Statement.state == StatementState.FINAL.value,
            Statement.finalized_at <= watermark,
            func.coalesce(sums.c.fen, 0) >= live.c.fen,
        )
        .subquery()
    )
