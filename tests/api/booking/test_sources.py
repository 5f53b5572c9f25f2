"""Two sources for one instrument: the use is matched once, the other is kept, held back and put to an officer."""

from datetime import datetime

import pytest
from sqlalchemy import delete

from api.booking.completion import LOOK_AGAIN, complete_booking
from api.booking.matching_service import match_session
from api.booking.sources import CLOCKS_DIFFER_MS, SECOND_SOURCE, Source, tells_the_same
from api.booking.unbooked import classify
from api.charging.anomalies import decide_anomaly
from api.charging.months_checklist import checklist
from api.errors import Refused
from api.verify.invariants import finished_use_is_priced, sessions_do_not_overlap
from store.tables.audit import Anomaly, Verdict
from store.tables.calendar import BookingState, BookingUse, Due, DueKind, UnbookedUse, UsePurpose
from store.tables.usage import Alert, UsageRecordRow
from tests.support.builders_booking import FIRM_A, HOUR, MANAGER, OFFICER, WORKER, Office
from tests.support.usage import StreamWriter
from wire.clock import to_ms
from wire.messages import PowerState

MINUTE_MS = 60_000
S = 1_000


def told(
    office: Office, start: datetime, agent: str | None = None, after_s: float = 70 * 60, minutes: float = 20
) -> str:
    """A box of its own tells a run, so long after it started; return the session's id."""
    writer = StreamWriter(office.instrument, agent, start_ms=to_ms(start))
    writer.tick(PowerState.STANDBY, after_s)
    name = writer.run(minutes, standby_s=0)
    writer.tick(PowerState.STANDBY, 2 * 3600)
    office.record(writer)
    return name


def stood_by(office: Office, start: datetime, agent: str) -> None:
    writer = StreamWriter(office.instrument, agent, start_ms=to_ms(start))
    writer.tick(PowerState.STANDBY, 4 * 3600)
    office.record(writer)


def match(office: Office, *names: str) -> None:
    for name in names:
        with office.work(WORKER) as work:
            assert match_session(work, name) is None
            work.session.execute(delete(Due).where(Due.subject_id == name, Due.kind == DueKind.MATCH_SESSION.value))


def decide(office: Office, session_id: str, verdict: Verdict) -> None:
    [anomaly] = [one for one in office.all_of(Anomaly) if (one.rule, one.subject_id) == (SECOND_SOURCE, session_id)]
    with office.work(OFFICER) as work:
        decide_anomaly(work, anomaly.anomaly_id, verdict, "looked at the boxes")


def held(office: Office) -> list[str]:
    return [one.subject_id for one in office.all_of(Anomaly) if one.rule == SECOND_SOURCE]


def matched(office: Office) -> list[tuple[str, int]]:
    return [(use.session_id, use.running_ms // MINUTE_MS) for use in office.all_of(BookingUse)]


def waits(office: Office) -> set[str]:
    return {due.subject_id for due in office.all_of(Due) if due.kind == DueKind.MATCH_SESSION.value}


def faults(office: Office) -> list[str]:
    with office.database.read() as session:
        return [one.key for check in (sessions_do_not_overlap, finished_use_is_priced) for one in check(session)]


def test_what_an_agent_tells_after_its_instrument_was_moved_is_kept_and_held_back(office: Office) -> None:
    start, booking_id, new = office.now, office.book(FIRM_A), office.moved()
    office.advance(5 * HOUR)
    by_old, by_new = told(office, start), told(office, start, new)
    match(office, by_old, by_new, by_old)
    assert matched(office) == [(by_new, 20)]
    assert (office.all_of(UnbookedUse), held(office)) == ([], [by_old])
    [alert] = [one for one in office.all_of(Alert) if one.rule == SECOND_SOURCE]
    assert (alert.subject, alert.owner, alert.times) == (office.instrument, "h01", 1)
    assert len([row for row in office.all_of(UsageRecordRow) if row.session_id == by_old]) == 21
    assert faults(office) == []
    with office.work(WORKER) as work:
        assert complete_booking(work, booking_id) is None  # nobody waits for the other one
    assert office.booking(booking_id).state == BookingState.COMPLETED


def test_late_records_from_before_the_move_are_matched_as_ever(sqlite_office: Office) -> None:
    start, booking_id = sqlite_office.now, sqlite_office.book(FIRM_A)
    sqlite_office.advance(2 * HOUR)
    moved_at, new = sqlite_office.now, sqlite_office.moved()
    sqlite_office.advance(8 * HOUR)
    match(sqlite_office, told(sqlite_office, moved_at, new))
    name = told(sqlite_office, start)
    match(sqlite_office, name)
    assert (matched(sqlite_office), held(sqlite_office)) == ([(name, 20)], [])
    assert sqlite_office.booking(booking_id).state == BookingState.IN_USE


@pytest.mark.parametrize("one_waits", [False, True])
def test_of_two_boxes_under_one_name_what_was_matched_stands_or_else_the_older_stream(
    office: Office, one_waits: bool
) -> None:
    start, booking_id = office.now, office.book(FIRM_A)
    office.advance(5 * HOUR)
    first = told(office, start)
    if not one_waits:
        match(office, first)
    office.clock.advance(30 * S)
    second = told(office, start)
    match(office, second, first)
    assert (matched(office), held(office)) == ([(first, 20)], [second])
    assert (office.booking(booking_id).state, faults(office)) == (BookingState.IN_USE, [])


def test_a_new_spool_that_begins_where_the_old_one_ends_is_no_second_source(sqlite_office: Office) -> None:
    start = sqlite_office.now
    sqlite_office.advance(5 * HOUR)
    first = told(sqlite_office, start)
    second = told(sqlite_office, start, after_s=90 * 60 - CLOCKS_DIFFER_MS / S, minutes=10)
    match(sqlite_office, first, second)
    assert (held(sqlite_office), len(sqlite_office.all_of(UnbookedUse)), faults(sqlite_office)) == ([], 2, [])


def test_an_officer_lets_it_be_matched_and_nobody_is_a_no_show_meanwhile(office: Office) -> None:
    start, booking_id, new = office.now, office.book(FIRM_A), office.moved()
    office.advance(5 * HOUR)
    name = told(office, start)
    stood_by(office, start, new)
    match(office, name)
    with office.work(WORKER) as work:
        assert complete_booking(work, booking_id) == office.now + LOOK_AGAIN
        month = office.now.year * 100 + office.now.month
        assert "undecided_anomalies" in {point.what for point in checklist(work.session, "h01", month)}
    decide(office, name, Verdict.CLEARED)
    assert waits(office) == {name}
    match(office, name)
    assert (matched(office), held(office), faults(office)) == ([(name, 20)], [name], [])
    with office.work(WORKER) as work:
        assert complete_booking(work, booking_id) is None
    assert office.booking(booking_id).state == BookingState.COMPLETED


def test_confirmed_it_stays_unbilled_for_good(sqlite_office: Office) -> None:
    start, booking_id, new = sqlite_office.now, sqlite_office.book(FIRM_A), sqlite_office.moved()
    sqlite_office.advance(5 * HOUR)
    name = told(sqlite_office, start)
    stood_by(sqlite_office, start, new)
    match(sqlite_office, name)
    decide(sqlite_office, name, Verdict.CONFIRMED)
    assert waits(sqlite_office) == set()
    match(sqlite_office, name)
    assert (matched(sqlite_office), faults(sqlite_office)) == ([], [])
    with sqlite_office.work(WORKER) as work:
        assert complete_booking(work, booking_id) is None
    assert sqlite_office.booking(booking_id).state == BookingState.NO_SHOW


def twice(office: Office) -> tuple[str, str]:
    """Two boxes told a run that nobody had booked."""
    start = office.now
    office.advance(5 * HOUR)
    return told(office, start), told(office, start)


def test_the_same_time_cannot_be_let_through_twice(sqlite_office: Office) -> None:
    first, second = twice(sqlite_office)
    match(sqlite_office, first, second)
    with pytest.raises(Refused) as refused:
        decide(sqlite_office, second, Verdict.CLEARED)
    assert (refused.value.code, refused.value.facts["sessions"]) == ("told_twice", [first])
    [use] = sqlite_office.all_of(UnbookedUse)
    with sqlite_office.work(MANAGER) as work:
        classify(work, first, use.from_at, UsePurpose.MAINTENANCE, "the wrong cable")
    decide(sqlite_office, second, Verdict.CLEARED)
    match(sqlite_office, second)
    assert {use.session_id for use in sqlite_office.all_of(UnbookedUse)} == {first, second}
    assert faults(sqlite_office) == []


def test_what_an_officer_let_through_stands_before_what_still_waits(sqlite_office: Office) -> None:
    first, second = twice(sqlite_office)
    match(sqlite_office, second)
    decide(sqlite_office, second, Verdict.CLEARED)
    match(sqlite_office, first)
    assert set(held(sqlite_office)) == {first, second}
    with pytest.raises(Refused):
        decide(sqlite_office, first, Verdict.CLEARED)
    match(sqlite_office, second, first)
    assert [use.session_id for use in sqlite_office.all_of(UnbookedUse)] == [second]


def test_a_session_whose_dates_are_known_to_be_wrong_speaks_for_no_time(sqlite_office: Office) -> None:
    start, booking_id = sqlite_office.now, sqlite_office.book(FIRM_A)
    ahead = told(sqlite_office, start)  # received before it can have been
    sqlite_office.advance(30 * HOUR)
    match(sqlite_office, ahead)
    name = told(sqlite_office, start)
    match(sqlite_office, name)
    assert (matched(sqlite_office), held(sqlite_office), faults(sqlite_office)) == ([(name, 20)], [], [])
    assert [use.session_id for use in sqlite_office.all_of(UnbookedUse)] == [ahead]
    assert sqlite_office.booking(booking_id).state == BookingState.IN_USE


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((0, 60 * S), (60 * S, 90 * S), False),
        ((0, 60 * S), (60 * S - CLOCKS_DIFFER_MS, 90 * S), False),
        ((0, 60 * S), (60 * S - CLOCKS_DIFFER_MS - 1, 90 * S), True),
        ((0, 60 * S), (20 * S, 23 * S), True),
        ((0, 4 * S), (2 * S, 6 * S), False),
        ((0, 4 * S), (1 * S, 5 * S), True),
        ((0, 0), (0, 60 * S), False),
    ],
)
def test_two_sessions_tell_the_same_where_they_share_more_than_clocks_differ(
    first: tuple[int, int], second: tuple[int, int], same: bool
) -> None:
    assert (tells_the_same(*first, *second), tells_the_same(*second, *first)) == (same, same)


def test_matched_stands_before_in_force_and_in_force_before_older() -> None:
    old = Source("s1", 1, "01A", is_in_force=False, is_accounted=False)
    in_force = Source("s2", 2, "01B", is_in_force=True, is_accounted=False)
    accounted = Source("s3", 3, "01C", is_in_force=False, is_accounted=True)
    assert sorted([old, in_force, accounted], key=lambda one: one._rank) == [accounted, in_force, old]
    assert accounted.stands_before(in_force)
    assert not in_force.stands_before(accounted)
