"""Take an instrument out of service for a time. One transaction: first release or shorten what it hits, then the row.

Called by the endpoints. Bookings that have not begun are cancelled with the outage as their reason, or, where asked,
moved to the next free slot, held for the customer to agree to (a scheduled sample order goes back to "samples
received"). One that is under way keeps what the outage leaves of it: until its start or from its end on; where that is
nothing it is cancelled, free of charge. A reservation of the host's own keeps what is left on either side.
"""

from dataclasses import dataclass, field

from api.booking import calendar, displacement, repository
from api.booking.due import move_due
from api.booking.rules import HOLD_REQUESTED, check_slot_forward, times
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.booking.steps import StepInput, graces_of, take_step
from api.errors import conflict, invalid
from api.schemas import rfc3339
from api.work import Work, system_actor
from store.tables.accounts import Role
from store.tables.calendar import Booking, BookingMode, BookingState, CalendarKind, CalendarRow, DueKind
from store.tables.registry import Instrument

_UNDER_WAY = (BookingState.CHECKED_IN, BookingState.IN_USE)


@dataclass
class OutageOutcome:
    """The outage's row, what it did to the bookings it hit, by booking id, and the reservations it cut, by row id."""

    row_id: str = ""
    cancelled: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    unscheduled: list[str] = field(default_factory=list)
    shortened: list[str] = field(default_factory=list)
    reservations: list[str] = field(default_factory=list)


def declare_outage(work: Work, instrument_id: str, window: Interval, note: str, *, move: bool = False) -> OutageOutcome:
    """Declare that an instrument is out of service during `window`. By its lab manager.

    `move`: customers whose slot it takes are offered the next free one; where there is none, theirs is cancelled.

    Refused: 403, 404, 409 `outage_overlaps` (another outage), 422 for a reversed or past window or without a note.
    """
    repository.instrument_row(work.session, instrument_id)
    # Due rows come first in the order of locks: the worker holds one while it waits for the instrument.
    hits = _hit(work, instrument_id, window)
    for hit in hits:
        if move and hit.state in (BookingState.REQUESTED, BookingState.CONFIRMED):
            move_due(work.session, DueKind.EXPIRE_BOOKING, hit.booking_id, work.now + HOLD_REQUESTED)
    for hit in hits:
        if hit.state in (BookingState.CONFIRMED, *_UNDER_WAY) and hit.slot_from < window.from_at < hit.slot_to:
            at = window.from_at + graces_of(work, hit).late
            move_due(work.session, DueKind.COMPLETE_BOOKING, hit.booking_id, at)
    instrument = repository.instrument_row(work.session, instrument_id, lock=True)
    _check(work, instrument, window, note)
    outcome = OutageOutcome()
    by_rule = Work(work.session, system_actor(f"outage:{work.actor.person_id}"), work.now)
    displaced: list[Booking] = []
    for row in repository.calendar_between(work.session, instrument_id, window):
        if row.kind == CalendarKind.OUTAGE.value:
            raise conflict(
                "outage_overlaps",
                "该时段已登记停用;请改选其余时段。",
                "An outage is declared for that time already; choose the time that it leaves.",
                **times(Interval(row.from_at, row.to_at)),
            )
        booking = repository.booking_on_row(work.session, row.row_id)
        if booking is None:
            _cut_reservation(work, row, window)
            outcome.reservations.append(row.row_id)
            continue
        locked = repository.booking_row(work.session, by_rule.actor, booking.booking_id, lock=True)
        if move and displacement.can_move(work, locked, window):
            calendar.release(work, row.row_id)
            displaced.append(locked)
        else:
            _make_way(by_rule, locked, row, window, note, outcome)
    outcome.row_id = calendar.insert_row(work, instrument_id, CalendarKind.OUTAGE, window, note)
    for booking in displaced:  # only now: what is proposed has to be free of the outage
        said = f"outage: {note.strip()}"
        went = displacement.move_on(by_rule, instrument, booking, window, said)
        (outcome.moved if went else outcome.cancelled).append(booking.booking_id)
    work.audit(
        "outage.declared",
        f"instrument:{instrument_id}",
        host_id=instrument.host_id,
        after={
            **times(window),
            "row": outcome.row_id,
            "note": note,
            "cancelled": outcome.cancelled,
            "moved": outcome.moved,
            "unscheduled": outcome.unscheduled,
            "shortened": outcome.shortened,
            "reservations": outcome.reservations,
        },
    )
    return outcome


def _hit(work: Work, instrument_id: str, window: Interval) -> list[Booking]:
    rows = repository.calendar_between(work.session, instrument_id, window)
    bookings = (repository.booking_on_row(work.session, row.row_id) for row in rows)
    return sorted((booking for booking in bookings if booking), key=lambda booking: booking.booking_id)


def _check(work: Work, instrument: Instrument, window: Interval, note: str) -> None:
    if not work.actor.manages(instrument.host_id):
        work.require((Role.ADMIN,), "停用该仪器", "take this instrument out of service")
    check_slot_forward(window)
    if window.from_at < work.now:
        raise invalid(
            "outage_in_the_past",
            f"停用时间不能早于现在,请改为之后的时间({rfc3339(work.now)})。",
            f"An outage cannot begin before now; choose a later time ({rfc3339(work.now)}).",
            field="from",
            now=rfc3339(work.now),
        )
    if not note.strip():
        raise invalid("reason_required", "请写明停用原因。", "Say why the instrument is out of service.", field="note")


def _make_way(
    work: Work, booking: Booking, row: CalendarRow, window: Interval, note: str, outcome: OutageOutcome
) -> None:
    said = StepInput(reason=f"outage: {note.strip()}")
    state = BookingState(booking.state)
    if booking.slot_to <= window.from_at:
        # Only the buffer after the slot is in the way: the instrument is out of service then, which serves as well.
        _cut(work, row, window)
        return
    begun = state in _UNDER_WAY or (
        state in (BookingState.CONFIRMED, BookingState.SCHEDULED)
        and booking.slot_from - graces_of(work, booking).early <= work.now
    )
    if state is BookingState.REQUESTED or (state is BookingState.CONFIRMED and not begun):
        take_step(work, booking, BookingAction.CANCEL, said)
        outcome.cancelled.append(booking.booking_id)
    elif state is BookingState.SCHEDULED and not begun:
        take_step(work, booking, BookingAction.UNSCHEDULE, said)
        outcome.unscheduled.append(booking.booking_id)
    elif begun:
        _shorten(work, booking, row, window, said, outcome)
    else:
        # Over for the customer; only the rest of its time on the calendar (its buffer, say) is in the way.
        _cut(work, row, window)


def _shorten(
    work: Work, booking: Booking, row: CalendarRow, window: Interval, said: StepInput, outcome: OutageOutcome
) -> None:
    """Leave a booking that has begun what the outage leaves of its slot, on the calendar and in the booking alike."""
    facts = {"slot_from_before": rfc3339(booking.slot_from), "slot_to_before": rfc3339(booking.slot_to)}
    if booking.slot_from < window.from_at:
        booking.slot_to = window.from_at
    elif window.to_at < booking.slot_to:
        booking.slot_from = window.to_at
    elif booking.mode == BookingMode.SELF_OPERATED.value:
        take_step(work, booking, BookingAction.CANCEL, said)
        outcome.cancelled.append(booking.booking_id)
        return
    elif booking.state == BookingState.SCHEDULED.value:
        take_step(work, booking, BookingAction.UNSCHEDULE, said)
        outcome.unscheduled.append(booking.booking_id)
        return
    _cut(work, row, window)
    facts |= {"slot_from": rfc3339(booking.slot_from), "slot_to": rfc3339(booking.slot_to)}
    take_step(work, booking, BookingAction.SHORTEN, said, facts)
    outcome.shortened.append(booking.booking_id)


def _cut_reservation(work: Work, row: CalendarRow, window: Interval) -> None:
    """Keep what lies before and after the outage; where both do, the later part becomes a reservation of its own."""
    rest = Interval(window.to_at, row.to_at)
    starts_before = row.from_at < window.from_at
    _cut(work, row, window)
    if starts_before and rest.from_at < rest.to_at:
        calendar.insert_row(work, row.instrument_id, CalendarKind.RESERVATION, rest, row.note)


def _cut(work: Work, row: CalendarRow, window: Interval) -> None:
    """Take the outage's time from a row: it keeps what lies before, else what lies after, else nothing."""
    if row.from_at < window.from_at:
        row.to_at = window.from_at
    elif window.to_at < row.to_at:
        row.from_at = window.to_at
    else:
        row.active = False
    work.session.flush()
