"""Whatever is booked, cancelled or put out of service: no two active rows overlap, and nothing is lost.

The services run over a real SQLite database; a model says what must come out. Boundaries are planted: slots start and
end on a coarse grid, so that touching, equal and containing intervals are common.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from api.booking.outages import declare_outage
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.errors import Refused
from store.database import Database
from store.tables.calendar import Booking, BookingEvent, BookingState, CalendarKind, CalendarRow, Due
from tests.support.builders_booking import FIRM_A, FIRM_B, MANAGER, Office, open_office
from wire.clock import ManualClock

MONDAY_NINE_MS = 1_772_413_200_000
STEP = timedelta(minutes=30)
BUFFER = timedelta(minutes=30)

SLOTS = st.tuples(st.integers(1, 10), st.integers(1, 4))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("book"), SLOTS),
        st.tuples(st.just("cancel"), st.tuples(st.integers(0, 9), st.just(0))),
        st.tuples(st.just("outage"), SLOTS),
    ),
    max_size=10,
)


@pytest.fixture
def county(sqlite_database: Database) -> Office:
    office = open_office(sqlite_database, ManualClock(MONDAY_NINE_MS))
    office.change_instrument(buffer_minutes=int(BUFFER.total_seconds() // 60))
    return office


@contextmanager
def empty_calendar(office: Office) -> Iterator[None]:
    """Give each example the same start: rows of the last one that nothing protects are closed, not deleted."""
    with office.database.write() as session:
        for row in session.scalars(select(CalendarRow).where(CalendarRow.active)):
            row.active = False
        for booking in session.scalars(select(Booking)):
            booking.state = BookingState.CLOSED.value
        session.execute(delete(Due))
    yield


@given(ACTIONS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_calendar_agrees_with_a_model_after_every_step(
    county: Office, actions: list[tuple[str, tuple[int, int]]]
) -> None:
    with empty_calendar(county):
        held: dict[str, Interval] = {}
        outages: list[Interval] = []
        slots: dict[str, Interval] = {}
        booked: list[str] = []
        for number, (what, (first, length)) in enumerate(actions):
            slot = Interval(county.now + first * STEP, county.now + (first + length) * STEP)
            if what == "book":
                taken = Interval(slot.from_at, slot.to_at + BUFFER)
                clash = any(taken.overlaps(row) for row in [*held.values(), *outages])
                booking_id = _book(county, slot, number)
                assert (booking_id is None) == clash
                if booking_id is not None:
                    held[booking_id], slots[booking_id] = taken, slot
                    booked.append(booking_id)
            elif what == "cancel" and first < len(booked):
                _cancel(county, booked[first], expected=booked[first] in held)
                held.pop(booked[first], None)
            elif what == "outage":
                clash = any(slot.overlaps(row) for row in outages)
                hit = {key for key in held if slots[key].overlaps(slot)}
                assert _outage(county, slot) == (None if clash else hit)
                if not clash:
                    outages.append(slot)
                    held = {key: _cut(row, slot) for key, row in held.items() if key not in hit}
            _check(county, held, outages, booked)


def _cut(row: Interval, window: Interval) -> Interval:
    """A buffer gives way to an outage."""
    return Interval(row.from_at, min(row.to_at, window.from_at)) if row.overlaps(window) else row


def _book(office: Office, slot: Interval, number: int) -> str | None:
    try:
        return office.book((FIRM_A, FIRM_B)[number % 2], slot)
    except Refused as refused:
        _expect(refused, "slot_taken")
        return None


def _cancel(office: Office, booking_id: str, expected: bool) -> None:
    try:
        office.do(MANAGER, booking_id, BookingAction.CANCEL, reason="changed")
        went = True
    except Refused as refused:
        _expect(refused, "not_possible_now")
        went = False
    assert went == expected


def _outage(office: Office, window: Interval) -> set[str] | None:
    try:
        with office.work(MANAGER) as work:
            done = declare_outage(work, office.instrument, window, "maintenance")
    except Refused as refused:
        _expect(refused, "outage_overlaps")
        return None
    return {*done.cancelled, *done.shortened}


def _expect(refused: Refused, code: str) -> None:
    assert refused.code == code


def _check(office: Office, held: dict[str, Interval], outages: list[Interval], booked: list[str]) -> None:
    rows = office.active_rows()
    assert all(a.to_at <= b.from_at for a, b in itertools.pairwise(rows))
    assert _times(rows, CalendarKind.BOOKING) == sorted((row.from_at, row.to_at) for row in held.values())
    assert _times(rows, CalendarKind.OUTAGE) == sorted((row.from_at, row.to_at) for row in outages)
    stored = {booking.booking_id: booking for booking in office.all_of(Booking)}
    for booking_id in booked:
        alive = stored[booking_id].state == BookingState.CONFIRMED
        assert alive == (booking_id in held)
    with_history = {event.booking_id for event in office.all_of(BookingEvent)}
    assert set(stored) == with_history


def _times(rows: list[CalendarRow], kind: CalendarKind) -> list[tuple[datetime, datetime]]:
    return [(row.from_at, row.to_at) for row in rows if row.kind == kind]
