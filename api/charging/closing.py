"""The last step of a booking: `closed` once its charge is settled (or nothing is charged). Goes through the one state
machine of bookings; where that does not allow it yet (a report is still due), the booking stays as it is."""

from api.booking.history import record_event
from api.booking.states import BookingAction, Party, next_state, possible_actions
from api.charging.repository import last_charge
from api.charging.settled import settled_fen
from api.work import Work
from store.tables.calendar import Booking, BookingMode, BookingState


def may_close(booking: Booking) -> bool:
    """Whether the booking stands where it can be closed."""
    possible = possible_actions(BookingMode(booking.mode), BookingState(booking.state), [Party.SYSTEM])
    return BookingAction.CLOSE in possible


def close_booking(work: Work, booking: Booking, reason: str) -> None:
    """Close a booking that the caller has locked. Raises Refused 409 where its state does not allow it."""
    before = BookingState(booking.state)
    after = next_state(BookingMode(booking.mode), before, BookingAction.CLOSE, [Party.SYSTEM], reason)
    booking.state = after.value
    booking.row_version += 1
    work.session.flush()
    record_event(work, booking, BookingAction.CLOSE.value, before.value, reason)


def close_if_settled(work: Work, booking: Booking) -> bool:
    """Close a booking (locked by the caller) whose live charge is fully settled; return whether it was closed.

    Called when a payment is recorded, and by booking when a report comes after the payment.
    """
    charge = last_charge(work.session, booking.booking_id)
    if charge is None or charge.revision % 2 == 0 or not may_close(booking):
        return False
    if settled_fen(work.session, charge.charge_id) < charge.total_fen:
        return False
    close_booking(work, booking, f"charge {charge.charge_id} is settled")
    return True
