"""When an instrument is open, which slots it takes, and which one is the next: rules without a database."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.registry.opening import BadHours, Opening, canonical, is_open, merge_special, open_spans
from api.registry.slot_terms import SlotFault, SlotTerms, fault_of, next_free
from api.registry.traceability import Standing, Validity, Verdict, certificate_verdict, standing
from store.periods import SHANGHAI
from store.tables.registry import ALWAYS_OPEN, SpecialDay

MONDAY = datetime(2026, 3, 2, tzinfo=SHANGHAI)
WEEK = "1-5 08:30-12:00,13:30-17:30; 6 08:30-12:00"


def at(day: int, clock: str) -> datetime:
    """A time of day, so many days after the Monday."""
    hour, minute = map(int, clock.split(":"))
    return MONDAY + timedelta(days=day, hours=hour, minutes=minute)


def terms(week: str = WEEK, **changed: int) -> SlotTerms:
    usual = {"lead_minutes": 0, "horizon_days": 366, "min_slot_minutes": 0, "max_slot_minutes": 1440}
    return SlotTerms(Opening(week), **(usual | {"step_minutes": 0, "buffer_minutes": 0} | changed))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (WEEK, WEEK),
        ("6 08:30-12:00;1-5 13:30-17:30, 08:30-12:00", WEEK),
        ("1,2,3 08:00-10:00; 3 10:00-11:00", "1-2 08:00-10:00; 3 08:00-11:00"),
        ("1-7 00:00-24:00", ALWAYS_OPEN),
        ("", ""),
    ],
)
def test_a_week_is_kept_in_one_way_of_writing(written: str, kept: str) -> None:
    assert canonical(written) == kept
    assert canonical(kept) == kept


@pytest.mark.parametrize(
    "text",
    ["8 08:00-10:00", "1", "1 8:00-10:00", "1 10:00-08:00", "1 22:00-24:30", "1 08:00-10:00,09:00-11:00", "5-1 8-9"],
)
def test_what_is_no_week_says_why_in_both_languages(text: str) -> None:
    with pytest.raises(BadHours) as refused:
        canonical(text)
    assert str(refused.value)
    assert refused.value.zh


def test_spans_join_over_midnight_and_a_holiday_closes() -> None:
    assert open_spans(Opening(ALWAYS_OPEN), at(0, "00:00"), at(9, "00:00")) == [(at(0, "00:00"), at(9, "00:00"))]
    night = Opening("1-7 22:00-24:00,00:00-06:00", {"2026-03-04": None})
    assert open_spans(night, at(0, "12:00"), at(3, "12:00")) == [
        (at(0, "22:00"), at(1, "06:00")),
        (at(1, "22:00"), at(2, "00:00")),
        (at(3, "00:00"), at(3, "06:00")),
    ]
    assert not is_open(Opening(WEEK, {"2026-03-02": None}), at(0, "09:00"), at(0, "10:00"))
    assert is_open(Opening(WEEK, {"2026-03-08": 1}), at(6, "14:00"), at(6, "15:00")), "a Sunday worked like a Monday"


def test_a_hosts_word_on_a_day_goes_before_the_countys() -> None:
    def day(host: str | None, like: int | None) -> SpecialDay:
        return SpecialDay(host_id=host, day="2026-05-01", like_weekday=like)

    assert merge_special([day("h01", 5), day(None, None), day("h02", 6)], "h01") == {"2026-05-01": 5}
    assert merge_special([day("h01", 5), day(None, None)], "h03") == {"2026-05-01": None}


@pytest.mark.parametrize(
    ("start", "end", "changed", "fault"),
    [
        (at(0, "09:00"), at(0, "10:00"), {}, None),
        (at(0, "10:00"), at(0, "09:00"), {}, SlotFault.NOT_FORWARD),
        (at(0, "08:30"), at(0, "10:00"), {}, SlotFault.IN_PAST),
        (at(0, "09:59"), at(0, "10:30"), {"lead_minutes": 60}, SlotFault.TOO_SOON),
        (at(0, "10:00"), at(0, "10:30"), {"lead_minutes": 60}, None),
        (at(8, "09:00"), at(8, "10:00"), {"horizon_days": 7}, SlotFault.TOO_FAR),
        (at(0, "10:00"), at(0, "10:29"), {"min_slot_minutes": 30}, SlotFault.TOO_SHORT),
        (at(0, "10:00"), at(0, "11:01"), {"max_slot_minutes": 60}, SlotFault.TOO_LONG),
        (at(0, "10:10"), at(0, "10:40"), {"step_minutes": 30}, SlotFault.OFF_STEP),
        (at(0, "10:00"), at(0, "10:40"), {"step_minutes": 30}, SlotFault.OFF_STEP),
        (at(0, "11:30"), at(0, "13:30"), {}, SlotFault.CLOSED),
        (at(6, "09:00"), at(6, "10:00"), {}, SlotFault.CLOSED),
    ],
)
def test_a_slot_keeps_every_term_or_says_which_it_breaks(
    start: datetime, end: datetime, changed: dict, fault: SlotFault | None
) -> None:
    assert fault_of(terms(**changed), start, end, at(0, "09:00")) is fault


def test_the_next_slot_leaves_its_buffer_before_the_following_booking() -> None:
    busy = [(at(0, "09:00"), at(0, "10:10")), (at(0, "11:20"), at(0, "11:50"))]
    wanted = terms(step_minutes=30, buffer_minutes=15)
    hour = timedelta(hours=1)
    assert next_free(wanted, busy, hour, at(0, "08:00")) == (at(0, "13:30"), at(0, "14:30"))
    assert next_free(wanted, busy[:1], hour, at(0, "08:00")) == (at(0, "10:30"), at(0, "11:30"))
    assert next_free(terms(week=""), [], hour, at(0, "08:00")) is None
    assert next_free(terms(min_slot_minutes=90), [], hour, at(0, "08:00")) is None


hours = st.sampled_from([WEEK, ALWAYS_OPEN, "2,4 06:00-23:00", "1-7 00:00-03:00,21:00-24:00"])


@settings(max_examples=60, deadline=None)
@given(
    week=hours,
    step=st.sampled_from([0, 15, 30, 50]),
    lead=st.sampled_from([0, 7, 60, 1500]),
    buffer=st.sampled_from([0, 10, 30]),
    length=st.sampled_from([30, 60, 150]),
    now=st.integers(0, 7 * 96),
    taken=st.lists(st.tuples(st.integers(0, 14 * 24), st.integers(1, 40)), max_size=8),
)
def test_the_next_slot_is_the_first_that_a_booking_would_get(
    week: str, step: int, lead: int, buffer: int, length: int, now: int, taken: list[tuple[int, int]]
) -> None:
    wanted = terms(week, step_minutes=step, lead_minutes=lead, buffer_minutes=buffer)
    length -= length % (step or 1)
    moment, long = MONDAY + timedelta(minutes=15 * now), timedelta(minutes=length or step)
    busy = []
    for start, lasts in sorted(taken):
        span = (MONDAY + timedelta(hours=start), MONDAY + timedelta(hours=start, minutes=15 * lasts))
        if not busy or span[0] >= busy[-1][1]:
            busy.append(span)

    def bookable(start: datetime) -> bool:
        rest = start + long + timedelta(minutes=buffer)
        kept = fault_of(wanted, start, start + long, moment) is None
        return kept and not any(one < rest and start < other for one, other in busy)

    found = next_free(wanted, busy, long, moment)
    assert found is not None
    assert found[1] - found[0] == long
    assert bookable(found[0])
    first = moment + timedelta(minutes=lead)
    earlier = [first, *(first + timedelta(minutes=n) for n in range(1, int((found[0] - first).total_seconds() // 60)))]
    assert not any(bookable(start) for start in earlier if start < found[0])


def test_certificates_cover_a_slot_alone_or_one_after_the_other() -> None:
    def paper(first: int, last: int) -> Validity:
        return Validity(at(first, "00:00"), at(last, "00:00"))

    slot = (at(3, "09:00"), at(5, "09:00"))
    assert standing([], *slot) is Standing.NONE
    assert standing([paper(0, 5)], *slot) is Standing.EXPIRED
    assert standing([paper(4, 9)], *slot) is Standing.EXPIRED
    assert standing([paper(0, 9)], *slot) is Standing.VALID
    assert standing([paper(4, 9), paper(0, 4)], *slot) is Standing.VALID
    assert standing([paper(0, 4), paper(5, 9)], *slot) is Standing.EXPIRED
    assert standing([paper(0, 5)], at(4, "09:00"), at(5, "00:00")) is Standing.VALID, "valid until, not including"


@pytest.mark.parametrize(
    ("found", "reports", "verdict"),
    [
        (Standing.VALID, ["cma", "internal"], Verdict.OK),
        (Standing.EXPIRED, ["internal"], Verdict.FLAG),
        (Standing.NONE, [], Verdict.FLAG),
        (Standing.EXPIRED, ["internal", "cnas"], Verdict.REFUSE),
        (Standing.NONE, ["cma"], Verdict.REFUSE),
    ],
)
def test_an_expired_certificate_blocks_accredited_tests_and_flags_the_rest(
    found: Standing, reports: list[str], verdict: Verdict
) -> None:
    assert certificate_verdict(found, reports) is verdict
