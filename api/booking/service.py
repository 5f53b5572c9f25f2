"""Quote and book. Called by the endpoints, the pages and the seed; every rule of rules.py holds for each of them.

Takes a unit of work, writes into its transaction, never commits. What happens to a booking afterwards is in steps.py.
"""

from dataclasses import dataclass

from api.booking import calendar, repository, rules
from api.booking.due import ensure_due
from api.booking.history import record_event
from api.booking.rules import BookingRequest
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import take_step
from api.charging.documents import quote_document
from api.charging.inputs import check_ordered
from api.charging.rating import CURRENT_CALC_VERSION, Asked, Rated, RatingInput, quote_input, rate
from api.charging.tariff_body import TariffBody, UserCategory
from api.charging.tariffs import tariff_in_force
from api.errors import invalid
from api.schemas import rfc3339
from api.work import Work, system_actor
from store.canonical import sha256_hex
from store.tables.calendar import Booking, BookingMode, BookingState, DueKind
from store.tables.registry import Approval, Instrument, Org, OrgKind
from wire.clock import to_ms
from wire.ids import new_ulid

_CATEGORIES = {OrgKind.SME: UserCategory.SME, OrgKind.ACADEMIC: UserCategory.ACADEMIC}


@dataclass(frozen=True)
class Offer:
    """What a booking would cost and who would pay. `document` is the promise that a booking freezes."""

    instrument_id: str
    payer_org: str
    category: UserCategory
    tariff_id: str
    tariff_version: int
    rated: Rated
    document: str
    sha256: str
    warnings: tuple[str, ...]


def quote(work: Work, request: BookingRequest) -> Offer:
    """Return the price of a request by the tariff in force now, after every check that booking it would make.

    Whether the slot is free is not asked. Refused: 403, 404, 409 (not shared, out of order, no tariff), 422 (slot).
    """
    return _offer(work, request, repository.instrument_row(work.session, request.instrument_id))


def create_booking(work: Work, request: BookingRequest) -> tuple[Booking, Offer]:
    """Book: freeze the price, hold the slot, and confirm at once where the instrument needs no approval.

    Self-operated bookings take their slot on the calendar; one that waits for approval holds it for 24 hours, at most
    until it starts. Sample orders take none until they are scheduled. Refused: as `quote`, and 409 `slot_taken`.
    """
    instrument = repository.instrument_row(work.session, request.instrument_id, lock=True)
    offer = _offer(work, request, instrument)
    self_operated = request.mode is BookingMode.SELF_OPERATED
    row_id = calendar.occupy(work, instrument, request.slot) if self_operated else None
    held_until = min(work.now + rules.HOLD_REQUESTED, request.slot.from_at)
    booking = Booking(
        booking_id=new_ulid(),
        instrument_id=instrument.instrument_id,
        host_id=instrument.host_id,
        mode=request.mode.value,
        purpose=request.purpose.value,
        payer_org=offer.payer_org,
        person_id=work.actor.person_id,
        state=BookingState.REQUESTED.value,
        slot_from=request.slot.from_at,
        slot_to=request.slot.to_at,
        calendar_row_id=row_id,
        tariff_id=offer.tariff_id,
        tariff_version=offer.tariff_version,
        category=offer.category.value,
        quantity=request.quantity,
        confirmed_quantity=None,
        quote=offer.document,
        quote_sha256=offer.sha256,
        checked_in_at=None,
        checked_out_at=None,
        held_until=held_until,
        note=request.note,
        created_at=work.now,
        row_version=1,
    )
    work.session.add(booking)
    work.session.flush()
    record_event(work, booking, "book", "", "", _asked(booking))
    if instrument.approval == Approval.AUTOMATIC.value or work.actor.manages(instrument.host_id):
        by_rule = Work(work.session, system_actor("booking"), work.now)
        take_step(by_rule, booking, BookingAction.CONFIRM)
    else:
        ensure_due(work.session, DueKind.EXPIRE_BOOKING, booking.booking_id, held_until)
    return booking, offer


def category_of(work: Work, host_org: Org, payer: Org) -> UserCategory:
    """Return what a payer is to a host now: its own, affiliated, or by its kind."""
    if payer.org_id == host_org.org_id:
        return UserCategory.OWN
    if repository.is_affiliated(work.session, host_org.org_id, payer.org_id, work.now):
        return UserCategory.AFFILIATE
    return _CATEGORIES.get(OrgKind(payer.kind), UserCategory.OTHER)


def busy_calendar(work: Work, instrument_id: str, window: Interval) -> tuple[Interval, ...]:
    """Return when an instrument is taken within a window of at most 92 days: times, never whose. Raises 404, 422."""
    rules.check_slot_forward(window)
    if window.to_at - window.from_at > rules.CALENDAR_SPAN:
        raise invalid(
            "window_too_long", "一次最多查询 92 天。", "Ask for at most 92 days at a time.", field="to", days=92
        )
    repository.instrument_row(work.session, instrument_id)
    return repository.busy_between(work.session, instrument_id, window)


def _offer(work: Work, request: BookingRequest, instrument: Instrument) -> Offer:
    owner = repository.host_org(work.session, instrument.host_id)
    payer = repository.org_row(work.session, rules.payer_of(work.actor, request, instrument, owner.org_id))
    rules.check_parties(payer, owner)
    rules.check_instrument(instrument, request)
    rules.check_slot(request.slot, instrument, work.now)
    rules.check_quantity(request)
    tariff = tariff_in_force(work.session, instrument.instrument_id, work.now)
    category = category_of(work, owner, payer)
    given = _input(tariff.body, category, request)
    check_ordered(tariff.body, given.asked)
    rated = rate(given, CURRENT_CALC_VERSION)
    document = quote_document(given, rated, CURRENT_CALC_VERSION)
    certified = repository.has_certificate(work.session, instrument.instrument_id, request.slot)
    return Offer(
        instrument_id=instrument.instrument_id,
        payer_org=payer.org_id,
        category=category,
        tariff_id=tariff.tariff_id,
        tariff_version=tariff.version,
        rated=rated,
        document=document.decode(),
        sha256=sha256_hex(document),
        warnings=() if certified else (rules.NO_CERTIFICATE,),
    )


def _input(tariff: TariffBody, category: UserCategory, request: BookingRequest) -> RatingInput:
    start = to_ms(request.slot.from_at)
    asked = Asked(request.rush, request.options)
    return quote_input(
        tariff, category, request.mode, start, to_ms(request.slot.to_at) - start, request.quantity, asked
    )


def _asked(booking: Booking) -> dict[str, str | int]:
    return {
        "instrument": booking.instrument_id,
        "payer": booking.payer_org,
        "purpose": booking.purpose,
        "slot_from": rfc3339(booking.slot_from),
        "slot_to": rfc3339(booking.slot_to),
        "quantity": booking.quantity,
        "quote_sha256": booking.quote_sha256,
    }
