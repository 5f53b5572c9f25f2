"""Fees for bookings that were not used: late cancellation and no-show, by the terms of the frozen price list.

Called by the booking steps inside the transition itself, with the booking locked: the fee is there exactly when the
state is. An instrument that does not work, or an outage in the slot, waives both; a session that is found later voids a
no-show. These charges carry their own purpose, so no reward ever counts them.
"""

import json
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.charging.posting import post_without_use
from api.charging.rating_types import Ending, RatingInput
from api.charging.repository import last_charge
from api.charging.reversal import reverse_charge
from api.charging.tariff_body import UserCategory
from api.charging.tariffs import pinned_tariff
from api.charging.waiting import is_undecided
from api.work import Work
from store.tables.calendar import Booking, BookingMode, BookingState, CalendarKind, CalendarRow, UsePurpose
from store.tables.charging import ChargePurpose
from store.tables.registry import Instrument, RunStatus

_MS = timedelta(milliseconds=1)


def charge_cancellation(work: Work, booking: Booking) -> dict[str, Any]:
    """Charge a customer's cancellation of a confirmed slot, at `work.now`; return the facts for the booking's event."""
    notice_ms = max(0, (booking.slot_from - work.now) // _MS)
    return _charge(work, booking, ChargePurpose.CANCELLATION, notice_ms)


def charge_no_show(work: Work, booking: Booking, unproved: str) -> dict[str, Any]:
    """Charge a booking that nobody came to. `unproved`: why the meter cannot witness that; the fee is waived then."""
    if unproved:
        return {"fee_waived": f"not witnessed: {unproved}"}
    return _charge(work, booking, ChargePurpose.NO_SHOW, 0)


def no_show_is_questioned(session: Session, booking: Booking) -> bool:
    """Whether the fee of a no-show stands and somebody's dispute or correction of it waits: it is answered first."""
    if booking.state != BookingState.NO_SHOW.value:
        return False
    live = last_charge(session, booking.booking_id, ChargePurpose.NO_SHOW.value)
    return live is not None and live.revision % 2 == 1 and is_undecided(session, live.charge_id)


def void_no_show(work: Work, booking: Booking) -> dict[str, Any]:
    """Take the fee of a no-show back because use was found; return the facts for the booking's event."""
    live = last_charge(work.session, booking.booking_id, ChargePurpose.NO_SHOW.value)
    if live is None or live.revision % 2 == 0:
        return {}
    reversal = reverse_charge(work, live.charge_id, "use was found: it was no no-show")
    return {"fee_reversed": live.charge_id, "reversal": reversal.charge_id}


def _charge(work: Work, booking: Booking, purpose: ChargePurpose, notice_ms: int) -> dict[str, Any]:
    if booking.purpose != UsePurpose.CUSTOMER.value:
        return {}
    body = pinned_tariff(work.session, booking.tariff_id, booking.tariff_version).body
    promised = json.loads(booking.quote)
    given = RatingInput(
        body,
        UserCategory(booking.category),
        BookingMode(booking.mode),
        promised["input"]["slot_ms"],
        0,
        booking.quantity,
        instead=Ending(purpose, promised["total_fen"], notice_ms),
    )
    # First, and also where no fee was agreed: what waives a fee is no strike either.
    waived = _why_waived(work, booking, timedelta(milliseconds=given.slot_ms))
    if waived:
        return {"fee_waived": waived}
    terms = body.cancellation if purpose is ChargePurpose.CANCELLATION else body.no_show
    if terms is None:
        return {}
    service_at = work.now if purpose is ChargePurpose.CANCELLATION else min(work.now, booking.slot_to - _MS)
    charge = post_without_use(work, booking, purpose, given, service_at, "")
    return {} if charge is None else {"fee_charge": charge.charge_id, "fee_fen": charge.total_fen}


def _why_waived(work: Work, booking: Booking, promised: timedelta) -> str:
    """Return why the customer owes nothing, "" where it does. The slot is the one that was promised, whichever of its
    ends an outage has cut since."""
    status = work.session.get_one(Instrument, booking.instrument_id).run_status
    if status != RunStatus.NORMAL.value:
        return f"instrument {status}"
    outage = select(CalendarRow.row_id).where(
        CalendarRow.instrument_id == booking.instrument_id,
        CalendarRow.kind == CalendarKind.OUTAGE.value,
        CalendarRow.active,
        CalendarRow.from_at < booking.slot_from + promised,
        CalendarRow.to_at > booking.slot_to - promised,
    )
    row_id = work.session.scalars(outage.limit(1)).first()
    return "" if row_id is None else f"outage {row_id}"
