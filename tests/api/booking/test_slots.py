"""Free slots that are proposed: free indeed, in order, and at the hours that were asked for."""

import itertools
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from api.booking.slots import Interval, free_slots
from store.periods import SHANGHAI

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=SHANGHAI)
H = timedelta(hours=1)
HALF = timedelta(minutes=30)


def hours(slots: tuple[Interval, ...]) -> list[str]:
    return [slot.from_at.astimezone(SHANGHAI).strftime("%d %H:%M") for slot in slots]


def test_the_next_free_slots_follow_what_is_taken() -> None:
    busy = [Interval(NINE, NINE + 2 * H), Interval(NINE + 4 * H, NINE + 5 * H)]
    found = free_slots(busy, Interval(NINE, NINE + 2 * H), timedelta(0), NINE)
    assert hours(found) == ["02 11:00", "02 14:00", "02 16:00"]


def test_who_asked_for_the_day_is_not_offered_the_night() -> None:
    found = free_slots([], Interval(NINE + 8 * H, NINE + 9 * H), timedelta(0), NINE)
    assert hours(found) == ["02 17:00", "03 08:00", "03 09:00"]


def test_who_asked_for_the_night_gets_it() -> None:
    found = free_slots([], Interval(NINE + 12 * H, NINE + 14 * H), timedelta(0), NINE)
    assert hours(found) == ["02 21:00", "02 23:00", "03 01:00"]


def test_where_nothing_is_free_for_a_fortnight_nothing_is_proposed() -> None:
    busy = [Interval(NINE - H, NINE + timedelta(days=20))]
    assert free_slots(busy, Interval(NINE, NINE + H), timedelta(0), NINE) == ()


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 40)), max_size=20),
    st.integers(-20, 100),
    st.integers(1, 50),
    st.integers(0, 4),
)
def test_every_proposal_is_free_as_long_as_asked_and_not_before_now(
    taken: list[tuple[int, int]], start: int, length: int, buffer: int
) -> None:
    busy = [Interval(NINE + a * HALF, NINE + (a + n) * HALF) for a, n in taken]
    wanted = Interval(NINE + start * HALF, NINE + (start + length) * HALF)
    found = free_slots(busy, wanted, buffer * HALF, NINE)
    for slot in found:
        assert slot.to_at - slot.from_at == wanted.to_at - wanted.from_at
        assert slot.from_at >= NINE
        assert not any(row.overlaps(Interval(slot.from_at, slot.to_at + buffer * HALF)) for row in busy)
    assert all(a.to_at + buffer * HALF <= b.from_at for a, b in itertools.pairwise(found))
