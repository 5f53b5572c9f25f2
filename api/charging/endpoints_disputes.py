"""HTTP of disputes and corrections. Each endpoint calls one service function; no rule lives here."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.charging import corrections, disputes
from api.charging import schemas_disputes as d
from api.charging.corrections import Proposal
from api.deps import AppParts, Once, reads, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.disputes import Dispute

router = APIRouter(tags=["charging"])

_READERS = (Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)
_CORRECTORS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER)


@router.post(
    "/charges/{charge_id}/disputes",
    status_code=201,
    response_model=d.DisputeAnswer,
    summary="Object to a charge or one line of it",
    responses=problems(404),
)
def raise_dispute(
    charge_id: str, asked: d.DisputeAsked, work: Annotated[Work, writes(Role.SME)], once: Once
) -> Response:
    """By the firm that pays, until the dispute window of the charge's statement is over."""
    return once(lambda: d.DisputeAnswer.of(disputes.raise_dispute(work, charge_id, asked.reason, asked.line_no), None))


@router.get("/disputes", summary="The disputes you may see, newest first")
def list_disputes(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    open_only: Annotated[bool, Query(description="Only those that nobody ended")] = False,
) -> Page[d.DisputeAnswer]:
    """A firm sees its own, a lab manager its host's, the county all."""
    seen = disputes.disputes_seen(work.actor, open_only)
    rows, cursor = paginate(work.session, seen, (Dispute.raised_at, Dispute.dispute_id), page, descending=True)
    ends = disputes.ends_of(work.session, [row.dispute_id for row in rows])
    items = [d.DisputeAnswer.of(row, ends.get(row.dispute_id)) for row in rows]
    return Page[d.DisputeAnswer](items=items, next_cursor=cursor)


@router.get("/disputes/{dispute_id}", summary="A dispute and how it ended", responses=problems(404))
def read_dispute(dispute_id: str, work: Annotated[Work, reads(*_READERS)]) -> d.DisputeAnswer:
    """404 also for a dispute that is not yours to see."""
    found = disputes.find_dispute(work, dispute_id)
    return d.DisputeAnswer.of(found, disputes.ends_of(work.session, [dispute_id]).get(dispute_id))


@router.post(
    "/disputes/{dispute_id}/withdrawal",
    status_code=201,
    response_model=d.DisputeAnswer,
    summary="Take an objection back",
    responses=problems(404),
)
def withdraw(
    dispute_id: str, asked: d.WithdrawalAsked, work: Annotated[Work, writes(Role.SME)], once: Once
) -> Response:
    """By the firm that raised it, while it is open."""

    def produce() -> d.DisputeAnswer:
        end = disputes.withdraw_dispute(work, dispute_id, asked.note)
        return d.DisputeAnswer.of(disputes.find_dispute(work, dispute_id), end)

    return once(produce)


@router.post(
    "/charges/{charge_id}/corrections",
    status_code=201,
    response_model=d.CorrectionAnswer,
    summary="Propose what should become of a charge",
    responses=problems(404),
)
def propose(
    charge_id: str, asked: d.CorrectionAsked, work: Annotated[Work, writes(*_CORRECTORS)], once: Once
) -> Response:
    """Answers the charge's open dispute, where there is one. Nothing changes before another person approves it."""
    proposal = Proposal(
        kind=asked.kind,
        reason=asked.reason,
        evidence=asked.evidence,
        evidence_sha256=asked.evidence_sha256,
        session_id=asked.session_id,
        metered_ms=asked.metered_ms,
        lines=[(line.component, line.item_code) for line in asked.lines],
    )
    return once(lambda: d.CorrectionAnswer.of(corrections.propose_correction(work, charge_id, proposal), None))


@router.get("/corrections/{correction_id}", summary="A correction and the decision on it", responses=problems(404))
def read_correction(correction_id: str, work: Annotated[Work, reads(*_READERS)]) -> d.CorrectionAnswer:
    """With the hash that deciding it takes."""
    found = corrections.find_correction(work, correction_id)
    return d.CorrectionAnswer.of(found, corrections.decision_on(work.session, correction_id))


@router.post(
    "/corrections/{correction_id}/decision",
    status_code=201,
    response_model=d.CorrectionAnswer,
    summary="Decide a correction that somebody else proposed",
    responses=problems(404),
)
def decide(
    correction_id: str,
    asked: d.CorrectionDecisionAsked,
    work: Annotated[Work, writes(*_CORRECTORS)],
    parts: AppParts,
    once: Once,
) -> Response:
    """Approved: the whole charge is taken back and posted anew in this step. Never by who proposed it."""

    def produce() -> d.CorrectionAnswer:
        decision = corrections.decide_correction(
            work, correction_id, asked.approved, asked.note, asked.body_sha256, parts.series
        )
        return d.CorrectionAnswer.of(corrections.find_correction(work, correction_id), decision)

    return once(produce)
