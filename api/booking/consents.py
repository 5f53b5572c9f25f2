"""Proposals as rows: made, looked up, closed. What agreeing to one does is in proposals.py.

Called by the service (a booking on a firm's behalf), the outages (another slot), the proposals and the steps (a booking
that ends closes what was proposed about it). At most one proposal of a booking is open; callers hold its lock.
"""

import json
from datetime import datetime, timedelta

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from api.booking.due import ensure_due
from api.booking.history import record_event
from api.booking.notices import Happening
from api.booking.offers import Price
from api.booking.slots import Interval
from api.booking.states import Party
from api.errors import Refused, conflict
from api.schemas import rfc3339
from api.work import Work
from store.tables.booking_rules import BookingProposal, ProposalKind, ProposalState
from store.tables.calendar import Booking, DueKind
from wire.ids import new_ulid

ANSWER_WITHIN = timedelta(hours=48)
_OPEN = select(BookingProposal).where(
    BookingProposal.booking_id == bindparam("booking"), BookingProposal.state == ProposalState.OPEN.value
)


def propose(
    work: Work,
    booking: Booking,
    kind: ProposalKind,
    by: Party,
    slot: Interval,
    price: Price,
    reason: str,
    until: datetime,
) -> BookingProposal:
    """Store a proposal and record it as an event of the booking. Refused 409 `proposal_open` where one is open."""
    standing = open_proposal(work.session, booking.booking_id)
    if standing is not None:
        raise conflict(
            "proposal_open",
            "该预约已有待答复的变更提议;请先答复或撤回。",
            "A proposal for this booking is waiting for an answer; answer or withdraw that one first.",
            proposal_id=standing.proposal_id,
        )
    total = price.rated.total_fen
    proposal = BookingProposal(
        proposal_id=new_ulid(),
        booking_id=booking.booking_id,
        kind=kind.value,
        state=ProposalState.OPEN.value,
        by_party=by.value,
        proposed_by=work.actor.person_id,
        slot_from=slot.from_at,
        slot_to=slot.to_at,
        tariff_id=price.tariff_id,
        tariff_version=price.tariff_version,
        category=price.category.value,
        quote=price.document,
        quote_sha256=price.sha256,
        total_fen=total,
        difference_fen=total - quoted_fen(booking),
        reason=reason,
        created_at=work.now,
        expires_at=until,
        answered_by=None,
        answered_at=None,
        answer_note="",
        row_version=1,
    )
    work.session.add(proposal)
    work.session.flush()
    tell(work, booking, Happening.PROPOSED, proposal, reason)
    return proposal


def ask_payer(work: Work, booking: Booking, price: Price) -> BookingProposal:
    """Ask the paying firm whether it wants a booking that somebody made for it, while the slot is held."""
    slot = Interval(booking.slot_from, booking.slot_to)
    until = booking.held_until or booking.slot_from
    kind = ProposalKind.ON_BEHALF
    by = Party.MANAGER if work.actor.manages(booking.host_id) else Party.OFFICER
    return propose(work, booking, kind, by, slot, price, "", until)


def open_proposal(session: Session, booking_id: str) -> BookingProposal | None:
    """Return the proposal of a booking that waits for an answer."""
    return session.scalars(_OPEN, {"booking": booking_id}).one_or_none()


def proposals_seen(booking_id: str) -> Select[BookingProposal]:
    """Return the selection of a booking's proposals."""
    return select(BookingProposal).where(BookingProposal.booking_id == booking_id)


def proposals_of(session: Session, booking_id: str) -> list[BookingProposal]:
    """Return all proposals of a booking, oldest first."""
    return list(session.scalars(proposals_seen(booking_id).order_by(BookingProposal.proposal_id)))


def close(work: Work, proposal: BookingProposal, state: ProposalState, note: str = "") -> None:
    """Give a proposal its answer."""
    proposal.state = state.value
    proposal.answered_by = work.actor.person_id
    proposal.answered_at = work.now
    proposal.answer_note = note.strip()
    proposal.row_version += 1
    work.session.flush()


def close_with_booking(work: Work, booking_id: str) -> None:
    """Withdraw what is proposed about a booking that has ended or begun: nobody can agree to it any more."""
    standing = open_proposal(work.session, booking_id)
    if standing is not None:
        close(work, standing, ProposalState.WITHDRAWN, "the booking went another way")


def require_agreed(session: Session, booking_id: str) -> None:
    """Raise 409 while the paying firm has not agreed to the booking or to its new slot."""
    standing = open_proposal(session, booking_id)
    if standing is not None and standing.kind != ProposalKind.RESCHEDULE.value:
        raise _waits(standing)


def tell(work: Work, booking: Booking, what: Happening, proposal: BookingProposal, reason: str) -> None:
    """Record what happened to a proposal as an event of its booking; the booking's version moves on with it."""
    booking.row_version += 1
    work.session.flush()
    facts = {
        "proposal": proposal.proposal_id,
        "kind": proposal.kind,
        "slot_from": rfc3339(proposal.slot_from),
        "slot_to": rfc3339(proposal.slot_to),
        "total_fen": proposal.total_fen,
        "difference_fen": proposal.difference_fen,
        "quote_sha256": proposal.quote_sha256,
        "expires_at": rfc3339(proposal.expires_at),
    }
    record_event(work, booking, what.value, booking.state, reason, facts)


def leave_expiry(session: Session, proposal: BookingProposal) -> None:
    """Have a proposal that nobody answers closed when its time is over."""
    ensure_due(session, DueKind.EXPIRE_PROPOSAL, proposal.proposal_id, proposal.expires_at)


def quoted_fen(booking: Booking) -> int:
    """Return the total that is frozen on a booking."""
    return int(json.loads(booking.quote)["total_fen"])


def _waits(standing: BookingProposal) -> Refused:
    return conflict(
        "waits_for_customer",
        f"须先由付款单位在 {rfc3339(standing.expires_at)} 前同意,才能确认该预约;请联系付款单位。",
        f"The paying firm has to agree first, until {rfc3339(standing.expires_at)}; ask it, then confirm the booking.",
        proposal_id=standing.proposal_id,
        expires_at=rfc3339(standing.expires_at),
    )
