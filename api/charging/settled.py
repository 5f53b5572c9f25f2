"""How much of a charge is settled: by payments, and by money that moved from a charge that was reversed. Reads only."""

from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, func, select
from sqlalchemy.orm import Session, aliased

from store.tables.charging import Charge, Settlement
from store.tables.disputes import CreditEntry, CreditKind


def settled_of(charge_id: ColumnElement[Any]) -> ColumnElement[int]:
    """Return the SQL of what is settled of a charge, in fen."""
    first = (
        select(func.coalesce(func.sum(Settlement.amount_fen), 0))
        .where(Settlement.charge_id == charge_id)
        .scalar_subquery()
    )
    signed = case((CreditEntry.kind == CreditKind.APPLY.value, CreditEntry.amount_fen), else_=-CreditEntry.amount_fen)
    moved = select(func.coalesce(func.sum(signed), 0)).where(CreditEntry.charge_id == charge_id).scalar_subquery()
    return first + moved


def settled_fen(session: Session, charge_id: str) -> int:
    """Return what is settled of a charge, in fen."""
    return int(session.execute(_SETTLED, {"charge_id": charge_id}).scalar_one())


def takes_back(reversal: type[Charge], charge: type[Charge]) -> ColumnElement[bool]:
    """Return the SQL of "this row takes that charge back"."""
    return and_(
        reversal.booking_id == charge.booking_id,
        reversal.purpose == charge.purpose,
        reversal.revision == charge.revision + 1,
    )


def is_reversed() -> ColumnElement[bool]:
    """Return the SQL of "this charge was taken back"."""
    reversal = aliased(Charge)
    return select(reversal.charge_id).where(takes_back(reversal, Charge)).exists()


# Built once: these are asked for every payment.
_SETTLED = select(settled_of(Charge.charge_id.expression)).where(Charge.charge_id == bindparam("charge_id"))
