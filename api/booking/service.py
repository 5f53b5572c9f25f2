"""Quote and book. Called by the endpoints, the pages and the seed; every rule holds for each of them.

Takes a unit of work, writes into its transaction, never commits. What happens to a booking afterwards is in steps.py.
"""

from dataclasses import dataclass

from api.booking import approval, calendar, consents, qualification, repository, rules, strikes
from api.booking.checks import check_papers, check_time
from api.booking.due import due_later
from api.booking.history import record_event
from api.booking.notices import Happening
from api.booking.offers import Offer, Wish, category_as, price_differs, price_of
from api.booking.rules import BookingRequest
from api.booking.setting import Setting, dates_of, setting_of
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import take_step
from api.charging.rating import Asked
from api.charging.tariff_body import UserCategory
from api.charging.tariffs import TariffInForce
from api.errors import invalid, not_found
from api.registry.slot_terms import SlotTerms
from api.schemas import rfc3339
from api.work import Work, system_actor
from store.tables.accounts import Person
from store.tables.booking_rules import BookingItem, StrikeEffect
from store.tables.calendar import Booking, BookingMode, BookingState, DueKind
from store.tables.registry import Affiliation, Instrument
from wire.ids import new_ulid


def quote(work: Work, request: BookingRequest) -> Offer:
    """Return the price of a request by the tariff in force now, after every check that booking it would make.

    Whether the slot is free is not asked. Refused: 403 (party, `not_qualified`, `blocked_by_strikes`), 404, 409 (not
    shared, out of order, no tariff, `certificate_expired`), 422 (slot, quantity, items).
    """
    examined = _examine(work, request)
    return _offer(work, request, examined)


def create_booking(work: Work, request: BookingRequest) -> tuple[Booking, Offer]:
    """Book: freeze the price, hold the slot, and confirm at once where the instrument's rule says so.

    Self-operated bookings take their slot on the calendar; one that waits for somebody holds it for 24 hours, at most
    until it starts. Sample orders take none until they are scheduled. Who books on a firm's behalf either says how it
    agreed (`consent`), or the firm is asked first. Refused: as `quote`, 409 `slot_taken`, and 409 `price_differs` where
    another price was agreed to. The booking is written with the session's next flush.
    """
    examined = _examine(work, request)
    self_operated = request.mode is BookingMode.SELF_OPERATED
    if self_operated and examined.is_taken:
        # Who comes too late for a slot hears so without waiting for those before them.
        raise calendar.slot_taken(work, examined.instrument, request.slot, examined.terms)
    offer = _offer_agreed(work, request, examined)
    row_id = calendar.occupy_unchanged(work, examined.instrument, request.slot) if self_operated else None
    if row_id is None:
        if repository.lock_instrument(work.session, request.instrument_id) != examined.instrument.row_version:
            work.session.expire_all()
            examined = _examine(work, request)
            offer = _offer_agreed(work, request, examined)
        if self_operated:
            row_id = calendar.occupy(work, examined.instrument, request.slot, examined.terms)
    booking = _new_booking(work, request, examined.instrument, offer, row_id)
    on_behalf = rules.is_on_behalf(work.actor, offer.payer_org, request)
    asked = _asked(booking)
    if on_behalf:
        asked |= {"on_behalf_by": work.actor.person_id, "consent": request.consent.strip()}
    with work.session.no_autoflush:  # nothing below reads what is written here, so all of it goes out at once
        _settle(work, booking, offer, asked, on_behalf and not request.consent.strip())
    return booking, offer


def _settle(work: Work, booking: Booking, offer: Offer, asked: dict[str, str | int], ask_payer: bool) -> None:
    """Record a new booking, and confirm it or leave it to whoever has to answer."""
    record_event(work, booking, Happening.BOOK.value, "", "", asked, event_no=1)
    if ask_payer:
        work.session.flush()
        consents.ask_payer(work, booking, offer.price)
    elif offer.decision.automatic:
        by_rule = Work(work.session, system_actor("booking"), work.now)
        take_step(by_rule, booking, BookingAction.CONFIRM, facts={"rule": offer.decision.why}, event_no=2)
        return
    due_later(work.session, DueKind.EXPIRE_BOOKING, booking.booking_id, booking.held_until or work.now)


def busy_calendar(work: Work, instrument_id: str, window: Interval) -> tuple[Interval, ...]:
    """Return when an instrument is taken within a window of at most 92 days: times, never whose. Raises 404, 422."""
    rules.check_slot_forward(window)
    if window.to_at - window.from_at > rules.CALENDAR_SPAN:
        raise invalid(
            "window_too_long",
            "一次最多查询 92 天;请分次查询。",
            "Ask for at most 92 days at a time.",
            field="to",
            days=92,
        )
    busy = repository.busy_between(work.session, instrument_id, window)
    if not busy:
        repository.instrument_row(work.session, instrument_id)  # free all the time, or none at all
    return busy


def _new_booking(
    work: Work, request: BookingRequest, instrument: Instrument, offer: Offer, row_id: str | None
) -> Booking:
    booking = Booking(
        booking_id=new_ulid(),
        instrument_id=instrument.instrument_id,
        host_id=instrument.host_id,
        mode=request.mode.value,
        purpose=request.purpose.value,
        payer_org=offer.payer_org,
        person_id=request.for_person or work.actor.person_id,
        state=BookingState.REQUESTED.value,
        slot_from=request.slot.from_at,
        slot_to=request.slot.to_at,
        calendar_row_id=row_id,
        tariff_id=offer.price.tariff_id,
        tariff_version=offer.price.tariff_version,
        category=offer.price.category.value,
        quantity=request.quantity,
        confirmed_quantity=None,
        quote=offer.price.document,
        quote_sha256=offer.price.sha256,
        checked_in_at=None,
        checked_out_at=None,
        held_until=min(work.now + rules.HOLD_REQUESTED, request.slot.from_at),
        note=request.note,
        created_at=work.now,
        row_version=1,
        needed_by=request.needed_by,
    )
    work.session.add(booking)
    if request.items:
        work.session.flush()
        items = [(item.test_item_id, item.samples) for item in request.items]
        work.session.add_all(BookingItem(booking_id=booking.booking_id, test_item_id=a, samples=b) for a, b in items)
    return booking


@dataclass(frozen=True)
class _Examined:
    """A request that broke no rule, with what the rules have looked at."""

    instrument: Instrument
    payer_org: str
    category: UserCategory
    terms: SlotTerms
    decision: approval.Decision
    warnings: tuple[str, ...]
    is_taken: bool
    tariff: TariffInForce | None


def _examine(work: Work, request: BookingRequest) -> _Examined:
    """Hold a request against every rule but the calendar and the price list."""
    person_id = request.for_person or work.actor.person_id
    named = request.payer_org or work.actor.org_id
    found = setting_of(work.session, request.instrument_id, named, person_id, work.now, request.slot)
    instrument, owner = found.instrument, found.owner
    payer_id = rules.payer_of(work.actor, request, instrument, owner.org_id)
    payer = found.payer
    if payer is None or payer.org_id != payer_id:
        payer = repository.org_row(work.session, payer_id)
    rules.check_parties(payer, owner)
    rules.check_instrument(instrument, request)
    own_terms, papers = dates_of(work.session, instrument, request.slot)
    terms = check_time(work, instrument, request.slot, request.mode, request.purpose, terms=own_terms)
    rules.check_quantity(request)
    reports = _check_items(work, request)
    warnings = check_papers(work, instrument, request.slot, reports, papers)
    decision = _decide(work, request, found, payer_id)
    category = category_as(owner, payer, found.affiliation == Affiliation.AFFILIATED.value)
    return _Examined(instrument, payer_id, category, terms, decision, warnings, found.is_taken, found.tariff)


def _offer(work: Work, request: BookingRequest, examined: _Examined) -> Offer:
    wish = Wish(request.mode, request.slot, request.quantity, Asked(request.rush, request.options))
    instrument_id = examined.instrument.instrument_id
    price, tariff = price_of(work, instrument_id, examined.category, wish, work.now, examined.tariff)
    return Offer(
        instrument_id,
        examined.payer_org,
        price,
        examined.decision,
        examined.warnings,
        wish,
        tariff.body,
    )


def _offer_agreed(work: Work, request: BookingRequest, examined: _Examined) -> Offer:
    """Return the offer of a request. Raise 409 `price_differs` where another price was agreed to."""
    offer = _offer(work, request, examined)
    if request.agreed_sha256 not in ("", offer.price.sha256):
        raise price_differs(offer.price)
    return offer


def _check_items(work: Work, request: BookingRequest) -> list[str]:
    if not request.items:
        return []
    found = repository.test_items(work.session, request.instrument_id)
    rules.check_items(request, found)
    wanted = {item.test_item_id for item in request.items}
    return [item.report_type for item in found if item.test_item_id in wanted]


def _decide(work: Work, request: BookingRequest, found: Setting, payer_org: str) -> approval.Decision:
    """Return whether it is confirmed at once. Refused: 404, 403 `not_qualified`, 403 `blocked_by_strikes`."""
    instrument = found.instrument
    by_manager = work.actor.manages(instrument.host_id)
    _check_operator(work, request, payer_org)
    rule = approval.rule_from(found.policy, instrument.approval)
    self_operated = request.mode is BookingMode.SELF_OPERATED
    qualified = self_operated and qualification.standing_by(found.training, request.slot.to_at).qualified
    attended = by_manager and request.for_person is None
    if self_operated and rule.needs_qualification and not qualified and not attended:
        raise qualification.not_qualified(instrument.instrument_id)
    if by_manager:
        return approval.Decision(True, "manager")
    probation = None
    if found.has_strikes:
        probation = strikes.probation_of(work.session, instrument.host_id, payer_org, work.now)
    if probation is not None and probation.effect is StrikeEffect.BLOCKED:
        raise strikes.blocked(probation)
    length = request.slot.to_at - request.slot.from_at if self_operated else None
    return approval.decide(rule, qualified, length, probation is not None)


def _check_operator(work: Work, request: BookingRequest, payer_org: str) -> None:
    """Raise 404 where the person who will stand at the instrument is not of the paying firm."""
    if request.for_person is None or request.for_person == work.actor.person_id:
        return
    person = work.session.get(Person, request.for_person)
    if person is None or person.org_id != payer_org or not person.active:
        raise not_found("付款单位的人员", "member of the paying firm", request.for_person)


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
