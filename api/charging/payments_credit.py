"""Money that a reversal set free: never lost, moved to what is still owed, or paid back. Append-only.

Called where a charge is reversed and where its replacement is posted (the money follows by itself), and by people who
settle another statement with it or pay it back. A payment's amount is always what its settlements come to; releases,
applies and refunds say where it went from there.
"""

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from api.charging.access import require_host_role
from api.charging.closing import close_if_settled
from api.charging.repository import take_booking
from api.charging.settled import settled_fen
from api.errors import conflict, invalid, not_found
from api.work import Work
from store.money import yuan
from store.tables.accounts import Role
from store.tables.charging import Charge, Payment, Settlement, Statement
from store.tables.disputes import CreditEntry, CreditKind
from store.upsert import insert_if_absent
from wire.ids import new_ulid

REFUNDERS = (Role.FINANCE,)


@dataclass(frozen=True)
class Credit:
    """What of a payment belongs to its payer and settles nothing."""

    payment_id: str
    tender: str
    left_fen: int


def release_settlements(work: Work, charge: Charge, reason: str) -> int:
    """Set free what settled a charge that was just reversed; return how much, in fen. The caller holds its booking."""
    freed = 0
    for payment_id, amount in _settled_by_payment(work.session, charge.charge_id):
        _add(work, payment_id, CreditKind.RELEASE, amount, reason, charge_id=charge.charge_id)
        freed += amount
    if freed:
        work.audit(
            "settlement.released",
            f"charge:{charge.charge_id}",
            host_id=charge.host_id,
            after={"amount_fen": freed, "reason": reason},
        )
    return freed


def apply_credit(work: Work, charge: Charge, reason: str, freed_from: str | None = None) -> int:
    """Settle a live charge with the payer's credit at this host, oldest payment first; return how much, in fen.

    `freed_from`: only with payments that had settled that charge. The caller holds the charge's booking. Closes the
    booking where nothing is left to pay.
    """
    wanted = charge.total_fen - settled_fen(work.session, charge.charge_id)
    applied = 0
    for credit in _credits_alone(work.session, charge, freed_from) if wanted > 0 else ():
        part = min(credit.left_fen, wanted - applied)
        if part > 0:
            _add(work, credit.payment_id, CreditKind.APPLY, part, reason, charge_id=charge.charge_id)
            applied += part
    if applied:
        work.audit(
            "credit.applied",
            f"charge:{charge.charge_id}",
            host_id=charge.host_id,
            after={"amount_fen": applied, "reason": reason},
        )
        if applied == wanted:
            close_if_settled(work, take_booking(work.session, charge.booking_id))
    return applied


def refund_credit(work: Work, payment_id: str, amount_fen: int, external_ref: str, reason: str) -> CreditEntry:
    """Record that credit of a payment was paid back to its payer, by the reference of the bank.

    Refused: 403, 404, 409 `more_than_credit`, 409 `refund_already_recorded`, 422 `bad_amount`, `reference_missing`.
    """
    payment = work.session.execute(
        select(Payment).where(Payment.payment_id == payment_id).with_for_update()
    ).scalar_one_or_none()
    if payment is None:
        raise not_found("收款", "payment", payment_id)
    statement = work.session.get_one(Statement, payment.statement_id)
    require_host_role(work, statement.host_id, REFUNDERS, "登记退款", "record refunds")
    if amount_fen <= 0:
        raise invalid(
            "bad_amount", "金额须大于零;请更正。", "The amount must be more than zero; correct it.", field="amount_fen"
        )
    if not external_ref.strip():
        raise invalid("reference_missing", "请填写银行凭证编号。", "Give the bank's reference.", field="external_ref")
    left = credit_fen(work.session, payment_id)
    if amount_fen > left:
        raise conflict(
            "more_than_credit",
            f"请更正金额,该笔收款可退余额为 {yuan(left)} 元。",
            f"{yuan(left)} yuan of this payment can be paid back; correct the amount.",
            left_fen=left,
        )
    entry_id = _add(work, payment_id, CreditKind.REFUND, amount_fen, reason.strip(), external_ref=external_ref.strip())
    if entry_id is None:
        raise conflict(
            "refund_already_recorded",
            f"凭证 {external_ref.strip()} 已登记过;请核对凭证号。",
            f"The reference {external_ref.strip()} has been recorded before; check the reference.",
            external_ref=external_ref.strip(),
        )
    work.audit(
        "credit.refunded",
        f"payment:{payment_id}",
        host_id=statement.host_id,
        after={"amount_fen": amount_fen, "external_ref": external_ref.strip(), "reason": reason.strip()},
    )
    return work.session.get_one(CreditEntry, entry_id)


def credit_fen(session: Session, payment_id: str) -> int:
    """Return what of a payment settles nothing and was not paid back."""
    query = select(func.coalesce(func.sum(_signed()), 0)).where(CreditEntry.payment_id == payment_id)
    return int(session.execute(query).scalar_one())


def credits_of(session: Session, host_id: str | None, payer_org: str | None) -> dict[tuple[str, str], int]:
    """Return the credit of payers at hosts, by (host, payer), where there is any. None: all of them."""
    query = (
        select(Statement.host_id, Statement.payer_org, func.sum(_signed()))
        .join(Payment, Payment.statement_id == Statement.statement_id)
        .join(CreditEntry, CreditEntry.payment_id == Payment.payment_id)
        .group_by(Statement.host_id, Statement.payer_org)
    )
    if host_id is not None:
        query = query.where(Statement.host_id == host_id)
    if payer_org is not None:
        query = query.where(Statement.payer_org == payer_org)
    return {(row[0], row[1]): int(row[2]) for row in session.execute(query) if row[2]}


def _settled_by_payment(session: Session, charge_id: str) -> list[tuple[str, int]]:
    amounts: dict[str, int] = {}
    first = select(Settlement.payment_id, Settlement.amount_fen).where(Settlement.charge_id == charge_id)
    for payment_id, amount in session.execute(first):
        amounts[payment_id] = amounts.get(payment_id, 0) + amount
    moved = select(CreditEntry.payment_id, CreditEntry.kind, CreditEntry.amount_fen).where(
        CreditEntry.charge_id == charge_id
    )
    for payment_id, kind, amount in session.execute(moved):
        signed = amount if kind == CreditKind.APPLY.value else -amount
        amounts[payment_id] = amounts.get(payment_id, 0) + signed
    return sorted((payment_id, amount) for payment_id, amount in amounts.items() if amount)


def _credits_alone(session: Session, charge: Charge, freed_from: str | None) -> list[Credit]:
    """The payer's credit at a host, its payments locked in the order in which they came."""
    if not credits_of(session, charge.host_id, charge.payer_org):
        return []
    # Of all that a payer ever paid only what a reversal set free can be credit.
    freed = select(CreditEntry.payment_id).where(CreditEntry.kind == CreditKind.RELEASE.value)
    if freed_from is not None:
        freed = freed.where(CreditEntry.charge_id == freed_from)
    query = (
        select(Payment)
        .join(Statement, Statement.statement_id == Payment.statement_id)
        .where(
            Statement.host_id == charge.host_id,
            Statement.payer_org == charge.payer_org,
            Payment.payment_id.in_(freed),
        )
        .order_by(Payment.received_at, Payment.payment_id)
        .with_for_update(of=Payment)
    )
    payments = session.execute(query).scalars()
    found = [Credit(row.payment_id, row.tender, credit_fen(session, row.payment_id)) for row in payments]
    return [credit for credit in found if credit.left_fen > 0]


def _signed():  # type: ignore[no-untyped-def]
    released = CreditEntry.kind == CreditKind.RELEASE.value
    return case((released, CreditEntry.amount_fen), else_=-CreditEntry.amount_fen)


def _add(
    work: Work,
    payment_id: str,
    kind: CreditKind,
    amount_fen: int,
    reason: str,
    *,
    charge_id: str | None = None,
    external_ref: str | None = None,
) -> str | None:
    """Add an entry; return its id, None where its reference is taken."""
    entry_id = new_ulid()
    row = {
        "entry_id": entry_id,
        "payment_id": payment_id,
        "kind": kind.value,
        "charge_id": charge_id,
        "amount_fen": amount_fen,
        "external_ref": external_ref,
        "reason": reason,
        "recorded_by": work.actor.person_id,
        "recorded_at": work.now,
    }
    return entry_id if insert_if_absent(work.session, CreditEntry, row) else None
