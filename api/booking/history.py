"""What happened to a booking: one row an event, and the audit event beside it, in the transaction of the change."""

from typing import Any

from api.booking.notices import gather
from api.booking.repository import last_event_no
from api.work import Work
from store.canonical import canonical_json
from store.later import write_later
from store.tables.calendar import Booking, BookingEvent


def record_event(
    work: Work,
    booking: Booking,
    action: str,
    before: str,
    reason: str,
    facts: dict[str, Any] | None = None,
    event_no: int | None = None,
) -> None:
    """Record that a booking (locked by the caller) went from `before` to the state it has now.

    `facts` are integers and text, as the audit chain takes them. The number follows from the rows that are there,
    unless the caller has just made the booking and knows it.
    """
    said = facts or {}
    if event_no is None:
        event_no = last_event_no(work.session, booking.booking_id) + 1
    row = {
        "booking_id": booking.booking_id,
        "event_no": event_no,
        "at": work.now,
        "actor": work.actor.person_id,
        "from_state": before,
        "to_state": booking.state,
        "reason": reason,
        "facts": canonical_json(said).decode(),
    }
    write_later(work.session, BookingEvent, row)
    gather(work, booking, action, event_no, said)
    work.audit(
        f"booking.{action}",
        f"booking:{booking.booking_id}",
        host_id=booking.host_id,
        before={"state": before} if before else None,
        after={"state": booking.state, "row_version": booking.row_version, "reason": reason, **said},
    )
