"""HTTP of booking rules: approval, qualification, strikes. Each endpoint calls one service function."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.booking import approval, qualification, repository, strikes
from api.booking import schemas_rules as s
from api.charging.access import SEE_ALL
from api.deps import IfMatch, Once, reads, tagged, writes
from api.pagination import WantedPage, paginate
from api.problems import problems
from api.schemas import Page
from api.work import Actor, Work
from store.tables.accounts import Role
from store.tables.booking_rules import QualificationEvent, Strike

router = APIRouter(tags=["booking rules"])

_READERS = (Role.SME, Role.LAB_MANAGER, Role.COUNTY_OFFICER, Role.FINANCE, Role.ADMIN)
_ETAG = "The ETag is the version that a change has to name; 0 where nobody has set a rule."


@router.get(
    "/instruments/{instrument_id}/booking-rule",
    response_model=s.ApprovalAnswer,
    summary="How bookings of an instrument are approved",
    description=_ETAG,
    responses=problems(404),
)
def show_booking_rule(instrument_id: str, work: Annotated[Work, reads()]) -> Response:
    """For everybody who books."""
    instrument = repository.instrument_row(work.session, instrument_id)
    rule = approval.rule_of(work.session, instrument_id, instrument.approval)
    return tagged(s.ApprovalAnswer.of(instrument_id, rule))


@router.put(
    "/instruments/{instrument_id}/booking-rule",
    response_model=s.ApprovalAnswer,
    summary="Set how bookings of an instrument are approved",
    responses=problems(404),
)
def set_booking_rule(
    instrument_id: str, asked: s.ApprovalAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], version: IfMatch
) -> Response:
    """By the host's lab manager. Bookings that stand are not touched."""
    return tagged(s.ApprovalAnswer.of(instrument_id, approval.set_rule(work, instrument_id, asked.rule(), version)))


@router.get("/qualifications", summary="Who is trained on which instrument")
def list_qualifications(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    instrument_id: Annotated[str | None, Query(max_length=64)] = None,
    person_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[s.QualificationAnswer]:
    """The newest fact of each person and instrument. A firm's person sees their own, a lab manager its host's."""
    mine = person_id
    hosts = None if work.actor.has(*SEE_ALL) else sorted(work.actor.host_ids)
    if hosts is not None and not work.actor.has(Role.LAB_MANAGER):
        mine, hosts = work.actor.person_id, None
    found = qualification.current(instrument_id, mine, hosts)
    rows, cursor = paginate(work.session, found, (QualificationEvent.event_id,), page, descending=True)
    return Page[s.QualificationAnswer](items=[_qualification(work, row) for row in rows], next_cursor=cursor)


@router.post(
    "/instruments/{instrument_id}/qualifications/{person_id}/grant",
    status_code=201,
    response_model=s.QualificationAnswer,
    summary="Record that a person was trained",
    responses=problems(404),
)
def grant_qualification(
    instrument_id: str,
    person_id: str,
    asked: s.GrantAsked,
    work: Annotated[Work, writes(Role.LAB_MANAGER)],
    once: Once,
) -> Response:
    """Granting again renews; the newest fact counts."""
    grant = qualification.grant
    return once(lambda: _qualification(work, grant(work, instrument_id, person_id, asked.training, asked.expires_at)))


@router.post(
    "/instruments/{instrument_id}/qualifications/{person_id}/revoke",
    status_code=201,
    response_model=s.QualificationAnswer,
    summary="Take a qualification back",
    responses=problems(404),
)
def revoke_qualification(
    instrument_id: str,
    person_id: str,
    asked: s.RevokeAsked,
    work: Annotated[Work, writes(Role.LAB_MANAGER)],
    once: Once,
) -> Response:
    """From now on; the grant stays as history, and bookings that stand are not touched."""
    return once(lambda: _qualification(work, qualification.revoke(work, instrument_id, person_id, asked.reason)))


@router.get(
    "/hosts/{host_id}/strike-rule",
    response_model=s.StrikeRuleAnswer,
    summary="What a host does about no-shows",
    description=_ETAG,
)
def show_strike_rule(host_id: str, work: Annotated[Work, reads()]) -> Response:
    """For everybody who books."""
    return tagged(s.StrikeRuleAnswer.of(host_id, strikes.rule_of(work.session, host_id)))


@router.put(
    "/hosts/{host_id}/strike-rule",
    response_model=s.StrikeRuleAnswer,
    summary="Set what a host does about no-shows",
    responses=problems(404),
)
def set_strike_rule(
    host_id: str, asked: s.StrikeRuleAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], version: IfMatch
) -> Response:
    """By its lab manager. It holds for strikes that are there already too."""
    return tagged(s.StrikeRuleAnswer.of(host_id, strikes.set_rule(work, host_id, asked.rule(), version)))


@router.get("/strikes", summary="No-shows that count, newest first")
def list_strikes(
    work: Annotated[Work, reads(*_READERS)],
    page: WantedPage,
    org_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[s.StrikeAnswer]:
    """A firm sees its own, a lab manager its host's, the county all; lifted ones say so."""
    found = strikes.strikes_seen(*_strike_scope(work.actor, org_id))
    rows, cursor = paginate(work.session, found, (Strike.at, Strike.booking_id), page, descending=True)
    lifts = strikes.lifts_of(work.session, [row.booking_id for row in rows])
    items = [s.StrikeAnswer.of(row, lifts.get(row.booking_id)) for row in rows]
    return Page[s.StrikeAnswer](items=items, next_cursor=cursor)


@router.get("/hosts/{host_id}/standing", summary="What your strikes mean at a host now")
def show_standing(
    host_id: str,
    work: Annotated[Work, reads(*_READERS)],
    org_id: Annotated[str | None, Query(max_length=64, description="Another firm: for the host and the county")] = None,
) -> s.ProbationAnswer:
    """Whether bookings need approval or are refused, and until when."""
    asked = org_id if org_id and (work.actor.manages(host_id) or work.actor.has(*SEE_ALL)) else work.actor.org_id
    return s.ProbationAnswer.of(host_id, asked, strikes.probation_of(work.session, host_id, asked, work.now))


@router.post(
    "/strikes/{booking_id}/lift",
    status_code=201,
    response_model=s.StrikeAnswer,
    summary="Let a strike not count any more",
    responses=problems(404),
)
def lift_strike(
    booking_id: str, asked: s.LiftAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], once: Once
) -> Response:
    """By the host's lab manager, with a reason. A fee that was charged is disputed on its charge."""

    def lifted() -> s.StrikeAnswer:
        strikes.lift(work, booking_id, asked.reason)
        found = work.session.get_one(Strike, booking_id)
        return s.StrikeAnswer.of(found, strikes.lifts_of(work.session, [booking_id])[booking_id])

    return once(lifted)


def _strike_scope(actor: Actor, org_id: str | None) -> tuple[list[str] | None, str | None]:
    if actor.has(*SEE_ALL):
        return None, org_id
    if actor.has(Role.LAB_MANAGER):
        return sorted(actor.host_ids), org_id
    return None, actor.org_id


def _qualification(work: Work, event: QualificationEvent) -> s.QualificationAnswer:
    shown = s.QualificationAnswer.model_validate(event)
    return shown.model_copy(update={"qualified": qualification.standing_by(event, work.now).qualified})
