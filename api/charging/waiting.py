"""What nobody has decided yet, as SQL: disputes without an end and corrections without a second person's word."""

from sqlalchemy import ColumnElement, bindparam, select
from sqlalchemy.orm import Session

from store.tables.disputes import Correction, CorrectionDecision, Dispute, DisputeEnd


def dispute_is_open() -> ColumnElement[bool]:
    """Return the SQL of "this dispute has no end yet"."""
    return ~select(DisputeEnd.dispute_id).where(DisputeEnd.dispute_id == Dispute.dispute_id).exists()


def correction_waits() -> ColumnElement[bool]:
    """Return the SQL of "nobody decided this correction yet"."""
    decided = select(CorrectionDecision.correction_id).where(
        CorrectionDecision.correction_id == Correction.correction_id
    )
    return ~decided.exists()


_UNDECIDED = (
    select(Dispute.dispute_id).where(Dispute.charge_id == bindparam("charge"), dispute_is_open()).limit(1),
    select(Correction.correction_id).where(Correction.charge_id == bindparam("charge"), correction_waits()).limit(1),
)


def is_undecided(session: Session, charge_id: str) -> bool:
    """Whether a dispute of the charge is open or a correction of it waits."""
    return any(session.execute(query, {"charge": charge_id}).first() is not None for query in _UNDECIDED)
