"""What an outage leaves of bookings that have begun and of the host's own reservations."""

import json
from datetime import datetime

import pytest

from api.booking import reservations
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.errors import Refused
from store.tables.audit import AuditEvent
from store.tables.calendar import BookingMode, BookingState, CalendarKind
from store.tables.charging import Charge
from tests.support.builders_booking import FIRM_A, FIRM_B, HOUR, MANAGER, MINUTE, WORKER, Office
from tests.support.consent import outage, refused

A, S = BookingAction, BookingState


def begun(office: Office, hours: float = 4) -> str:
    """A booking that is checked in twelve minutes before its slot."""
    booking_id = office.book(FIRM_A, Interval(office.now + 12 * MINUTE, office.now + 12 * MINUTE + hours * HOUR))
    office.do(FIRM_A, booking_id, A.CHECK_IN)
    return booking_id


def book_b(office: Office, slot: Interval) -> str:
    return office.book(FIRM_B, slot)


def test_an_outage_before_a_begun_booking_leaves_it_the_rest_of_its_slot(office: Office) -> None:
    booking_id = begun(office)
    was = office.booking(booking_id)
    window = Interval(office.now + 3 * MINUTE, office.now + 33 * MINUTE)
    done = outage(office, window)
    assert (done.shortened, done.cancelled, done.moved) == ([booking_id], [], [])
    booking = office.booking(booking_id)
    assert (booking.state, booking.slot_from, booking.slot_to) == (S.CHECKED_IN, window.to_at, was.slot_to)
    assert refused(office, book_b, Interval(window.to_at + HOUR, window.to_at + 2 * HOUR)) == "slot_taken"
    assert [(row.from_at, row.to_at) for row in office.active_rows()] == [
        (window.from_at, window.to_at),
        (window.to_at, was.slot_to),
    ]


def test_a_begun_booking_that_loses_its_whole_slot_is_cancelled_free_of_charge(sqlite_office: Office) -> None:
    booking_id = begun(sqlite_office, 1)
    done = outage(sqlite_office, Interval(sqlite_office.now + 3 * MINUTE, sqlite_office.now + 3 * HOUR))
    assert (done.cancelled, done.shortened) == ([booking_id], [])
    assert sqlite_office.booking(booking_id).state == S.CANCELLED
    assert sqlite_office.all_of(Charge) == []
    assert [row.kind for row in sqlite_office.active_rows()] == [CalendarKind.OUTAGE]


def test_use_found_before_the_slot_does_not_keep_a_slot_that_an_outage_takes(sqlite_office: Office) -> None:
    from api.booking.steps import take_step
    from store.tables.calendar import Booking

    booking_id = begun(sqlite_office, 1)
    with sqlite_office.work(WORKER) as work:
        take_step(work, work.session.get_one(Booking, booking_id, with_for_update=True), A.USE_FOUND)
    assert outage(sqlite_office, Interval(sqlite_office.now, sqlite_office.now + 3 * HOUR)).cancelled == [booking_id]


def test_a_scheduled_sample_order_within_its_grace_goes_back_where_its_slot_is_lost(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=1)
    sqlite_office.do(MANAGER, booking_id, A.RECEIVE, samples=("one",))
    soon = Interval(sqlite_office.now + 10 * MINUTE, sqlite_office.now + HOUR)
    sqlite_office.do(MANAGER, booking_id, A.SCHEDULE, slot=soon)
    done = outage(sqlite_office, Interval(sqlite_office.now, sqlite_office.now + 3 * HOUR))
    assert done.unscheduled == [booking_id]
    assert sqlite_office.booking(booking_id).state == S.SAMPLES_RECEIVED


@pytest.mark.parametrize(
    ("start", "hours", "left"),
    [(3, 1, [(2, 3), (4, 6)]), (1, 2, [(3, 6)]), (5, 2, [(2, 5)]), (1, 8, []), (2, 4, [])],
)
def test_an_outage_leaves_a_reservation_what_it_does_not_take(
    sqlite_office: Office, start: float, hours: float, left: list[tuple[float, float]]
) -> None:
    base = sqlite_office.now
    with sqlite_office.work(MANAGER) as work:
        kept = reservations.reserve(work, sqlite_office.instrument, sqlite_office.slot(2, 4), "own work").row_id
    done = outage(sqlite_office, sqlite_office.slot(start, hours))
    rows = [row for row in sqlite_office.active_rows() if row.kind == CalendarKind.RESERVATION]
    assert [((row.from_at - base) / HOUR, (row.to_at - base) / HOUR) for row in rows] == left
    assert {row.note for row in rows} <= {"own work"}
    assert done.reservations == [kept]
    (event,) = [row for row in sqlite_office.all_of(AuditEvent) if row.action == "outage.declared"]
    assert json.loads(event.body)["after"]["reservations"] == [kept]


def test_an_outage_without_a_foreseeable_end_cancels_what_nothing_can_be_offered_for(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(2, 1))
    end = datetime(9999, 12, 30, tzinfo=sqlite_office.now.tzinfo)
    assert outage(sqlite_office, Interval(sqlite_office.now + HOUR, end)).cancelled == [booking_id]


@pytest.mark.parametrize("year", [9999, 2199])
def test_a_slot_without_a_foreseeable_end_is_too_long(sqlite_office: Office, year: int) -> None:
    with pytest.raises(Refused) as told:
        sqlite_office.book(FIRM_A, Interval(sqlite_office.now + HOUR, sqlite_office.now.replace(year=year, month=12)))
    assert told.value.code == "slot_too_long"
