"""HTTP of changes: proposals, reservations, codes at the instrument, use that nobody booked. No rule lives here."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api import problems as problem_pages
from api.booking import consents, presence, proposals, repository, reservations, steps, unbooked
from api.booking import schemas_changes as c
from api.booking.schemas import BookingAnswer
from api.booking.slots import Interval
from api.charging.access import SEE_ALL, require_host_role
from api.deps import IfMatch, Once, reads, tagged, writes
from api.errors import Refused
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Instant, Page
from api.work import Work
from store.tables.accounts import Role
from store.tables.booking_rules import BookingProposal, ClaimState, UseClaim
from store.tables.calendar import CalendarRow, UnbookedUse

router = APIRouter(tags=["booking"])

_BOOKERS = (Role.SME, Role.LAB_MANAGER)
_READERS = (*_BOOKERS, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)


@router.post(
    "/bookings/{booking_id}/proposals",
    status_code=201,
    response_model=c.ProposalAnswer,
    summary="Propose another slot for a booking",
    responses=problems(404, 409),
)
def propose_slot(
    booking_id: str,
    asked: c.SlotAsked,
    work: Annotated[Work, writes(*_BOOKERS)],
    version: IfMatch,
) -> Response:
    """The other side answers within 48 hours. A repeat answers 412: the booking's version has moved on."""
    slot = Interval(asked.slot_from, asked.slot_to)
    made = proposals.propose_slot(work, booking_id, slot, asked.reason, version, asked.quote_sha256)
    return tagged(c.ProposalAnswer.model_validate(made), 201)


@router.get("/bookings/{booking_id}/proposals", summary="What was proposed for a booking", responses=problems(404))
def list_proposals(
    booking_id: str, work: Annotated[Work, reads(*_READERS)], page: WantedPage
) -> Page[c.ProposalAnswer]:
    """Oldest first."""
    repository.booking_row(work.session, work.actor, booking_id)
    seen = consents.proposals_seen(booking_id)
    found, cursor = paginate(work.session, seen, (BookingProposal.proposal_id,), page)
    return Page[c.ProposalAnswer](items=[c.ProposalAnswer.model_validate(each) for each in found], next_cursor=cursor)


@router.post(
    "/proposals/{proposal_id}/answer",
    response_model=c.ProposalAnswer,
    summary="Accept or decline a proposal",
    responses=problems(404, 409),
)
def answer_proposal(
    proposal_id: str, asked: c.AnswerAsked, work: Annotated[Work, writes(*_BOOKERS)], version: IfMatch
) -> Response:
    """By the other side; `If-Match` is the proposal's version. The slots are swapped in one transaction."""
    done = proposals.answer(work, proposal_id, asked.accept, version, asked.note, asked.quote_sha256)
    return tagged(c.ProposalAnswer.model_validate(done))


@router.post(
    "/proposals/{proposal_id}/withdraw",
    response_model=c.ProposalAnswer,
    summary="Take a proposal of your side back",
    responses=problems(404, 409),
)
def withdraw_proposal(proposal_id: str, work: Annotated[Work, writes(*_BOOKERS)], version: IfMatch) -> Response:
    """While nobody has answered it."""
    return tagged(c.ProposalAnswer.model_validate(proposals.withdraw(work, proposal_id, version)))


@router.post(
    "/bookings/{booking_id}/check-in-by-code",
    response_model=BookingAnswer,
    summary="Check in with the code at the instrument",
    responses=problems(404, 409, 429),
)
def check_in_by_code(
    booking_id: str,
    asked: c.CodeGiven,
    request: Request,
    work: Annotated[Work, writes(*_BOOKERS)],
    version: IfMatch,
) -> Response:
    """Five wrong codes within 15 minutes close this door for a while; the lab manager can check in without one."""
    outcome = presence.check_in(work, booking_id, asked.code, version)
    if isinstance(outcome, Refused):
        # Answered, not raised: the count of wrong codes is committed with this transaction.
        return problem_pages.render(request, outcome)
    return tagged(BookingAnswer.of(outcome, steps.possible_for(work.actor, outcome)))


@router.post(
    "/instruments/{instrument_id}/check-in-codes",
    status_code=201,
    response_model=c.CodeAnswer,
    summary="Make a check-in code for an instrument",
    responses=problems(404),
)
def issue_code(
    instrument_id: str, asked: c.CodeAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], once: Once
) -> Response:
    """To show on its screen for one check-in, or to post beside it (which ends the one posted before)."""

    def issue() -> c.CodeAnswer:
        return c.CodeAnswer(**vars(presence.issue_code(work, instrument_id, asked.one_time)))

    return once(issue, kept=lambda made: made.model_copy(update={"code": None}))


@router.post(
    "/instruments/{instrument_id}/reservations",
    status_code=201,
    response_model=c.ClosureAnswer,
    summary="Keep an instrument for the host's own work",
    responses=problems(404, 409),
)
def make_reservation(
    instrument_id: str, asked: c.ReservationAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], once: Once
) -> Response:
    """Of free time only; what stands in the way is named as times."""
    window = Interval(asked.from_at, asked.to_at)
    return once(lambda: c.ClosureAnswer.model_validate(reservations.reserve(work, instrument_id, window, asked.note)))


@router.get(
    "/instruments/{instrument_id}/closures",
    summary="Outages and reservations of an instrument",
    responses=problems(404),
)
def list_closures(
    instrument_id: str,
    work: Annotated[Work, reads(Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.ADMIN)],
    page: WantedPage,
    from_at: Annotated[Instant | None, Query(description="In force after this; now where it is left out")] = None,
) -> Page[c.ClosureAnswer]:
    """With what they are for: the host's own people and the county; everybody else sees times in the calendar."""
    instrument = repository.instrument_row(work.session, instrument_id)
    require_host_role(work, instrument.host_id, SEE_ALL, "查看停用与保留", "see outages and reservations")
    since: datetime = from_at or work.now
    found = reservations.closures_of(instrument_id, since)
    rows, cursor = paginate(work.session, found, (CalendarRow.to_at, CalendarRow.row_id), page)
    items = [c.ClosureAnswer.model_validate(row) for row in rows]
    return Page[c.ClosureAnswer](items=items, next_cursor=cursor)


@router.post(
    "/instruments/{instrument_id}/closures/{row_id}/end",
    status_code=201,
    response_model=c.ClosureAnswer,
    summary="End an outage or a reservation now",
    responses=problems(404, 409),
)
def end_closure(
    instrument_id: str,
    row_id: str,
    asked: c.EndAsked,
    work: Annotated[Work, writes(Role.LAB_MANAGER, Role.ADMIN)],
    once: Once,
) -> Response:
    """What lies ahead of it can be booked again. An admin ends outages only."""
    end = reservations.end_closure
    return once(lambda: c.ClosureAnswer.model_validate(end(work, instrument_id, row_id, asked.reason)))


@router.get("/unbooked-uses", summary="Use that nobody booked and nobody has classified, oldest first")
def list_unbooked_uses(
    work: Annotated[Work, reads(Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.ADMIN)],
    page: WantedPage,
    everything: Annotated[bool, Query(description="Also less than a minute of a session")] = False,
) -> Page[c.UnbookedUseAnswer]:
    """A lab manager sees its host's, the county all."""
    hosts = None if work.actor.has(*SEE_ALL) else sorted(work.actor.host_ids)
    found = unbooked.open_uses(hosts, everything)
    rows, cursor = paginate(work.session, found, (UnbookedUse.from_at, UnbookedUse.session_id), page)
    items = [c.UnbookedUseAnswer.model_validate(row) for row in rows]
    return Page[c.UnbookedUseAnswer](items=items, next_cursor=cursor)


@router.post(
    "/unbooked-uses/classify",
    status_code=201,
    response_model=c.UnbookedUseAnswer,
    summary="Say that use was the host's own or maintenance",
    responses=problems(404, 409),
)
def classify_use(asked: c.ClassifyAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], once: Once) -> Response:
    """By the host's lab manager, once. A customer's use is put to that customer instead."""

    def classify() -> c.UnbookedUseAnswer:
        done = unbooked.classify(work, asked.session_id, asked.from_at, asked.purpose, asked.note)
        return c.UnbookedUseAnswer.model_validate(done)

    return once(classify)


@router.post(
    "/use-claims",
    status_code=201,
    response_model=c.ClaimAnswer,
    summary="Put use that nobody booked to the firm whose it was",
    responses=problems(404, 409),
)
def claim_use(asked: c.ClaimAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], once: Once) -> Response:
    """With its price. Nothing is billed before the firm confirms."""

    def claim() -> c.ClaimAnswer:
        made = unbooked.claim_for(work, asked.session_id, asked.from_at, asked.payer_org, asked.note)
        return c.ClaimAnswer.model_validate(made)

    return once(claim)


@router.get("/use-claims", summary="Use that was put to firms, newest first")
def list_claims(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    state: Annotated[ClaimState | None, Query(description="Only those that stand so")] = None,
) -> Page[c.ClaimAnswer]:
    """A firm sees its own, a lab manager its host's, the county all."""
    found = unbooked.claims_seen(work, None if state is None else state.value)
    rows, cursor = paginate(work.session, found, (UseClaim.claim_id,), page, descending=True)
    return Page[c.ClaimAnswer](items=[c.ClaimAnswer.model_validate(row) for row in rows], next_cursor=cursor)


@router.post(
    "/use-claims/{claim_id}/answer",
    response_model=c.ClaimAnswer,
    summary="Confirm that use was yours, or refuse it",
    responses=problems(404, 409),
)
def answer_claim(
    claim_id: str, asked: c.ClaimAnswered, work: Annotated[Work, writes(Role.SME)], version: IfMatch
) -> Response:
    """By the firm named. Confirmed, it is a booking and is charged; refused, the manager looks at it again."""
    if asked.confirm:
        claim, _ = unbooked.confirm(work, claim_id, version, asked.quote_sha256)
    else:
        claim = unbooked.refuse(work, claim_id, version, asked.reason)
    return tagged(c.ClaimAnswer.model_validate(claim))


@router.post(
    "/use-claims/{claim_id}/withdraw",
    response_model=c.ClaimAnswer,
    summary="Take a claim back that nobody has answered",
    responses=problems(404, 409),
)
def withdraw_claim(claim_id: str, work: Annotated[Work, writes(Role.LAB_MANAGER)], version: IfMatch) -> Response:
    """By the host's lab manager, to classify the use in another way."""
    return tagged(c.ClaimAnswer.model_validate(unbooked.withdraw(work, claim_id, version)))
