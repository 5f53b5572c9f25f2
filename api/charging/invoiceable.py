"""How much of a statement may be invoiced: what stands on it, whatever is taken back beside it. Reads only."""

from collections.abc import Sequence

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session, aliased

from api.charging.settled import is_reversed, takes_back
from store.tables.charging import Charge, Invoice, StatementLine

_INVOICED = select(func.coalesce(func.sum(Invoice.amount_fen), 0)).where(Invoice.statement_id == bindparam("statement"))
_STANDS = (
    select(func.coalesce(func.sum(StatementLine.amount_fen), 0))
    .join(Charge, Charge.charge_id == StatementLine.charge_id)
    .where(StatementLine.statement_id == bindparam("statement"), Charge.revision % 2 == 1, ~is_reversed())
)


def not_invoiced_fen(session: Session, statement_id: str) -> int:
    """Return what stands on a statement and is not invoiced, red invoices taken off, in fen; below zero where what was
    taken back still is."""
    asked = {"statement": statement_id}
    stands, invoiced = (int(session.execute(each, asked).scalar_one()) for each in (_STANDS, _INVOICED))
    return stands - invoiced


def statements_taken_back(session: Session, statement_id: str) -> Sequence[str]:
    """Return the other statements with charges that are taken back on this one."""
    return session.execute(_TAKEN_BACK, {"statement": statement_id}).scalars().all()


def _taken_back() -> Select[str]:
    reversal, line = aliased(Charge), aliased(StatementLine)
    return (
        select(StatementLine.statement_id)
        .join(Charge, Charge.charge_id == StatementLine.charge_id)
        .join(reversal, takes_back(reversal, Charge))
        .join(line, line.charge_id == reversal.charge_id)
        .where(
            line.statement_id == bindparam("statement"),
            StatementLine.statement_id != bindparam("statement"),
            Charge.revision % 2 == 1,
        )
        .distinct()
        .order_by(StatementLine.statement_id)
    )


_TAKEN_BACK = _taken_back()
