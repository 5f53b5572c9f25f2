"""Posting months of a host: where a money row goes, and closing a month for good.

A month of a host is open until it is locked; a locked month takes no further row and its seal recomputes for ever.
Whoever posts takes the month's row shared, whoever closes takes it alone, so no row slips in beside the seal.
Late use keeps its service month and is posted into the first open month.
"""

import json
from dataclasses import dataclass

from sqlalchemy import Select, or_, select, update
from sqlalchemy.orm import Session

from api.charging.months_seals import ChainSeal, seal_chains
from api.charging.waiting import correction_waits, dispute_is_open
from api.errors import conflict, invalid, not_found
from api.work import Work
from store.canonical import canonical_json, sha256_hex
from store.periods import check_month, month_bounds, next_month
from store.tables.accounts import Role
from store.tables.audit import Anomaly, AnomalyDecision
from store.tables.calendar import Booking, BookingState, Due, DueKind, UsePurpose
from store.tables.charging import (
    Charge,
    ChargePurpose,
    PeriodState,
    PostingPeriod,
    Statement,
    StatementLine,
    StatementState,
)
from store.tables.disputes import Correction, Dispute, MonthSeal
from store.tables.registry import Host, Instrument
from store.tables.usage import UsageSession
from store.upsert import insert_if_absent

_UNCHARGED_STATES = (
    BookingState.CHECKED_IN.value,
    BookingState.IN_USE.value,
    BookingState.COMPLETED.value,
    BookingState.RESULTS_CONFIRMED.value,
    BookingState.REPORTED.value,
)
_LISTED_MAX = 50


@dataclass(frozen=True)
class Seal:
    """What a locked month held: number of charges, their sum and a hash over their hashes in code point order."""

    count: int
    sum_fen: int
    sha256: str

    def text(self) -> str:
        """Return the form that is stored."""
        return canonical_json({"count": self.count, "sum_fen": self.sum_fen, "sha256": self.sha256}).decode()

    @staticmethod
    def parse(text: str) -> "Seal":
        """Read the stored form."""
        return Seal(**json.loads(text))


@dataclass(frozen=True)
class OpenPoint:
    """Something that must be done before a month can be closed. `subjects` lists at most 50 of them."""

    what: str
    zh: str
    en: str
    count: int
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class ClosedMonth:
    """A month of one host that is locked now. `already`: it was before."""

    host_id: str
    month: int
    seal: Seal
    already: bool
    chains: tuple[ChainSeal, ...] = ()


def take_posting_month(session: Session, host_id: str, earliest: int) -> int:
    """Return the first open month of the host from `earliest` on, held open until the transaction ends."""
    month = earliest
    while True:
        insert_if_absent(session, PostingPeriod, _open_row(host_id, month))
        state = session.execute(
            select(PostingPeriod.state)
            .where(PostingPeriod.host_id == host_id, PostingPeriod.month == month)
            .with_for_update(read=True)
        ).scalar_one()
        if state == PeriodState.OPEN.value:
            return month
        month = next_month(month)


def take_month_alone(session: Session, host_id: str, month: int) -> PostingPeriod:
    """Return the month's row, locked against everybody who posts or closes."""
    insert_if_absent(session, PostingPeriod, _open_row(host_id, month))
    return session.execute(
        select(PostingPeriod)
        .where(PostingPeriod.host_id == host_id, PostingPeriod.month == month)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).scalar_one()


def compute_seal(session: Session, host_id: str, month: int) -> Seal:
    """Return the seal over all charges posted into that month, as the database holds them now."""
    rows = session.execute(
        select(Charge.row_hash, Charge.total_fen).where(Charge.host_id == host_id, Charge.posting_month == month)
    ).all()
    hashes = sorted(row.row_hash for row in rows)
    return Seal(len(rows), sum(row.total_fen for row in rows), sha256_hex("".join(f"{h}\n" for h in hashes).encode()))


def checklist(session: Session, host_id: str, month: int) -> list[OpenPoint]:
    """Return what is still open for a host's month; empty where it may be closed. Reads only."""
    start, end = month_bounds(month)
    charged = (
        select(Charge.charge_id)
        .where(Charge.booking_id == Booking.booking_id, Charge.purpose == ChargePurpose.USE.value)
        .exists()
    )
    uncharged = select(Booking.booking_id).where(
        Booking.host_id == host_id,
        Booking.purpose == UsePurpose.CUSTOMER.value,
        Booking.state.in_(_UNCHARGED_STATES),
        Booking.slot_to > start,
        Booking.slot_to <= end,
        ~charged,
    )
    sessions = select(UsageSession.session_id).where(
        UsageSession.instrument_id.in_(_instruments(host_id)),
        UsageSession.ended_at.is_(None),
        UsageSession.started_at < end,
        UsageSession.last_at < end,  # one that is known to run on belongs to a later month
    )
    unmatched = (
        select(UsageSession.session_id)
        .join(Due, (Due.kind == DueKind.MATCH_SESSION.value) & (Due.subject_id == UsageSession.session_id))
        .where(UsageSession.instrument_id.in_(_instruments(host_id)), UsageSession.started_at < end)
    )
    of_month = select(Charge.charge_id).where(Charge.host_id == host_id, Charge.posting_month == month)
    anomalies = select(Anomaly.anomaly_id).where(
        Anomaly.host_id == host_id,
        or_(
            (Anomaly.subject_kind == "charge") & Anomaly.subject_id.in_(of_month),
            (Anomaly.subject_kind != "charge") & (Anomaly.found_at >= start) & (Anomaly.found_at < end),
        ),
        ~select(AnomalyDecision.anomaly_id).where(AnomalyDecision.anomaly_id == Anomaly.anomaly_id).exists(),
    )
    drafts = select(Statement.statement_id).where(
        Statement.host_id == host_id, Statement.month == month, Statement.state == StatementState.DRAFT.value
    )
    unbilled = of_month.where(
        ~select(StatementLine.charge_id).where(StatementLine.charge_id == Charge.charge_id).exists()
    )
    disputes = select(Dispute.dispute_id).where(Dispute.charge_id.in_(of_month), dispute_is_open())
    corrections = select(Correction.correction_id).where(Correction.charge_id.in_(of_month), correction_waits())
    undone = select(Booking.booking_id).where(
        Booking.host_id == host_id,
        Booking.state.in_((BookingState.CONFIRMED.value, BookingState.SCHEDULED.value)),
        Booking.calendar_row_id.is_not(None),
        Booking.slot_to > start,
        Booking.slot_to <= end,
    )
    questions = (
        ("undone_bookings", "时段已过但未办结的预约", "bookings whose slot is over and that are not done", undone),
        ("uncharged_bookings", "已完成但未计费的预约", "bookings that are done but not charged", uncharged),
        ("open_sessions", "尚未结束的使用", "sessions that are still open", sessions),
        ("unmatched_sessions", "尚未匹配预约的使用", "sessions not matched to a booking yet", unmatched),
        ("undecided_anomalies", "尚未处理的异常", "anomalies nobody has decided", anomalies),
        ("open_disputes", "未办结的异议", "disputes that are open", disputes),
        ("waiting_corrections", "待审批的更正", "corrections nobody has decided", corrections),
        ("draft_statements", "尚未定稿的结算单", "statements that are drafts", drafts),
        ("unbilled_charges", "尚未列入结算单的收费", "charges on no statement", unbilled),
    )
    points = []
    for what, zh, en, query in questions:
        found = sorted(session.execute(query).scalars())
        if found:
            points.append(OpenPoint(what, zh, en, len(found), tuple(found[:_LISTED_MAX])))
    return points


def close_month(work: Work, host_id: str | None, month: int) -> list[ClosedMonth]:
    """Lock a month (Asia/Shanghai, yyyymm) of one host, or of all where `host_id` is None: all of them or none.

    Refused: 403 without the role, 404 for an unknown host, 409 `month_not_over`, 409 `month_not_done` with the list of
    what is open, by host. Closing a locked month again changes nothing and returns its seal.
    """
    work.require((Role.FINANCE, Role.COUNTY_OFFICER), "关账", "close a month")
    require_month(month)
    if work.now < month_bounds(month)[1]:
        raise conflict(
            "month_not_over",
            f"{month} 月尚未结束,不能关账。",
            f"Month {month} is not over yet; close it after its last day.",
            month=month,
        )
    hosts = sorted(work.session.execute(select(Host.host_id)).scalars())
    if host_id is not None and host_id not in hosts:
        raise not_found("依托单位", "host", host_id)
    chosen = hosts if host_id is None else [host_id]
    rows = [(one, take_month_alone(work.session, one, month)) for one in chosen]
    _refuse_while_open(work.session, [one for one, row in rows if row.state != PeriodState.LOCKED.value], month)
    return [_lock(work, one, row) for one, row in rows]


def require_month(month: int) -> None:
    """Raise 422 `bad_month` unless it is a month written yyyymm."""
    try:
        check_month(month)
    except ValueError as error:
        raise invalid("bad_month", f"{month} 不是月份;请写成 202611。", f"{error}.", field="month") from None


def _refuse_while_open(session: Session, hosts: list[str], month: int) -> None:
    found = {one: points for one in hosts if (points := checklist(session, one, month))}
    if not found:
        return
    zh = ";".join(f"{one}:" + "、".join(f"{p.zh} {p.count}" for p in points) for one, points in found.items())
    en = "; ".join(f"{one}: " + ", ".join(f"{p.count} {p.en}" for p in points) for one, points in found.items())
    raise conflict(
        "month_not_done",
        f"{month} 月还不能关账:{zh}。",
        f"Month {month} cannot be closed yet. {en}.",
        month=month,
        open={
            one: [{"what": p.what, "count": p.count, "subjects": list(p.subjects)} for p in points]
            for one, points in found.items()
        },
    )


def _lock(work: Work, host_id: str, row: PostingPeriod) -> ClosedMonth:
    if row.state == PeriodState.LOCKED.value:
        assert row.seal is not None
        return ClosedMonth(
            host_id, row.month, Seal.parse(row.seal), True, sealed_chains(work.session, host_id, row.month)
        )
    seal = compute_seal(work.session, host_id, row.month)
    work.session.execute(
        update(PostingPeriod)
        .where(PostingPeriod.host_id == host_id, PostingPeriod.month == row.month)
        .values(state=PeriodState.LOCKED.value, seal=seal.text(), locked_by=work.actor.person_id, locked_at=work.now)
    )
    chains = seal_chains(work.session, host_id, row.month)
    work.audit(
        "month.locked",
        f"month:{host_id}:{row.month}",
        host_id=host_id,
        after={**vars(seal), "chains": [dict(vars(chain)) for chain in chains]},
    )
    return ClosedMonth(host_id, row.month, seal, False, tuple(chains))


def sealed_chains(session: Session, host_id: str, month: int) -> tuple[ChainSeal, ...]:
    """Return the seals of each chain that were kept when the month was locked; empty while it is open."""
    rows = session.execute(
        select(MonthSeal).where(MonthSeal.host_id == host_id, MonthSeal.month == month).order_by(MonthSeal.chain)
    ).scalars()
    return tuple(ChainSeal(row.chain, row.row_count, row.row_sum, row.sha256) for row in rows)


def _open_row(host_id: str, month: int) -> dict[str, object]:
    return {
        "host_id": host_id,
        "month": month,
        "state": PeriodState.OPEN.value,
        "seal": None,
        "locked_by": None,
        "locked_at": None,
    }


def _instruments(host_id: str) -> Select[str]:
    return select(Instrument.instrument_id).where(Instrument.host_id == host_id)
