"""A booking that lost its slot to an outage: the next free slot is held and proposed to the customer.

Called by the outages, with the instrument and the booking locked and the lost time released. The booking waits as
`requested` for the customer's word; declined or not answered it ends free of charge. Where no free slot keeps the rules
that the first one had to keep (the instrument works, papers, training), it is cancelled.
"""

from datetime import timedelta

from api.booking import calendar, consents
from api.booking.checks import bound_terms, check_rules_again, free_ahead
from api.booking.due import move_due
from api.booking.offers import Price
from api.booking.proposals import requote
from api.booking.rules import HOLD_REQUESTED
from api.booking.slots import Interval
from api.booking.states import BookingAction, Party
from api.booking.steps import StepInput, graces_of, take_step
from api.errors import Refused
from api.schemas import rfc3339
from api.work import Work
from store.tables.booking_rules import ProposalKind
from store.tables.calendar import Booking, BookingMode, BookingState, DueKind, UsePurpose
from store.tables.registry import Instrument

_MODE, _PURPOSE = BookingMode.SELF_OPERATED, UsePurpose.CUSTOMER


def can_move(work: Work, booking: Booking, window: Interval) -> bool:
    """Whether the customer can be offered another slot: a self-operated one that was asked for or promised, that the
    outage hits itself (not only its buffer), and that has not begun."""
    if booking.mode != _MODE.value or booking.purpose != _PURPOSE.value:
        return False
    if booking.slot_to <= window.from_at:
        return False
    if booking.state == BookingState.CONFIRMED.value:
        return booking.slot_from - graces_of(work, booking).early > work.now
    return booking.state == BookingState.REQUESTED.value


def move_on(work: Work, instrument: Instrument, booking: Booking, window: Interval, reason: str) -> bool:
    """Hold the next free slot that keeps every rule and propose it; where there is none, or no price, cancel.

    Returns whether it was moved.
    """
    booking.calendar_row_id = None
    found = _next_slot(work, instrument, booking, window)
    if isinstance(found, str):
        take_step(work, booking, BookingAction.CANCEL, StepInput(reason=reason), {"not_moved": found})
        return False
    slot, price = found
    lost = {"lost_from": rfc3339(booking.slot_from), "lost_to": rfc3339(booking.slot_to)}
    consents.close_with_booking(work, booking.booking_id)
    terms = bound_terms(work, instrument, slot, _MODE, _PURPOSE)
    booking.calendar_row_id = calendar.occupy(work, instrument, slot, terms)
    booking.slot_from, booking.slot_to = slot.from_at, slot.to_at
    booking.held_until = min(work.now + HOLD_REQUESTED, slot.from_at)
    # The caller has taken this row before the instrument's lock, in the order of locks.
    move_due(work.session, DueKind.EXPIRE_BOOKING, booking.booking_id, booking.held_until)
    facts = lost | {"slot_from": rfc3339(slot.from_at), "slot_to": rfc3339(slot.to_at)}
    take_step(work, booking, BookingAction.DISPLACE, StepInput(reason=reason), facts)
    consents.propose(work, booking, ProposalKind.DISPLACED, Party.SYSTEM, slot, price, reason, booking.held_until)
    return True


def _next_slot(work: Work, instrument: Instrument, booking: Booking, window: Interval) -> tuple[Interval, Price] | str:
    """Return the next slot that the customer can be offered, with its price, or the code of why there is none."""
    start = max(booking.slot_from, window.to_at)
    refused = "nothing_free"
    if start > work.now + timedelta(days=instrument.horizon_days):
        return refused
    wanted = Interval(start, start + (booking.slot_to - booking.slot_from))
    for slot in free_ahead(work, instrument, wanted, _MODE, _PURPOSE):
        try:
            check_rules_again(work, instrument, booking, slot)
            return slot, requote(work, booking, slot)
        except Refused as told:
            refused = told.code
    return refused
