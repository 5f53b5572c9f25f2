"""HTTP around prices: what changes between two price lists, discounts, manual charges. No rule lives here."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.booking.discounts import grant_discount
from api.booking.schemas import BookingAnswer
from api.booking.steps import possible_for
from api.charging import manual, schemas, tariffs
from api.charging import schemas_prices as p
from api.charging.access import require_host_role
from api.deps import IfMatch, Once, public_reads, reads, tagged, writes
from api.problems import problems
from api.work import Work
from store.tables.accounts import Role

router = APIRouter(tags=["charging"])

_SIGNERS = (Role.LAB_MANAGER, Role.COUNTY_OFFICER)
Version = Annotated[int, Path(ge=1, le=1_000_000)]


@router.get(
    "/instruments/{instrument_id}/tariffs/{old}/changes/{new}",
    summary="What changed between two published price lists",
    responses=problems(404),
)
def tariff_changes(
    instrument_id: str, old: Version, new: Version, work: Annotated[Work, public_reads()]
) -> list[p.FieldChangeAnswer]:
    """Field by field, in the order of their paths; empty where both say the same."""
    return p.changes(tariffs.changes_between(work.session, instrument_id, old, new))


@router.get(
    "/tariff-proposals/{proposal_id}/changes",
    summary="What a proposed price list changes against the latest published one",
    responses=problems(404),
)
def proposal_changes(proposal_id: str, work: Annotated[Work, reads(*_SIGNERS)]) -> list[p.FieldChangeAnswer]:
    """What the second person has to read. Without a published one every field is new."""
    return p.changes(tariffs.changes_by_proposal(work.session, proposal_id))


@router.put(
    "/bookings/{booking_id}/discount",
    response_model=BookingAnswer,
    summary="Ask less for a booking, with a reason",
    responses=problems(404, 409),
)
def put_discount(
    booking_id: str, asked: p.DiscountAsked, work: Annotated[Work, writes(Role.LAB_MANAGER)], version: IfMatch
) -> Response:
    """A share (1/100 %) or an amount, until the booking is charged; the latest one stands, neither takes it back."""
    booking = grant_discount(work, booking_id, asked.bp, asked.fen, asked.reason, version)
    return tagged(BookingAnswer.of(booking, possible_for(work.actor, booking)))


@router.post(
    "/manual-charge-proposals",
    status_code=201,
    response_model=p.ManualProposalAnswer,
    summary="Prepare a charge by hand for somebody else to approve",
    responses=problems(404, 409),
)
def propose_manual(asked: p.ManualAsked, work: Annotated[Work, writes(*_SIGNERS)], once: Once) -> Response:
    """Kept in the host's audit chain under the caller's name; nothing is charged by it."""
    items = [item.item() for item in asked.items]
    return once(
        lambda: p.ManualProposalAnswer.model_validate(
            manual.propose_manual_charge(work, asked.booking_id, items, asked.reason)
        )
    )


@router.get(
    "/manual-charge-proposals/{proposal_id}", summary="Read a proposed manual charge", responses=problems(403, 404)
)
def read_manual(proposal_id: str, work: Annotated[Work, reads(*_SIGNERS)]) -> p.ManualProposalAnswer:
    """For the host's managers and the county."""
    found = manual.find_manual_proposal(work.session, proposal_id)
    require_host_role(work, found.host_id, (Role.COUNTY_OFFICER, Role.AUDITOR), "查看该草案", "read this proposal")
    return p.ManualProposalAnswer.model_validate(found)


@router.post(
    "/manual-charge-proposals/{proposal_id}/approval",
    status_code=201,
    response_model=schemas.ChargeAnswer,
    summary="Approve and post a manual charge that somebody else prepared",
    responses=problems(404, 409),
)
def approve_manual(proposal_id: str, work: Annotated[Work, writes(*_SIGNERS)], once: Once) -> Response:
    """The second person is the caller; whoever prepared it cannot approve it (409 `same_person`)."""
    return once(lambda: schemas.ChargeAnswer.model_validate(manual.approve_manual_charge(work, proposal_id)))
