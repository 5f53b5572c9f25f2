"""Post a charge that no use stands behind: a cancellation, a no-show, items entered by hand. Never commits.

Called by fees and manual with the booking locked. Has no evidence to freeze: its input says everything it rests on.
"""

from datetime import datetime

from api.charging.documents import charge_hash, input_document, lines_of
from api.charging.months import take_posting_month
from api.charging.rating import CURRENT_CALC_VERSION, RatingInput, rate
from api.charging.repository import last_charge, store_charge
from api.charging.use import certificate_valid
from api.work import Work
from store.canonical import sha256_hex
from store.periods import month_of
from store.tables.calendar import Booking
from store.tables.charging import Charge, ChargePurpose
from store.tables.registry import Host
from wire.clock import to_ms
from wire.ids import new_ulid


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
    document = input_document(given)
    service_month = month_of(service_at)
    charge = Charge(
        charge_id=new_ulid(),
        booking_id=booking.booking_id,
        purpose=purpose.value,
        revision=revision,
        prev_revision=None if revision == 1 else revision - 1,
        host_id=booking.host_id,
        payer_org=booking.payer_org,
        instrument_id=booking.instrument_id,
        category=booking.category,
        tariff_id=booking.tariff_id,
        tariff_version=booking.tariff_version,
        calc_version=CURRENT_CALC_VERSION,
        input=document.decode(),
        input_sha256=sha256_hex(document),
        service_at=service_at,
        service_month=service_month,
        posting_month=take_posting_month(work.session, booking.host_id, service_month),
        total_fen=rated.total_fen,
        net_fen=rated.net_fen,
        line_count=len(rated.lines),
        metered_ms=0,
        internal=booking.payer_org == work.session.get_one(Host, booking.host_id).org_id,
        has_session=False,
        certificate_valid=certificate_valid(work.session, booking.instrument_id, to_ms(service_at) + 1),
        coverage_bp=0,
        reason=reason,
        recorded_by=work.actor.person_id,
        recorded_at=work.now,
        row_hash="",
    )
    lines = lines_of(charge.charge_id, rated.lines)
    charge.row_hash = charge_hash(charge, lines, {})
    if not store_charge(work.session, charge, lines):
        return None
    work.audit(
        "charge.posted",
        f"charge:{charge.charge_id}",
        host_id=charge.host_id,
        after={
            "booking": booking.booking_id,
            "purpose": purpose.value,
            "revision": revision,
            "total_fen": charge.total_fen,
            "posting_month": charge.posting_month,
            "row_hash": charge.row_hash,
            "reason": reason,
        },
    )
    return charge
