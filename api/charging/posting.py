"""Post a charge that no use stands behind: a cancellation, a no-show, items entered by hand. Never commits.

Called by fees and manual with the booking locked. Has no evidence to freeze: its input says everything it rests on.
"""

from datetime import datetime

from api.charging.documents import charge_hash, lines_of
from api.charging.header import audit_posted, new_charge
from api.charging.rating import CURRENT_CALC_VERSION, RatingInput, rate
from api.charging.repository import last_charge, store_charge
from api.work import Work
from store.tables.calendar import Booking
from store.tables.charging import Charge, ChargePurpose


def post_without_use(
    work: Work, booking: Booking, purpose: ChargePurpose, given: RatingInput, service_at: datetime, reason: str
) -> Charge | None:
    """Post it, unless it comes to nothing or a live charge of this purpose stands: then None, and nothing changes."""
    last = last_charge(work.session, booking.booking_id, purpose.value)
    if last is not None and last.revision % 2:
        return None
    rated = rate(given, CURRENT_CALC_VERSION)
    if rated.total_fen == 0:
        return None
    revision = 1 if last is None else last.revision + 1
    charge = new_charge(work, booking, purpose, revision, given, rated, service_at, reason)
    lines = lines_of(charge.charge_id, rated.lines)
    charge.row_hash = charge_hash(charge, lines, {})
    if not store_charge(work.session, charge, lines):
        return None
    audit_posted(work, charge)
    return charge
