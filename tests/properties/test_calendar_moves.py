"""Whatever is booked, moved, checked in, reserved, ended, displaced or cancelled, while time passes: active rows never
overlap, and nothing is lost.

Starts and ends lie on a coarse grid of a short day, so that touching, equal and containing intervals are common. What
holds after every step is checked from the tables alone: each booking that is promised or asked for has exactly one
active row, its slot and buffer; reservations hold what no outage took of them; nothing else but outages holds time; a
refused step changes nothing.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from api.booking import consents, proposals, reservations
from api.booking.outages import declare_outage
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.errors import Refused
from store.database import Database
from store.tables.booking_rules import BookingProposal, ProposalState
from store.tables.calendar import Booking, BookingEvent, BookingState, CalendarKind, CalendarRow, Due
from tests.support.builders_booking import FIRM_A, FIRM_B, MANAGER, Office, open_office
from wire.clock import ManualClock

MONDAY_NINE_MS = 1_772_413_200_000
STEP, BUFFER = timedelta(minutes=30), timedelta(minutes=30)
HOLDING = (BookingState.REQUESTED, BookingState.CONFIRMED, BookingState.CHECKED_IN)
EXPECTED = {
    *("slot_taken", "outage_overlaps", "not_possible_now", "proposal_open", "same_slot", "price_differs"),
    *("answered_already", "over_already", "waits_for_customer", "slot_reversed", "not_check_in_time"),
    *("proposal_expired", "hold_expired", "slot_in_the_past"),
}

PLACE, LENGTH, WHICH = st.integers(0, 9), st.integers(1, 3), st.integers(0, 6)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("book"), PLACE, LENGTH, WHICH),
        st.tuples(st.just("move"), PLACE, LENGTH, WHICH),
        st.tuples(st.just("answer"), st.integers(0, 1), LENGTH, WHICH),
        st.tuples(st.just("cancel"), PLACE, LENGTH, WHICH),
        st.tuples(st.just("reserve"), PLACE, LENGTH, WHICH),
        st.tuples(st.just("outage"), PLACE, LENGTH, WHICH),
        st.tuples(st.just("end"), PLACE, LENGTH, WHICH),
        st.tuples(st.just("wait"), PLACE, LENGTH, WHICH),
        st.tuples(st.just("check_in"), PLACE, LENGTH, WHICH),
    ),
    max_size=12,
)


@pytest.fixture
def county(sqlite_database: Database) -> Office:
    office = open_office(sqlite_database, ManualClock(MONDAY_NINE_MS))
    office.change_instrument(buffer_minutes=BUFFER // timedelta(minutes=1))
    return office


@contextmanager
def empty_calendar(office: Office) -> Iterator[None]:
    with office.database.write() as session:
        session.execute(update(CalendarRow).values(active=False))
        session.execute(update(Booking).values(state=BookingState.CLOSED.value))
        session.execute(
            update(BookingProposal)
            .where(BookingProposal.state == ProposalState.OPEN.value)
            .values(state=ProposalState.EXPIRED.value, answered_at=office.now)
        )
        session.execute(delete(Due))
    yield


class Walk:
    """Carries out the steps of one example; a refusal has to be one of those expected. `cuts` are the starts of all
    outages, `reserved` is what the reservations have to hold."""

    def __init__(self, office: Office) -> None:
        self.office, self.booked = office, list[str]()
        self.cuts, self.reserved = set[datetime](), list[Interval]()

    def take(self, what: str, place: int, length: int, which: int) -> bool:
        """Take a step; return whether it was done."""
        slot = Interval(self.office.now + place * STEP, self.office.now + (place + length) * STEP)
        try:
            getattr(self, what)(slot, which)
        except Refused as refused:
            return self._expected(refused)
        return True

    def book(self, slot: Interval, which: int) -> None:
        self.booked.append(self.office.book((FIRM_A, FIRM_B)[which % 2], slot))

    def move(self, slot: Interval, which: int) -> None:
        booking = self._one(which)
        with self.office.work((MANAGER, self._firm(booking))[which % 2]) as work:
            proposals.propose_slot(work, booking.booking_id, slot, "later", booking.row_version)

    def answer(self, slot: Interval, which: int) -> None:
        booking = self._one(which)
        with self.office.database.read() as session:
            waiting = consents.open_proposal(session, booking.booking_id)
        if waiting is not None:
            asked = MANAGER if waiting.by_party == "customer" else self._firm(booking)
            accept = slot.from_at > self.office.now + STEP // 2 and which % 3 != 0
            with self.office.work(asked) as work:
                proposals.answer(work, waiting.proposal_id, accept, 1, "", waiting.quote_sha256)

    def cancel(self, slot: Interval, which: int) -> None:
        self.office.do(MANAGER, self._one(which).booking_id, BookingAction.CANCEL, reason="changed")

    def reserve(self, slot: Interval, which: int) -> None:
        with self.office.work(MANAGER) as work:
            reservations.reserve(work, self.office.instrument, slot, "own work")
        self.reserved.append(slot)

    def outage(self, slot: Interval, which: int) -> None:
        with self.office.work(MANAGER) as work:
            declare_outage(work, self.office.instrument, slot, "pump", move=bool(which % 2))
        self.cuts.add(slot.from_at)
        self._give_up(slot)

    def wait(self, slot: Interval, which: int) -> None:
        self.office.advance((slot.to_at - slot.from_at) / 2)

    def check_in(self, slot: Interval, which: int) -> None:
        booking = self._one(which)
        self.office.do(self._firm(booking), booking.booking_id, BookingAction.CHECK_IN)

    def end(self, slot: Interval, which: int) -> None:
        closures = [row for row in self.office.active_rows() if row.kind != CalendarKind.BOOKING]
        if closures:
            row = closures[which % len(closures)]
            with self.office.work(MANAGER) as work:
                reservations.end_closure(work, self.office.instrument, row.row_id, "done")
            if row.kind == CalendarKind.RESERVATION:
                self._give_up(Interval(max(row.from_at, self.office.now), row.to_at))

    def _give_up(self, window: Interval) -> None:
        """Take a window out of what is reserved."""
        before = [Interval(row.from_at, min(row.to_at, window.from_at)) for row in self.reserved]
        after = [Interval(max(row.from_at, window.to_at), row.to_at) for row in self.reserved]
        self.reserved = list({row for row in before + after if row.from_at < row.to_at})

    def _one(self, which: int) -> Booking:
        if not self.booked:
            raise Refused(409, "not_possible_now", "", "there is none")
        return self.office.booking(self.booked[which % len(self.booked)])

    @staticmethod
    def _expected(refused: Refused) -> bool:
        assert refused.code in EXPECTED, refused
        return False

    @staticmethod
    def _firm(booking: Booking) -> Any:
        return FIRM_A if booking.payer_org == "org-a" else FIRM_B


@given(ACTIONS)
@example([("book", 1, 2, 0), ("book", 3, 1, 1), ("move", 4, 2, 0), ("answer", 1, 1, 1)])
@example([("book", 2, 2, 0), ("move", 3, 2, 0), ("answer", 1, 1, 1), ("outage", 3, 1, 1), ("answer", 1, 1, 1)])
@example([("reserve", 1, 1, 0), ("book", 2, 1, 0), ("outage", 1, 3, 1), ("end", 1, 1, 0), ("book", 1, 1, 1)])
@example([("book", 1, 3, 0), ("wait", 0, 1, 0), ("check_in", 0, 1, 0), ("outage", 0, 1, 0), ("book", 2, 1, 1)])
@example([("reserve", 2, 3, 0), ("outage", 3, 1, 1), ("book", 2, 1, 0), ("wait", 0, 3, 0), ("end", 0, 1, 0)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_active_rows_never_overlap_and_every_live_booking_holds_exactly_its_own(
    county: Office, actions: list[tuple[str, int, int, int]]
) -> None:
    with empty_calendar(county):
        walk = Walk(county)
        for action in actions:
            before = snapshot(county)
            if not walk.take(*action):
                assert snapshot(county) == before, "a refused step changed something"
            check(county, walk)


def snapshot(office: Office) -> list[Any]:
    """What the calendar and the bookings say."""
    rows = [(row.row_id, row.from_at, row.to_at, row.kind) for row in office.active_rows()]
    with office.database.read() as session:
        bookings = session.execute(select(Booking.booking_id, Booking.state, Booking.slot_from, Booking.row_version))
        return [rows, sorted(tuple(row) for row in bookings)]


def check(office: Office, walk: Walk) -> None:
    rows = office.active_rows()
    assert all(a.to_at <= b.from_at for a, b in itertools.pairwise(rows))
    held = {row.row_id: row for row in rows if row.kind == CalendarKind.BOOKING}
    assert sorted(walk.reserved) == [
        Interval(row.from_at, row.to_at) for row in rows if row.kind == CalendarKind.RESERVATION
    ]
    stored = {booking.booking_id: booking for booking in office.all_of(Booking)}
    for booking_id in walk.booked:
        booking = stored[booking_id]
        row = held.pop(booking.calendar_row_id, None) if booking.calendar_row_id else None
        if booking.state in HOLDING:
            assert row is not None, f"{booking.state} without a row"
            assert row.from_at == booking.slot_from
            assert row.to_at == booking.slot_to + BUFFER or row.to_at in walk.cuts
            assert row.to_at >= booking.slot_to
        else:
            assert row is None, f"{booking.state} still holds its time"
    assert held == {}
    with_history = {event.booking_id for event in office.all_of(BookingEvent)}
    assert set(walk.booked) <= with_history
