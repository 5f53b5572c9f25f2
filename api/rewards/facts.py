"""The facts of every charge of a period, as known at an instant, for the rules to judge.

Called by the reward service and by verification. SQL filters, joins, counts and sums; `rules` decides. One row a
charge is streamed, no object of the ORM is built. Everything is read as of a watermark (facts recorded up to and
including it), so that the same can be read again later.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Subquery, and_, case, cast, func, select, union_all
from sqlalchemy.orm import Session, aliased

from api.charging.anomalies import CERTIFICATE_EXPIRED, COVERAGE_BELOW_95, FEE_WITHOUT_SESSION
from api.rewards.policy_body import Attribution
from api.rewards.rules import ChargeFacts
from store.database import by_code_point
from store.tables.audit import Anomaly, AnomalyDecision, Verdict
from store.tables.calendar import BookingUse
from store.tables.charging import (
    Charge,
    Invoice,
    Payment,
    Settlement,
    Statement,
    StatementLine,
    StatementState,
    Tender,
)
from store.tables.disputes import CreditEntry, CreditKind
from store.tables.registry import Affiliation, AffiliationEvent, Host

ROWS_AT_ONCE = 5_000
_REVIEWED_RULES = (FEE_WITHOUT_SESSION, COVERAGE_BELOW_95, CERTIFICATE_EXPIRED)


def charge_facts(
    session: Session, months: Sequence[int], attribution: Attribution, watermark: datetime
) -> Iterator[ChargeFacts]:
    """Yield the facts of every charge and reversal of these months, ordered by charge id (code point order)."""
    rows = session.execute(
        _facts_statement(session, months, attribution, watermark), execution_options={"yield_per": ROWS_AT_ONCE}
    )
    for row in rows:
        yield ChargeFacts._make(row)


def _facts_statement(session: Session, months: Sequence[int], attribution: Attribution, watermark: datetime) -> Any:
    month = Charge.service_month if attribution is Attribution.SERVICE else Charge.posting_month
    of_period = and_(month.in_(months), Charge.recorded_at <= watermark)
    marks = _anomaly_marks(of_period, watermark)
    paid = _settled_by_tender(of_period, watermark)
    invoiced = _invoiced_statements(watermark)
    return (
        select(
            Charge.charge_id,
            Charge.host_id,
            Charge.purpose,
            Charge.revision,
            _flag(_is_reversed(watermark)),
            Charge.internal,
            Charge.has_session,
            Charge.coverage_bp,
            Charge.certificate_valid,
            _flag(_state_at_service(watermark) == Affiliation.AFFILIATED.value),
            *(func.coalesce(marks.c[rule], 0) for rule in _REVIEWED_RULES),
            func.coalesce(marks.c.confirmed, 0),
            func.coalesce(marks.c.undecided, 0),
            _flag(invoiced.c.statement_id.is_not(None)),
            Charge.total_fen,
            Charge.net_fen,
            *(func.coalesce(paid.c[tender.value], 0) for tender in (Tender.CASH, Tender.VOUCHER, Tender.WAIVER)),
        )
        .join(Host, Host.host_id == Charge.host_id)
        .outerjoin(marks, marks.c.charge_id == Charge.charge_id)
        .outerjoin(paid, paid.c.charge_id == Charge.charge_id)
        .outerjoin(StatementLine, StatementLine.charge_id == Charge.charge_id)
        .outerjoin(invoiced, invoiced.c.statement_id == StatementLine.statement_id)
        .where(of_period)
        .order_by(by_code_point(session, Charge.charge_id.expression))
    )


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _is_reversed(watermark: datetime) -> ColumnElement[bool]:
    reversal = aliased(Charge)
    return (
        select(reversal.charge_id)
        .where(
            reversal.booking_id == Charge.booking_id,
            reversal.purpose == Charge.purpose,
            reversal.revision == Charge.revision + 1,
            reversal.recorded_at <= watermark,
        )
        .exists()
    )


def _state_at_service(watermark: datetime) -> Any:
    """How payer and host stood to each other when the service was done: the last dated fact at or before it."""
    return (
        select(AffiliationEvent.state)
        .where(
            AffiliationEvent.host_org == Host.org_id,
            AffiliationEvent.other_org == Charge.payer_org,
            AffiliationEvent.effective_at <= Charge.service_at,
            AffiliationEvent.recorded_at <= watermark,
        )
        .order_by(AffiliationEvent.effective_at.desc())
        .limit(1)
        .correlate(Charge, Host)
        .scalar_subquery()
    )


def _anomaly_marks(of_period: ColumnElement[bool], watermark: datetime) -> Subquery:
    """Blocking anomalies by charge: found on the charge itself, on its booking, or on a session of its use."""
    found = (
        select(Charge.charge_id, Anomaly.anomaly_id, Anomaly.rule)
        .where(of_period)
        .where(Anomaly.blocks_reward, Anomaly.found_at <= watermark)
    )
    subjects = union_all(
        found.join(Anomaly, and_(Anomaly.subject_kind == "charge", Anomaly.subject_id == Charge.charge_id)),
        found.join(Anomaly, and_(Anomaly.subject_kind == "booking", Anomaly.subject_id == Charge.booking_id)),
        found.join(BookingUse, BookingUse.booking_id == Charge.booking_id).join(
            Anomaly, and_(Anomaly.subject_kind == "session", Anomaly.subject_id == BookingUse.session_id)
        ),
    ).subquery()
    cleared = AnomalyDecision.verdict == Verdict.CLEARED.value
    confirmed = AnomalyDecision.verdict == Verdict.CONFIRMED.value
    return (
        select(
            subjects.c.charge_id,
            *(func.max(_flag(and_(cleared, subjects.c.rule == rule))).label(rule) for rule in _REVIEWED_RULES),
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


def _settled_by_tender(of_period: ColumnElement[bool], watermark: datetime) -> Subquery:
    """What settled each charge: payments, and money that moved there from a charge that was reversed. What a reversal
    set free is not taken off: it is told of charges that are reversed, which count for nothing anyway."""
    first = (
        select(Settlement.charge_id, Payment.tender, Settlement.amount_fen)
        .join(Payment, Payment.payment_id == Settlement.payment_id)
        .join(Charge, Charge.charge_id == Settlement.charge_id)
        .where(of_period, Payment.recorded_at <= watermark)
    )
    moved = (
        select(CreditEntry.charge_id, Payment.tender, CreditEntry.amount_fen)
        .join(Payment, Payment.payment_id == CreditEntry.payment_id)
        .join(Charge, Charge.charge_id == CreditEntry.charge_id)
        .where(of_period, CreditEntry.kind == CreditKind.APPLY.value, CreditEntry.recorded_at <= watermark)
    )
    both = union_all(first, moved).subquery()
    return (
        select(
            both.c.charge_id,
            *(
                cast(func.sum(case((both.c.tender == tender.value, both.c.amount_fen), else_=0)), BigInteger).label(
                    tender.value
                )
                for tender in Tender
            ),
        )
        .group_by(both.c.charge_id)
        .subquery()
    )


def _invoiced_statements(watermark: datetime) -> Subquery:
    """Final statements whose invoices (red ones taken off) cover all charges on them that were not reversed."""
    live = (
        select(StatementLine.statement_id, func.sum(StatementLine.amount_fen).label("fen"))
        .join(Charge, Charge.charge_id == StatementLine.charge_id)
        .where(Charge.revision % 2 == 1, ~_is_reversed(watermark))
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
