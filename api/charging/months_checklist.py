"""What is still open of a host's month: the questions that are asked before it is closed. Reads, decides nothing."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, Select, String, bindparam, or_, select
from sqlalchemy.orm import Session

from api.charging.waiting import correction_waits, dispute_is_open
from store.periods import month_bounds
from store.tables.audit import Anomaly, AnomalyDecision
from store.tables.calendar import Booking, BookingState, Due, DueKind, UsePurpose
from store.tables.charging import Charge, ChargePurpose, Statement, StatementLine, StatementState
from store.tables.disputes import Correction, Dispute
from store.tables.registry import Instrument
from store.tables.usage import UsageSession
from store.types import UtcDateTime

_UNCHARGED_STATES = (
    BookingState.CHECKED_IN.value,
    BookingState.IN_USE.value,
    BookingState.COMPLETED.value,
    BookingState.RESULTS_CONFIRMED.value,
    BookingState.REPORTED.value,
)
_LISTED_MAX = 50


@dataclass(frozen=True)
class OpenPoint:
    """Something that must be done before a month can be closed. `subjects` lists at most 50 of them."""

    what: str
    zh: str
    en: str
    count: int
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class _Question:
    what: str
    zh: str
    en: str
    query: Select[str]


def checklist(session: Session, host_id: str, month: int) -> list[OpenPoint]:
    """Return what is still open for a host's month; empty where it may be closed. Reads only."""
    start, end = month_bounds(month)
    asked = {"host": host_id, "month": month, "start": start, "end": end}
    points = []
    for each in _QUESTIONS:
        found = sorted(session.execute(each.query, asked).scalars())
        if found:
            points.append(OpenPoint(each.what, each.zh, each.en, len(found), tuple(found[:_LISTED_MAX])))
    return points


def _questions() -> tuple[_Question, ...]:
    host, month = bindparam("host", type_=String()), bindparam("month", type_=BigInteger())
    start, end = bindparam("start", type_=UtcDateTime), bindparam("end", type_=UtcDateTime)
    charged = (
        select(Charge.charge_id)
        .where(Charge.booking_id == Booking.booking_id, Charge.purpose == ChargePurpose.USE.value)
        .exists()
    )
    of_slot = (Booking.host_id == host, Booking.slot_to > start, Booking.slot_to <= end)
    uncharged = select(Booking.booking_id).where(
        *of_slot,
        Booking.purpose == UsePurpose.CUSTOMER.value,
        Booking.state.in_(_UNCHARGED_STATES),
        ~charged,
    )
    instruments = select(Instrument.instrument_id).where(Instrument.host_id == host)
    sessions = select(UsageSession.session_id).where(
        UsageSession.instrument_id.in_(instruments),
        UsageSession.ended_at.is_(None),
        UsageSession.started_at < end,
        UsageSession.last_at < end,  # one that is known to run on belongs to a later month
    )
    unmatched = (
        select(UsageSession.session_id)
        .join(Due, (Due.kind == DueKind.MATCH_SESSION.value) & (Due.subject_id == UsageSession.session_id))
        .where(UsageSession.instrument_id.in_(instruments), UsageSession.started_at < end)
    )
    of_month = select(Charge.charge_id).where(Charge.host_id == host, Charge.posting_month == month)
    anomalies = select(Anomaly.anomaly_id).where(
        Anomaly.host_id == host,
        or_(
            (Anomaly.subject_kind == "charge") & Anomaly.subject_id.in_(of_month),
            (Anomaly.subject_kind != "charge") & (Anomaly.found_at >= start) & (Anomaly.found_at < end),
        ),
        ~select(AnomalyDecision.anomaly_id).where(AnomalyDecision.anomaly_id == Anomaly.anomaly_id).exists(),
    )
    drafts = select(Statement.statement_id).where(
        Statement.host_id == host, Statement.month == month, Statement.state == StatementState.DRAFT.value
    )
    unbilled = of_month.where(
        ~select(StatementLine.charge_id).where(StatementLine.charge_id == Charge.charge_id).exists()
    )
    disputes = select(Dispute.dispute_id).where(Dispute.charge_id.in_(of_month), dispute_is_open())
    corrections = select(Correction.correction_id).where(Correction.charge_id.in_(of_month), correction_waits())
    undone = select(Booking.booking_id).where(
        *of_slot,
        Booking.state.in_((BookingState.CONFIRMED.value, BookingState.SCHEDULED.value)),
        Booking.calendar_row_id.is_not(None),
    )
    return (
        _Question("undone_bookings", "时段已过但未办结的预约", "bookings that are over and not done", undone),
        _Question("uncharged_bookings", "已完成但未计费的预约", "bookings that are done but not charged", uncharged),
        _Question("open_sessions", "尚未结束的使用", "sessions that are still open", sessions),
        _Question("unmatched_sessions", "尚未匹配预约的使用", "sessions not matched to a booking yet", unmatched),
        _Question("undecided_anomalies", "尚未处理的异常", "anomalies nobody has decided", anomalies),
        _Question("open_disputes", "未办结的异议", "disputes that are open", disputes),
        _Question("waiting_corrections", "待审批的更正", "corrections nobody has decided", corrections),
        _Question("draft_statements", "尚未定稿的结算单", "statements that are drafts", drafts),
        _Question("unbilled_charges", "尚未列入结算单的收费", "charges on no statement", unbilled),
    )


_QUESTIONS = _questions()
"""Put together once: a close asks all of them of every host."""
