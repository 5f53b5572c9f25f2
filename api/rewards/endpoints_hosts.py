"""HTTP of what hosts and the public see of rewards, and of the yearly grades. Each endpoint calls one function."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.deps import Once, public_reads, reads, writes
from api.pagination import WantedPage
from api.problems import problems
from api.rewards.access import APPROVERS, PREPARERS, READERS
from api.rewards.assessments import (
    ProposalSeen,
    decide_assessment,
    find_assessment_proposal,
    grades_page,
    proposals_page,
    propose_assessment,
)
from api.rewards.rules import Reason
from api.rewards.run_view import host_lines, host_rewards, notices
from api.rewards.schemas import InputAnswer
from api.rewards.schemas_steps import (
    AssessmentAnswer,
    AssessmentAsked,
    AssessmentProposalAnswer,
    DecisionAsked,
    HostRewardAnswer,
    NoticeAnswer,
)
from api.schemas import Page
from api.work import Work
from store.tables.accounts import Role

router = APIRouter(tags=["rewards"])

Key = Annotated[str, Path(min_length=1, max_length=64)]


@router.get("/reward-notices", summary="The reward runs that are publicly announced now")
def list_notices(work: Annotated[Work, public_reads()], page: WantedPage) -> Page[NoticeAnswer]:
    """For everybody: what each host is to get, and until when objections are taken."""
    rows, cursor = notices(work.session, page)
    return Page(items=rows, next_cursor=cursor)


@router.get("/hosts/{host_id}/rewards", summary="A host's own rewards, newest run first")
def list_host_rewards(
    host_id: Key, work: Annotated[Work, reads(Role.LAB_MANAGER, *READERS)], page: WantedPage
) -> Page[HostRewardAnswer]:
    """From a run's announcement on, with what was paid. A lab manager sees the own host's alone."""
    rows, cursor = host_rewards(work, host_id, page)
    return Page(items=rows, next_cursor=cursor)


@router.get(
    "/hosts/{host_id}/rewards/{run_id}/lines",
    summary="A host's own charges in a run with their reasons",
    responses=problems(404),
)
def list_host_lines(
    host_id: Key,
    run_id: Key,
    work: Annotated[Work, reads(Role.LAB_MANAGER, *READERS)],
    page: WantedPage,
    reason: Reason | None = None,
) -> Page[InputAnswer]:
    """By charge. `reason` is `eligible`, or says what keeps the charge out. A lab manager sees the own host's alone."""
    rows, cursor = host_lines(work, host_id, run_id, page, reason)
    return Page(items=rows, next_cursor=cursor)


@router.get("/assessments", summary="The recorded grades of hosts")
def list_assessments(
    work: Annotated[Work, reads(Role.LAB_MANAGER, *READERS)],
    page: WantedPage,
    year: Annotated[int | None, Query(ge=2000, le=2999)] = None,
    host_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[AssessmentAnswer]:
    """By host, year and version; the newest version of a year counts. A lab manager sees the own host's alone."""
    rows, cursor = grades_page(work, page, year, host_id)
    return Page(items=[AssessmentAnswer.model_validate(row) for row in rows], next_cursor=cursor)


@router.post(
    "/assessments/proposals",
    status_code=201,
    response_model=AssessmentProposalAnswer,
    summary="Prepare a host's grade for a second person to approve",
    responses=problems(404),
)
def propose(asked: AssessmentAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once) -> Response:
    """It counts for nothing until then."""

    def prepare() -> AssessmentProposalAnswer:
        row = propose_assessment(work, asked.host_id, asked.year, asked.grade, asked.evidence)
        return AssessmentProposalAnswer.of(ProposalSeen(row, None))

    return once(prepare)


@router.get("/assessments/proposals", summary="Proposed grades, newest first")
def list_proposals(
    work: Annotated[Work, reads(*READERS)],
    page: WantedPage,
    open_only: Annotated[bool, Query(description="Only those that nobody decided about")] = False,
) -> Page[AssessmentProposalAnswer]:
    """With what was decided about each."""
    seen, cursor = proposals_page(work.session, page, open_only)
    return Page(items=[AssessmentProposalAnswer.of(one) for one in seen], next_cursor=cursor)


@router.get("/assessments/proposals/{proposal_id}", summary="Read a proposed grade", responses=problems(404))
def read_proposal(proposal_id: Key, work: Annotated[Work, reads(*READERS)]) -> AssessmentProposalAnswer:
    """With its evidence and what was decided about it."""
    return AssessmentProposalAnswer.of(find_assessment_proposal(work.session, proposal_id))


@router.post(
    "/assessments/proposals/{proposal_id}/decision",
    status_code=201,
    response_model=AssessmentProposalAnswer,
    summary="Approve or refuse a proposed grade as its second person",
    responses=problems(404),
)
def decide(proposal_id: Key, asked: DecisionAsked, work: Annotated[Work, writes(*APPROVERS)], once: Once) -> Response:
    """Once. An approved grade counts for every run that is prepared from then on."""
    return once(lambda: AssessmentProposalAnswer.of(decide_assessment(work, proposal_id, asked.approved, asked.note)))
