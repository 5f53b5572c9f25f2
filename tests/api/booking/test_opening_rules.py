"""When a slot may be: every refusal names its rule, and what is proposed instead keeps them all."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.booking.opening_rules import alternatives, binding, check_slot
from api.booking.slots import Interval
from api.errors import Refused
from api.registry.opening import Opening
from api.registry.slot_terms import SlotTerms, fault_of
from store.periods import SHANGHAI
from store.tables.calendar import BookingMode, UsePurpose
from store.tables.registry import ALWAYS_OPEN

MONDAY = datetime(2026, 3, 2, 8, 0, tzinfo=SHANGHAI)
H, M = timedelta(hours=1), timedelta(minutes=1)
TERMS = SlotTerms(Opening("1-5 08:00-18:00", {"2026-03-04": None, "2026-03-07": 1}), 60, 60, 30, 480, 30, 15)


def slot(days: int, hour: float, hours: float) -> Interval:
    start = MONDAY.replace(hour=0) + timedelta(days=days) + hour * H
    return Interval(start, start + hours * H)


@pytest.mark.parametrize(
    ("wanted", "code", "fact"),
    [
        (slot(0, 7, 1), "slot_in_the_past", "from"),
        (slot(0, 8.5, 1), "slot_too_soon", "earliest"),
        (slot(70, 9, 1), "slot_too_far_ahead", "latest"),
        (slot(1, 9, 1 / 4), "slot_too_short", "min_slot_minutes"),
        (slot(1, 8, 9), "slot_too_long", "max_slot_minutes"),
        (slot(1, 9 + 1 / 6, 1), "slot_off_step", "step_minutes"),
        (slot(1, 9, 1 + 1 / 6), "slot_off_step", "step_minutes"),
        (slot(1, 17.5, 1), "instrument_closed", "open_hours"),
        (slot(2, 9, 1), "instrument_closed", "special_days"),
        (slot(6, 9, 1), "instrument_closed", "open_hours"),
        (slot(1, 10, 0), "slot_reversed", "from"),
    ],
)
def test_a_slot_that_breaks_a_term_is_told_which(wanted: Interval, code: str, fact: str) -> None:
    with pytest.raises(Refused) as refused:
        check_slot(wanted, TERMS, MONDAY)
    assert (refused.value.status, refused.value.code) == (422, code)
    assert fact in refused.value.facts


def test_a_working_saturday_is_open_like_the_day_it_stands_for() -> None:
    check_slot(slot(5, 9, 1), TERMS, MONDAY)


def test_open_hours_bind_who_comes_and_not_the_lab_itself() -> None:
    night = slot(1, 22, 1)
    for mode, purpose in ((BookingMode.SAMPLES, UsePurpose.CUSTOMER), (BookingMode.SELF_OPERATED, UsePurpose.INTERNAL)):
        check_slot(night, binding(TERMS, mode, purpose, by_manager=True), MONDAY)
    with pytest.raises(Refused):
        check_slot(night, binding(TERMS, BookingMode.SELF_OPERATED, UsePurpose.CUSTOMER, by_manager=True), MONDAY)


def test_the_manager_needs_no_lead_time() -> None:
    soon = slot(0, 8.5, 1)
    check_slot(soon, binding(TERMS, BookingMode.SELF_OPERATED, UsePurpose.CUSTOMER, by_manager=True), MONDAY)


def test_no_instrument_takes_slots_longer_than_a_quarter() -> None:
    endless = replace(TERMS, opening=Opening(ALWAYS_OPEN), max_slot_minutes=10**6, step_minutes=0)
    held = binding(endless, BookingMode.SELF_OPERATED, UsePurpose.CUSTOMER, by_manager=False)
    with pytest.raises(Refused) as refused:
        check_slot(Interval(MONDAY + 2 * H, MONDAY + timedelta(days=93)), held, MONDAY)
    assert refused.value.code == "slot_too_long"


def test_alternatives_pass_over_the_night_the_holiday_and_the_weekend() -> None:
    tuesday_evening = slot(1, 16, 2)
    busy = [slot(1, 16, 2)]
    found = alternatives(tuesday_evening, busy, TERMS, MONDAY)
    assert [each.from_at.strftime("%d %H:%M") for each in found] == ["05 08:00", "05 10:30", "05 13:00"]


STEPS = st.sampled_from([0, 15, 30, 50, 60])


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 20)), max_size=12),
    st.integers(2, 200),
    st.integers(1, 8),
    STEPS,
    st.sampled_from(["1-5 08:00-18:00", "1-7 00:00-24:00", "2,4 09:00-12:00,13:30-17:00", ""]),
)
def test_every_alternative_keeps_every_term_and_is_free(
    taken: list[tuple[int, int]], start: int, length: int, step: int, week: str
) -> None:
    terms = replace(TERMS, opening=Opening(week, TERMS.opening.special), step_minutes=step, min_slot_minutes=0)
    half = timedelta(minutes=30)
    unit = timedelta(minutes=step) if step else half
    busy = [Interval(MONDAY + a * half, MONDAY + (a + n) * half) for a, n in taken]
    wanted = Interval(MONDAY + start * half, MONDAY + start * half + length * unit)
    found = alternatives(wanted, busy, terms, MONDAY)
    assert len(found) <= 3
    for one in found:
        assert fault_of(terms, one.from_at, one.to_at, MONDAY) is None
        held = Interval(one.from_at, one.to_at + timedelta(minutes=terms.buffer_minutes))
        assert not any(row.overlaps(held) for row in busy)
