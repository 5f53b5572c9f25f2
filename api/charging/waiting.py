"""What nobody has decided yet, as SQL: disputes without an end and corrections without a second person's word."""

from sqlalchemy import ColumnElement, select

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
