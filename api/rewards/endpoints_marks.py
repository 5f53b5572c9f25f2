"""HTTP of what officers record of bookings that no instrument shows. Each endpoint calls one service function."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from api.deps import Once, reads, writes
from api.pagination import WantedPage
from api.problems import problems
from api.rewards.access import APPROVERS, PREPARERS, READERS
from api.rewards.marks import MarkSeen, decide_mark, find_mark, marks_page, propose_mark, withdraw_mark
from api.rewards.schemas_marks import MarkAnswer, MarkAsked, MarkWithdrawalAsked
from api.rewards.schemas_steps import DecisionAsked
from api.schemas import Page
from api.work import Work
from store.tables.rewards import MarkCode

router = APIRouter(tags=["rewards"])

MarkId = Annotated[str, Path(min_length=1, max_length=40)]


@router.post(
    "/reward-marks",
    status_code=201,
    response_model=MarkAnswer,
    summary="Record of a booking what keeps its fees out of a reward",
    responses=problems(404),
)
def propose(asked: MarkAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once) -> Response:
    """It counts once a second person has approved it, and then only under policies that look at its code."""

    def record() -> MarkAnswer:
        row = propose_mark(
            work,
            asked.code,
            asked.evidence,
            charge_id=asked.charge_id,
            booking_id=asked.booking_id,
            evidence_sha256=asked.evidence_sha256,
        )
        return MarkAnswer.of(MarkSeen(row, None, False))

    return once(record)


@router.get("/reward-marks", summary="What was recorded of bookings, newest first")
def list_marks(
    work: Annotated[Work, reads(*READERS)],
    page: WantedPage,
    booking_id: Annotated[str | None, Query(max_length=64)] = None,
    code: MarkCode | None = None,
    open_only: Annotated[bool, Query(description="Only what nobody decided about")] = False,
) -> Page[MarkAnswer]:
    """Withdrawals too, each with what was decided about it."""
    seen, cursor = marks_page(work.session, page, booking_id, code, open_only)
    return Page(items=[MarkAnswer.of(one) for one in seen], next_cursor=cursor)


@router.get("/reward-marks/{mark_id}", summary="Read what was recorded of a booking", responses=problems(404))
def read_mark(mark_id: MarkId, work: Annotated[Work, reads(*READERS)]) -> MarkAnswer:
    """With its evidence, what was decided about it and whether it stands."""
    return MarkAnswer.of(find_mark(work.session, mark_id))


@router.post(
    "/reward-marks/{mark_id}/decision",
    status_code=201,
    response_model=MarkAnswer,
    summary="Approve or refuse a mark, or its withdrawal, as its second person",
    responses=problems(404),
)
def decide(mark_id: MarkId, asked: DecisionAsked, work: Annotated[Work, writes(*APPROVERS)], once: Once) -> Response:
    """Once. What is approved counts for every run that is prepared from then on."""
    return once(lambda: MarkAnswer.of(decide_mark(work, mark_id, asked.approved, asked.note)))


@router.post(
    "/reward-marks/{mark_id}/withdrawal",
    status_code=201,
    response_model=MarkAnswer,
    summary="Record that a mark does not hold",
    responses=problems(404),
)
def withdraw(
    mark_id: MarkId, asked: MarkWithdrawalAsked, work: Annotated[Work, writes(*PREPARERS)], once: Once
) -> Response:
    """A record of its own, that a second person decides about as well; the mark stands until then."""

    def record() -> MarkAnswer:
        row = withdraw_mark(work, mark_id, asked.evidence, asked.evidence_sha256)
        return MarkAnswer.of(MarkSeen(row, None, False))

    return once(record)
