"""What every new charge says of itself, whatever it is for. Built here by posting with use (service) and without.

The row's own hash is over its lines and evidence too: whoever posts sets it last.
"""

from datetime import datetime

from api.charging.documents import input_document
from api.charging.months import take_posting_month
from api.charging.rating import CURRENT_CALC_VERSION, Rated, RatingInput
from api.charging.use import certificate_valid
from api.work import Work
from store.canonical import sha256_hex
from store.periods import month_of
from store.tables.calendar import Booking
from store.tables.charging import Charge, ChargePurpose
from store.tables.registry import Host
from wire.clock import to_ms
from wire.ids import new_ulid


def new_charge(
    work: Work,
    booking: Booking,
    purpose: ChargePurpose,
    revision: int,
    given: RatingInput,
    rated: Rated,
    service_at: datetime,
    reason: str,
    *,
    metered_ms: int = 0,
    has_session: bool = False,
    coverage_bp: int = 0,
) -> Charge:
    """Return a charge of this booking that is not stored yet and has no `row_hash`.

    `service_at`: the last instant of what is charged. It falls into that month's posting period where this is open,
    else into the next open one; the period is held until the end of the transaction.
    """
    document = input_document(given)
    service_month = month_of(service_at)
    return Charge(
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
        metered_ms=metered_ms,
        internal=booking.payer_org == work.session.get_one(Host, booking.host_id).org_id,
        has_session=has_session,
        certificate_valid=certificate_valid(work.session, booking.instrument_id, to_ms(service_at) + 1),
        coverage_bp=coverage_bp,
        reason=reason,
        recorded_by=work.actor.person_id,
        recorded_at=work.now,
        row_hash="",
    )


def audit_posted(work: Work, charge: Charge) -> None:
    """Say in the host's audit chain that a charge was posted."""
    work.audit(
        "charge.posted",
        f"charge:{charge.charge_id}",
        host_id=charge.host_id,
        after={
            "booking": charge.booking_id,
            "purpose": charge.purpose,
            "revision": charge.revision,
            "total_fen": charge.total_fen,
            "posting_month": charge.posting_month,
            "row_hash": charge.row_hash,
            "reason": charge.reason,
        },
    )
