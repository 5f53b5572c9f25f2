"""What the endpoints of disputes and corrections take and give."""

from typing import Annotated

from pydantic import Field

from api.charging.corrections_rules import read_lines
from api.schemas import Answer, Fen, Instant, Question
from store.tables.disputes import Correction, CorrectionDecision, CorrectionKind, Dispute, DisputeEnd

Words = Annotated[str, Field(min_length=1, max_length=2000)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class DisputeAsked(Question):
    """What the payer objects to: a charge, or one line of it."""

    reason: Words
    line_no: Annotated[int, Field(ge=1, le=10**6)] | None = None


class WithdrawalAsked(Question):
    """Why the payer takes the objection back."""

    note: Words


class DisputeAnswer(Answer):
    """An objection, and how it ended, where it did."""

    dispute_id: str
    charge_id: str
    dispute_no: int
    line_no: int | None
    host_id: str
    payer_org: str
    reason: str
    raised_at: Instant
    outcome: str | None
    correction_id: str | None
    note: str | None
    ended_at: Instant | None

    @staticmethod
    def of(dispute: Dispute, end: DisputeEnd | None) -> "DisputeAnswer":
        return DisputeAnswer(
            dispute_id=dispute.dispute_id,
            charge_id=dispute.charge_id,
            dispute_no=dispute.dispute_no,
            line_no=dispute.line_no,
            host_id=dispute.host_id,
            payer_org=dispute.payer_org,
            reason=dispute.reason,
            raised_at=dispute.raised_at,
            outcome=end.outcome if end else None,
            correction_id=end.correction_id if end else None,
            note=end.note if end else None,
            ended_at=end.ended_at if end else None,
        )


class WaivedLine(Question):
    """A line of the charge that is not to be paid."""

    component: Annotated[str, Field(max_length=40)]
    item_code: Annotated[str, Field(max_length=100)]


class CorrectionAsked(Question):
    """What should become of the charge. `metered_ms`: the right running time of `session_id` within the booking."""

    kind: CorrectionKind
    reason: Words
    evidence: Words
    evidence_sha256: Sha256 | None = None
    session_id: Annotated[str, Field(max_length=100)] | None = None
    metered_ms: Annotated[int, Field(ge=0, le=10**11)] | None = None
    lines: Annotated[list[WaivedLine], Field(max_length=100)] = []


class CorrectionDecisionAsked(Question):
    """The second person's word, by the hash of what was read."""

    approved: bool
    note: Words
    body_sha256: Sha256


class CorrectionAnswer(Answer):
    """A proposed correction, and the decision on it, where there is one."""

    correction_id: str
    charge_id: str
    dispute_id: str | None
    kind: str
    session_id: str | None
    metered_before_ms: int | None
    metered_after_ms: int | None
    lines: list[WaivedLine]
    reason: str
    evidence: str
    evidence_sha256: str | None
    body_sha256: str
    proposed_by: str
    proposed_at: Instant
    approved: bool | None
    decided_by: str | None
    decided_at: Instant | None
    note: str | None

    @staticmethod
    def of(found: Correction, decision: CorrectionDecision | None) -> "CorrectionAnswer":
        names = ("correction_id", "charge_id", "dispute_id", "kind", "session_id", "metered_before_ms")
        more = ("metered_after_ms", "reason", "evidence", "evidence_sha256", "body_sha256", "proposed_by")
        return CorrectionAnswer(
            **{name: getattr(found, name) for name in (*names, *more)},
            lines=[WaivedLine(component=pair[0], item_code=pair[1]) for pair in read_lines(found.lines)],
            proposed_at=found.proposed_at,
            approved=decision.approved if decision else None,
            decided_by=decision.decided_by if decision else None,
            decided_at=decision.decided_at if decision else None,
            note=decision.note if decision else None,
        )


class RevisionAnswer(Answer):
    """One version of a charge; even ones take the one before back."""

    charge_id: str
    revision: int
    posting_month: int
    total_fen: Fen
    reason: str
    recorded_at: Instant
