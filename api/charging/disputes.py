"""Objections of payers to their charges: raised, seen, withdrawn, ended. What the lab proposes is in corrections.py.

While one is open the charge's statement cannot become final, the month cannot be closed and the charge stays out of
every reward (an anomaly says so). Everything is a row of its own; nothing is edited.
"""

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from api.charging.access import may_see, visible_to
from api.charging.anomalies import DISPUTED, raise_anomaly
from api.charging.repository import last_charge, take_booking, take_statement
from api.charging.statements_window import dispute_days
from api.charging.waiting import dispute_is_open
from api.errors import conflict, forbidden, invalid, not_found
from api.schemas import rfc3339
from api.work import Actor, Work
from store.tables.accounts import Role
from store.tables.audit import AnomalyDecision, Verdict
from store.tables.charging import Charge, ChargeLine, Statement, StatementLine
from store.tables.disputes import Correction, CorrectionDecision, Dispute, DisputeEnd, DisputeOutcome
from store.upsert import insert_if_absent
from wire.ids import new_ulid


def raise_dispute(work: Work, charge_id: str, reason: str, line_no: int | None = None) -> Dispute:
    """Object to a live charge (to one line of it, where `line_no` is given), by somebody of the firm that pays.

    Possible from the charge's posting until the dispute window of its statement is over. Refused: 404, 403 for anybody
    but the payer, 409 `not_a_live_charge`, `dispute_open`, `dispute_window_over`, 422 `reason_missing`, `no_such_line`.
    """
    charge = work.session.get(Charge, charge_id)
    if charge is None or not may_see(work.actor, charge.host_id, charge.payer_org):
        raise not_found("收费", "charge", charge_id)
    _require_payer(work, charge.payer_org)
    if not reason.strip():
        raise invalid("reason_missing", "请写明异议理由。", "Say what is wrong with it.", field="reason")
    if line_no is not None and work.session.get(ChargeLine, (charge_id, line_no)) is None:
        raise invalid(
            "no_such_line",
            f"没有第 {line_no} 行;请核对收费明细。",
            f"The charge has no line {line_no}; check its lines.",
            field="line_no",
        )
    statement = _take_statement_of(work.session, charge_id)
    take_booking(work.session, charge.booking_id)
    require_live(work.session, charge)
    if open_dispute(work.session, charge_id) is not None:
        raise conflict(
            "dispute_open",
            "该收费的异议正在处理;请等待结果,或先撤回原异议。",
            "A dispute about this charge is open; wait for its outcome, or withdraw it first.",
            charge_id=charge_id,
        )
    _require_window(work, statement)
    number = int(
        work.session.execute(
            select(func.coalesce(func.max(Dispute.dispute_no), 0)).where(Dispute.charge_id == charge_id)
        ).scalar_one()
    )
    dispute = Dispute(
        dispute_id=new_ulid(),
        charge_id=charge_id,
        dispute_no=number + 1,
        line_no=line_no,
        host_id=charge.host_id,
        payer_org=charge.payer_org,
        reason=reason.strip(),
        raised_by=work.actor.person_id,
        raised_at=work.now,
    )
    work.session.add(dispute)
    work.session.flush()
    raise_anomaly(
        work,
        rule=_rule(dispute.dispute_no),
        subject_kind="charge",
        subject_id=charge_id,
        host_id=charge.host_id,
        detail=f"dispute {dispute.dispute_id}: {dispute.reason}",
    )
    work.audit(
        "dispute.raised",
        f"dispute:{dispute.dispute_id}",
        host_id=charge.host_id,
        after={"charge": charge_id, "line_no": line_no, "reason": dispute.reason},
    )
    return dispute


def withdraw_dispute(work: Work, dispute_id: str, note: str) -> DisputeEnd:
    """Take an open objection back, by the firm that raised it. Refused: 404, 403, 409 `dispute_ended`, 422."""
    dispute = find_dispute(work, dispute_id)
    _require_payer(work, dispute.payer_org)
    if not note.strip():
        raise invalid("note_missing", "请写明撤回理由。", "Say why you withdraw it.", field="note")
    take_booking(work.session, work.session.get_one(Charge, dispute.charge_id).booking_id)
    return end_dispute(work, dispute, DisputeOutcome.WITHDRAWN, None, note.strip())


def end_dispute(
    work: Work, dispute: Dispute, outcome: DisputeOutcome, correction_id: str | None, note: str
) -> DisputeEnd:
    """End a dispute, once, and clear its anomaly. The caller holds the booking. Refused 409 `dispute_ended`."""
    row = {
        "dispute_id": dispute.dispute_id,
        "outcome": outcome.value,
        "correction_id": correction_id,
        "note": note,
        "ended_by": work.actor.person_id,
        "ended_at": work.now,
    }
    if not insert_if_absent(work.session, DisputeEnd, row):
        raise conflict(
            "dispute_ended",
            "该异议已经办结;请查看处理结果。",
            "This dispute has ended and its outcome stands; read it there.",
            dispute_id=dispute.dispute_id,
        )
    anomaly_id = raise_anomaly(
        work,
        rule=_rule(dispute.dispute_no),
        subject_kind="charge",
        subject_id=dispute.charge_id,
        host_id=dispute.host_id,
        detail="",
    )
    insert_if_absent(
        work.session,
        AnomalyDecision,
        {
            "anomaly_id": anomaly_id,
            "verdict": Verdict.CLEARED.value,
            "note": f"dispute {dispute.dispute_id} {outcome}: {note}",
            "decided_by": work.actor.person_id,
            "decided_at": work.now,
        },
    )
    work.audit(
        "dispute.ended",
        f"dispute:{dispute.dispute_id}",
        host_id=dispute.host_id,
        after={"outcome": outcome.value, "correction": correction_id, "note": note},
    )
    return work.session.get_one(DisputeEnd, dispute.dispute_id)


def disputes_seen(actor: Actor, open_only: bool) -> Select[Dispute]:
    """Return the selection of disputes an actor may see; `open_only`: those that nobody ended."""
    seen = select(Dispute).where(visible_to(actor, Dispute.host_id.expression, Dispute.payer_org.expression))
    return seen.where(dispute_is_open()) if open_only else seen


def ends_of(session: Session, dispute_ids: Collection[str]) -> dict[str, DisputeEnd]:
    """Return how disputes ended, by their ids, without those that are open."""
    rows = session.scalars(select(DisputeEnd).where(DisputeEnd.dispute_id.in_(dispute_ids)))
    return {row.dispute_id: row for row in rows}


def find_dispute(work: Work, dispute_id: str) -> Dispute:
    """Return a dispute that the actor may see. Refused 404 otherwise."""
    dispute = work.session.get(Dispute, dispute_id)
    if dispute is None or not may_see(work.actor, dispute.host_id, dispute.payer_org):
        raise not_found("异议", "dispute", dispute_id)
    return dispute


def open_dispute(session: Session, charge_id: str) -> Dispute | None:
    """Return the dispute about a charge that has no end yet."""
    return session.execute(
        select(Dispute).where(Dispute.charge_id == charge_id, dispute_is_open())
    ).scalar_one_or_none()


def disputes_of(session: Session, charge_id: str) -> list[tuple[Dispute, DisputeEnd | None]]:
    """Return every dispute about a charge with its end, in the order they were raised."""
    rows = session.execute(
        select(Dispute, DisputeEnd)
        .outerjoin(DisputeEnd, DisputeEnd.dispute_id == Dispute.dispute_id)
        .where(Dispute.charge_id == charge_id)
        .order_by(Dispute.dispute_no)
    )
    return [(row[0], row[1]) for row in rows]


def corrections_of(session: Session, charge_id: str) -> list[tuple[Correction, CorrectionDecision | None]]:
    """Return every correction proposed for a charge with the decision on it, in the order of proposal."""
    rows = session.execute(
        select(Correction, CorrectionDecision)
        .outerjoin(CorrectionDecision, CorrectionDecision.correction_id == Correction.correction_id)
        .where(Correction.charge_id == charge_id)
        .order_by(Correction.correction_no)
    )
    return [(row[0], row[1]) for row in rows]


def require_live(session: Session, charge: Charge) -> None:
    """Raise 409 for a reversal and for a charge that was reversed."""
    last = last_charge(session, charge.booking_id, charge.purpose)
    if charge.revision % 2 == 0 or last is None or last.charge_id != charge.charge_id:
        raise conflict(
            "not_a_live_charge",
            f"收费 {charge.charge_id} 已被冲销,或本身就是冲销记录;请对现行收费提出。",
            f"Charge {charge.charge_id} has been reversed, or is a reversal itself; choose the charge that stands.",
            charge_id=charge.charge_id,
        )


def _require_payer(work: Work, payer_org: str) -> None:
    if not (work.actor.has(Role.SME) and work.actor.org_id == payer_org):
        raise forbidden(
            "只有付款单位可以提出或撤回异议;请联系付款单位。",
            "Only the firm that pays may object, or withdraw its objection; ask the firm that pays.",
        )


def _take_statement_of(session: Session, charge_id: str) -> Statement | None:
    """The statement that bills a charge, locked, so that it does not become final beside an objection."""
    found = session.execute(
        select(StatementLine.statement_id).where(StatementLine.charge_id == charge_id)
    ).scalar_one_or_none()
    return None if found is None else take_statement(session, found)


def _require_window(work: Work, statement: Statement | None) -> None:
    """What stands on no statement yet may always be objected to; else until its statement's window is over."""
    if statement is None or (statement.issued_at is None and statement.finalized_at is None):
        return
    until = statement.dispute_until
    if until is None:  # final since before windows were kept
        assert statement.finalized_at is not None
        days = dispute_days(work.session, statement.host_id, statement.finalized_at)
        until = statement.finalized_at + timedelta(days=days)
    if work.now >= until:
        raise conflict(
            "dispute_window_over",
            f"异议期已于 {rfc3339(until)} 结束;请联系县科技局。",
            f"The time to object ended at {rfc3339(until)}; ask the county office.",
            dispute_until=rfc3339(until),
        )


def _rule(dispute_no: int) -> str:
    return DISPUTED if dispute_no == 1 else f"{DISPUTED}_{dispute_no}"
