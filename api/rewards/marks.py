"""What no instrument shows of a booking: recorded with its evidence by one person, approved by another, withdrawn by
a later record that two people sign as well. Decides and writes, never commits.

A mark holds for every charge of its booking, in every run that is prepared after its approval and before that of its
withdrawal; whether it keeps a fee out is for the policy to say.
"""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.errors import conflict, invalid, not_found
from api.pagination import PageAsked, paginate
from api.rewards.access import APPROVERS, PREPARERS, require_person, same_person
from api.work import Work
from store.tables.calendar import Booking
from store.tables.charging import Charge
from store.tables.rewards import MarkCode, RewardMark, RewardMarkDecision
from wire.ids import new_ulid


@dataclass(frozen=True)
class MarkSeen:
    """A mark (or the withdrawal of one) with what was decided about it, None while nobody has. `stands`: it was
    approved and not withdrawn."""

    mark: RewardMark
    decision: RewardMarkDecision | None
    stands: bool


def propose_mark(
    work: Work,
    code: MarkCode,
    evidence: str,
    charge_id: str | None = None,
    booking_id: str | None = None,
    evidence_sha256: str | None = None,
) -> RewardMark:
    """Record of a booking (named itself, or by one of its charges) what keeps its fees out. Counts once approved.

    Refused: 403, 404, 409 `already_marked`, 422 `evidence_missing`, `one_booking`.
    """
    require_person(work, PREPARERS, "登记奖励排除事项", "mark bookings for rewards")
    booking = _booking(work.session, charge_id, booking_id)
    if any(seen.stands and seen.mark.code == code for seen in marks_of(work.session, booking.booking_id)):
        raise conflict(
            "already_marked",
            f"该预约已登记“{code.value}”且仍有效;请先撤销原登记。",
            f"This booking is marked as {code.value} already; withdraw that first.",
            booking_id=booking.booking_id,
        )
    return _record(work, booking, code, evidence, evidence_sha256, None)


def withdraw_mark(work: Work, mark_id: str, evidence: str, evidence_sha256: str | None = None) -> RewardMark:
    """Record that a mark does not hold, and what shows it. It stands until a second person has approved this.

    Refused: 403, 404, 409 `mark_not_standing`, 422 `evidence_missing`.
    """
    require_person(work, PREPARERS, "登记奖励排除事项", "mark bookings for rewards")
    seen = find_mark(work.session, mark_id)
    if not seen.stands:
        raise _not_standing(mark_id)
    booking = work.session.get_one(Booking, seen.mark.booking_id)
    return _record(work, booking, MarkCode(seen.mark.code), evidence, evidence_sha256, mark_id)


def decide_mark(work: Work, mark_id: str, approved: bool, note: str = "") -> MarkSeen:
    """Approve a mark or a withdrawal as its second person, or refuse it with a note. Once.

    Refused: 403, 404, 409 `same_person`, `already_decided`, `mark_not_standing`, 422 `note_missing`.
    """
    require_person(work, APPROVERS, "审批奖励排除事项", "decide about marks of bookings")
    mark = find_mark(work.session, mark_id).mark
    if work.actor.person_id == mark.prepared_by:
        raise same_person(mark.prepared_by)
    if not approved and not note.strip():
        raise invalid("note_missing", "不予批准时请写明理由。", "Say why you refuse it.", field="note")
    # Under the booking's lock, so that one mark is decided once and withdrawn once.
    booking = work.session.execute(
        select(Booking).where(Booking.booking_id == mark.booking_id).with_for_update()
    ).scalar_one()
    if work.session.get(RewardMarkDecision, mark_id, populate_existing=True) is not None:
        raise conflict(
            "already_decided",
            "该事项已经审批;请刷新列表。",
            "This has been decided; read the list again.",
            mark_id=mark_id,
        )
    if approved and mark.withdraws is not None and not find_mark(work.session, mark.withdraws).stands:
        raise _not_standing(mark.withdraws)
    work.session.add(
        RewardMarkDecision(
            mark_id=mark_id,
            approved=approved,
            note=note.strip(),
            prepared_by=mark.prepared_by,
            decided_by=work.actor.person_id,
            decided_at=work.now,
        )
    )
    work.session.flush()
    work.audit(
        "reward_mark.approved" if approved else "reward_mark.refused",
        f"reward_mark:{mark_id}",
        host_id=booking.host_id,
        after={"booking_id": mark.booking_id, "code": mark.code, "withdraws": mark.withdraws, "note": note.strip()},
    )
    return find_mark(work.session, mark_id)


def find_mark(session: Session, mark_id: str) -> MarkSeen:
    """Return a mark with its decision. Refused 404."""
    mark = session.get(RewardMark, mark_id)
    if mark is None:
        raise not_found("奖励排除事项", "mark of a booking", mark_id)
    return next(seen for seen in marks_of(session, mark.booking_id) if seen.mark.mark_id == mark_id)


def marks_page(
    session: Session,
    page: PageAsked,
    booking_id: str | None = None,
    code: MarkCode | None = None,
    open_only: bool = False,
) -> tuple[list[MarkSeen], str | None]:
    """Return a page of marks and withdrawals, newest first, and the cursor of the next one. `open_only`: those that
    nobody decided about."""
    query = select(RewardMark)
    if booking_id is not None:
        query = query.where(RewardMark.booking_id == booking_id)
    if code is not None:
        query = query.where(RewardMark.code == code.value)
    if open_only:
        query = query.where(RewardMark.mark_id.not_in(select(RewardMarkDecision.mark_id)))
    rows, cursor = paginate(session, query, (RewardMark.prepared_at, RewardMark.mark_id), page, descending=True)
    seen = {one.mark.mark_id: one for one in marks_of(session, *{row.booking_id for row in rows})}
    return [seen[row.mark_id] for row in rows], cursor


def marks_of(session: Session, *booking_ids: str) -> list[MarkSeen]:
    """Return everything that was recorded of bookings, oldest first."""
    rows = session.execute(
        select(RewardMark, RewardMarkDecision)
        .outerjoin(RewardMarkDecision, RewardMarkDecision.mark_id == RewardMark.mark_id)
        .where(RewardMark.booking_id.in_(booking_ids))
        .order_by(RewardMark.prepared_at, RewardMark.mark_id)
    ).all()
    approved = {mark.mark_id: mark for mark, decision in rows if decision is not None and decision.approved}
    gone = {mark.withdraws for mark in approved.values()}
    return [
        MarkSeen(mark, decision, mark.withdraws is None and mark.mark_id in approved and mark.mark_id not in gone)
        for mark, decision in rows
    ]


def _record(
    work: Work, booking: Booking, code: MarkCode, evidence: str, evidence_sha256: str | None, withdraws: str | None
) -> RewardMark:
    if not evidence.strip():
        raise invalid("evidence_missing", "请写明依据。", "Say what this rests on.", field="evidence")
    row = RewardMark(
        mark_id=new_ulid(),
        booking_id=booking.booking_id,
        code=code.value,
        withdraws=withdraws,
        evidence=evidence.strip(),
        evidence_sha256=evidence_sha256,
        prepared_by=work.actor.person_id,
        prepared_at=work.now,
    )
    work.session.add(row)
    work.session.flush()
    after = {name: getattr(row, name) for name in ("booking_id", "code", "withdraws", "evidence", "evidence_sha256")}
    work.audit("reward_mark.proposed", f"reward_mark:{row.mark_id}", host_id=booking.host_id, after=after)
    return row


def _booking(session: Session, charge_id: str | None, booking_id: str | None) -> Booking:
    if (charge_id is None) == (booking_id is None):
        raise invalid(
            "one_booking",
            "请给出预约编号或收费编号(二选一)。",
            "Give either the booking or one of its charges.",
            field="booking_id",
        )
    if charge_id is not None:
        charge = session.get(Charge, charge_id)
        if charge is None:
            raise not_found("收费", "charge", charge_id)
        booking_id = charge.booking_id
    booking = session.get(Booking, booking_id)
    if booking is None:
        raise not_found("预约", "booking", str(booking_id))
    return booking


def _not_standing(mark_id: str) -> Exception:
    return conflict(
        "mark_not_standing",
        "该事项未获批准或已撤销,不能再撤销;请刷新列表。",
        "This mark was not approved, or is withdrawn already; read the list again.",
        mark_id=mark_id,
    )
