"""Payments against final statements: recorded with the reference of the bank or scheme, never edited.

A payment settles charges in the order of the statement's lines; a charge that is settled in full closes its booking.
Only live charges take money: what was reversed, here or on a credit note, is no longer owed, and what had settled it
moves on (payments_credit).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from api.charging.access import require_host_role
from api.charging.closing import close_if_settled
from api.charging.payments_credit import apply_credit
from api.charging.repository import take_booking
from api.charging.settled import settled_fen
from api.charging.statements import BILLERS, home_charges, take_statement
from api.errors import Refused, conflict, invalid
from api.work import Work
from store.money import yuan
from store.tables.calendar import Booking
from store.tables.charging import Payment, Settlement, Statement, StatementState, Tender
from store.upsert import insert_if_absent
from wire.clock import from_ms, to_ms
from wire.ids import new_ulid

_PAID = select(func.coalesce(func.sum(Payment.amount_fen), 0)).where(Payment.statement_id == bindparam("statement"))
_KNOWN = select(Payment.payment_id).where(
    Payment.tender == bindparam("tender"), Payment.external_ref == bindparam("ref")
)


@dataclass(frozen=True)
class OpenCharge:
    """A live charge on a statement and what of it is not settled yet."""

    charge_id: str
    booking_id: str
    open_fen: int


def allocate(amount_fen: int, open_charges: Iterable[OpenCharge]) -> list[tuple[OpenCharge, int]]:
    """Return how an amount settles charges in their order, none above what is open. Pure.

    Raises ValueError where the amount is more than all of them take.
    """
    parts: list[tuple[OpenCharge, int]] = []
    left = amount_fen
    for charge in open_charges:
        part = min(left, charge.open_fen)
        if part > 0:
            parts.append((charge, part))
            left -= part
    if left:
        raise ValueError(f"{left} fen of {amount_fen} settle nothing")
    return parts


def open_charges(session: Session, statement_id: str) -> list[OpenCharge]:
    """Return the live charges that are paid against a statement, in line order, with what is open of each.

    A charge that was corrected after it was billed is paid where it was first billed, by what stands now.
    """
    return [
        OpenCharge(charge.charge_id, charge.booking_id, charge.total_fen - settled_fen(session, charge.charge_id))
        for charge in home_charges(session, statement_id)
    ]


def paid_fen(session: Session, statement_id: str) -> int:
    """Return the sum of payments recorded against a statement."""
    return int(session.execute(_PAID, {"statement": statement_id}).scalar_one())


def open_fen(session: Session, statement: Statement) -> int:
    """Return what may still be paid on a statement: what its live charges leave open; 0 for a draft."""
    if statement.state != StatementState.FINAL.value:
        return 0
    return sum(charge.open_fen for charge in open_charges(session, statement.statement_id))


def record_payment(
    work: Work, statement_id: str, tender: Tender, amount_fen: int, external_ref: str, received_at: datetime
) -> Payment:
    """Record money or a voucher against a final statement, in part or in full.

    Refused: 403, 404, 409 `statement_not_final`, 409 `more_than_open`, 409 `payment_already_recorded` (the same
    reference with the same tender, whatever the statement), 422 `bad_amount`, `reference_missing`, `received_later`.
    """
    statement = take_statement(work.session, statement_id)
    require_host_role(work, statement.host_id, BILLERS, "登记收款", "record payments")
    _check_payment(work, amount_fen, external_ref, received_at)
    require_final(statement)
    known = work.session.execute(_KNOWN, {"tender": tender.value, "ref": external_ref.strip()}).first()
    if known is not None:
        raise _already_recorded(tender, external_ref)
    bookings = _take_bookings(work.session, open_charges(work.session, statement_id))
    charges = open_charges(work.session, statement_id)
    still_open = sum(charge.open_fen for charge in charges)
    if amount_fen > still_open:
        raise conflict(
            "more_than_open",
            f"收款 {yuan(amount_fen)} 元超过未付金额,请更正金额;未付 {yuan(still_open)} 元。",
            f"{yuan(amount_fen)} yuan is more than the {yuan(still_open)} yuan that are open; correct the amount.",
            open_fen=still_open,
            amount_fen=amount_fen,
        )
    payment = {
        "payment_id": new_ulid(),
        "statement_id": statement_id,
        "tender": tender.value,
        "amount_fen": amount_fen,
        "external_ref": external_ref.strip(),
        "received_at": from_ms(to_ms(received_at)),
        "recorded_by": work.actor.person_id,
        "recorded_at": work.now,
    }
    if not insert_if_absent(work.session, Payment, payment):
        raise _already_recorded(tender, external_ref)
    parts = allocate(amount_fen, charges)
    work.session.add_all(
        Settlement(payment_id=payment["payment_id"], charge_id=charge.charge_id, amount_fen=part)
        for charge, part in parts
    )
    work.session.flush()
    work.audit(
        "payment.recorded",
        f"statement:{statement_id}",
        host_id=statement.host_id,
        after={
            "payment_id": payment["payment_id"],
            "tender": tender.value,
            "amount_fen": amount_fen,
            "external_ref": external_ref.strip(),
        },
    )
    for charge, part in parts:
        if part == charge.open_fen:
            close_if_settled(work, bookings[charge.booking_id])
    return work.session.get_one(Payment, payment["payment_id"])


def settle_by_credit(work: Work, statement_id: str) -> int:
    """Settle what is open of a final statement with credit of its payer at this host; return how much, in fen.

    Refused: 403, 404, 409 `statement_not_final`, 409 `no_credit`.
    """
    statement = take_statement(work.session, statement_id)
    require_host_role(work, statement.host_id, BILLERS, "使用余额", "settle with credit")
    require_final(statement)
    settled = 0
    _take_bookings(work.session, open_charges(work.session, statement_id))
    for charge in home_charges(work.session, statement_id):
        settled += apply_credit(work, charge, f"statement {statement.number}")
    if not settled:
        raise conflict(
            "no_credit",
            "没有可用余额,或该结算单已结清;请刷新后核对。",
            "There is no credit of this payer, or nothing of this statement is open; read both again.",
            statement_id=statement_id,
        )
    return settled


def require_final(statement: Statement) -> None:
    """Raise 409 unless the statement is final."""
    if statement.state != StatementState.FINAL.value:
        raise conflict(
            "statement_not_final",
            "结算单尚未定稿;请先定稿。",
            "The statement is a draft; make it final first.",
            statement_id=statement.statement_id,
        )


def _check_payment(work: Work, amount_fen: int, external_ref: str, received_at: datetime) -> None:
    if amount_fen <= 0:
        raise invalid(
            "bad_amount", "金额须大于零;请更正。", "The amount must be more than zero; correct it.", field="amount_fen"
        )
    if not external_ref.strip():
        raise invalid(
            "reference_missing",
            "请填写银行或凭证编号。",
            "Give the reference of the bank or voucher.",
            field="external_ref",
        )
    if received_at > work.now:
        raise invalid(
            "received_later",
            "到账时间不能晚于现在;请更正。",
            "Money cannot have been received in the future; correct the time.",
            field="received_at",
        )


def _take_bookings(session: Session, charges: Iterable[OpenCharge]) -> dict[str, Booking]:
    """Lock the bookings in one order, so that no reversal comes between reading what is open and settling it."""
    return {each: take_booking(session, each) for each in sorted({charge.booking_id for charge in charges})}


def _already_recorded(tender: Tender, external_ref: str) -> Refused:
    return conflict(
        "payment_already_recorded",
        f"凭证 {external_ref.strip()} 已登记过;请核对凭证号。",
        f"The reference {external_ref.strip()} has been recorded before; check the reference.",
        tender=tender.value,
        external_ref=external_ref.strip(),
    )
