"""Take a charge back as a whole. Nothing is edited: the reversal is the next, even revision with opposite signs."""

from sqlalchemy import select

from api.charging.access import require_host_role
from api.charging.documents import charge_hash
from api.charging.months import take_posting_month
from api.charging.payments_credit import release_settlements
from api.charging.repository import column_values, last_charge, store_charge, take_booking
from api.charging.waiting import dispute_is_open
from api.errors import conflict, invalid, not_found
from api.work import Work
from store.tables.accounts import Role
from store.tables.charging import Charge, ChargeLine
from store.tables.disputes import Dispute
from wire.ids import new_ulid


def reverse_charge(work: Work, charge_id: str, reason: str, *, by_correction: bool = False) -> Charge:
    """Take a whole charge back: the same lines with opposite signs, in the first open month from its own posting on.

    Money that had settled it is set free in the same step: it settles what replaces the charge, or is paid back.
    Refused: 404 unknown, 403 another host's, 409 `not_a_live_charge` for a reversal or what was reversed before, 409
    `disputed` while its payer's objection waits for an answer (`by_correction`: this is the answer), 422
    `reason_missing`.
    """
    require_reason(reason)
    original = work.session.get(Charge, charge_id)
    if original is None:
        raise not_found("收费", "charge", charge_id)
    require_host_role(work, original.host_id, (Role.COUNTY_OFFICER,), "冲销收费", "reverse charges")
    take_booking(work.session, original.booking_id)
    last = last_charge(work.session, original.booking_id, original.purpose)
    if last is None or last.charge_id != charge_id or original.revision % 2 == 0:
        raise conflict(
            "not_a_live_charge",
            f"收费 {charge_id} 已被冲销,或本身就是冲销记录;请刷新后核对。",
            f"Charge {charge_id} has been reversed before, or is a reversal itself; read it again.",
            charge_id=charge_id,
        )
    disputed = select(Dispute.dispute_id).where(Dispute.charge_id == charge_id, dispute_is_open())
    if not by_correction and work.session.execute(disputed).first() is not None:
        raise conflict(
            "disputed",
            "该收费有未办结的异议;请以更正答复。",
            "The payer disputes this charge; answer with a correction.",
            charge_id=charge_id,
        )
    lines = work.session.execute(select(ChargeLine).where(ChargeLine.charge_id == charge_id)).scalars().all()
    reversal = _negative(work, original, reason.strip())
    opposite = [_negative_line(reversal.charge_id, line) for line in lines]
    reversal.row_hash = charge_hash(reversal, opposite, {})
    store_charge(work.session, reversal, opposite)
    release_settlements(work, original, f"reversed by {reversal.charge_id}")
    work.audit(
        "charge.reversed",
        f"charge:{charge_id}",
        host_id=original.host_id,
        after={
            "reversal": reversal.charge_id,
            "row_hash": reversal.row_hash,
            "total_fen": reversal.total_fen,
            "reason": reversal.reason,
        },
    )
    return reversal


def _negative(work: Work, original: Charge, reason: str) -> Charge:
    return Charge(
        **column_values(original)
        | {
            "charge_id": new_ulid(),
            "revision": original.revision + 1,
            "prev_revision": original.revision,
            "posting_month": take_posting_month(work.session, original.host_id, original.posting_month),
            "total_fen": -original.total_fen,
            "net_fen": -original.net_fen,
            "reason": reason,
            "recorded_by": work.actor.person_id,
            "recorded_at": work.now,
            "row_hash": "",
        }
    )


def _negative_line(charge_id: str, line: ChargeLine) -> ChargeLine:
    return ChargeLine(
        charge_id=charge_id,
        line_no=line.line_no,
        line_count=line.line_count,
        component=line.component,
        item_code=line.item_code,
        quantity=-line.quantity,
        per_quantity=line.per_quantity,
        unit_fen=line.unit_fen,
        amount_fen=-line.amount_fen,
        rule=line.rule,
    )


def require_reason(reason: str) -> None:
    """Raise 422 for an empty reason."""
    if not reason.strip():
        raise invalid("reason_missing", "请写明理由。", "Give a reason.", field="reason")
