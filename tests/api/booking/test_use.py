"""From a closed session to a completed booking: matched once, completed when the meter has spoken, or missed."""

from datetime import timedelta

import pytest
from sqlalchemy import delete

from api.booking.completion import LOOK_AGAIN, TELEMETRY_COVERAGE, complete_booking, expire_booking
from api.booking.matching_service import (
    FORGOTTEN,
    SESSION_WITHOUT_BOOKING,
    USE_AFTER_COMPLETION,
    match_session,
)
from api.booking.outages import OutageOutcome, declare_outage
from api.booking.slots import Interval
from api.booking.states import BookingAction
from api.errors import Refused
from store.tables.audit import Anomaly
from store.tables.calendar import BookingMode, BookingState, BookingUse, CalendarKind, Due, DueKind, UnbookedUse
from tests.support.builders_booking import FIRM_A, FIRM_B, HOUR, MANAGER, MINUTE, OTHER_MANAGER, WORKER, Office
from tests.support.usage import StreamWriter
from wire.clock import to_ms
from wire.messages import PowerState

A, S, K = BookingAction, BookingState, DueKind


def metered_run(office: Office, start_h: float, minutes: float, standby_after_h: float = 6) -> str:
    """Let the meter of the first instrument stand by, run once, and stand by again; return the session's id."""
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now))
    writer.tick(PowerState.STANDBY, start_h * 3600)
    name = writer.run(minutes, standby_s=0)
    writer.tick(PowerState.STANDBY, standby_after_h * 3600)
    office.record(writer, writer.now_ms)
    return name


def match(office: Office, session_id: str) -> None:
    """Match a session and take its due row away, as the worker does."""
    with office.work(WORKER) as work:
        match_session(work, session_id)
        work.session.execute(delete(Due).where(Due.kind == K.MATCH_SESSION.value, Due.subject_id == session_id))


def complete(office: Office, booking_id: str) -> object:
    with office.work(WORKER) as work:
        return complete_booking(work, booking_id)


def due_kinds(office: Office) -> set[tuple[str, str]]:
    return {(due.kind, due.subject_id) for due in office.all_of(Due)}


def test_a_session_inside_its_slot_is_matched_once_however_often_it_is_tried(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    name = metered_run(office, 1.1, 40)
    office.advance(2 * HOUR)
    match(office, name)
    first = [(use.booking_id, use.running_ms, use.matched_at) for use in office.all_of(BookingUse)]
    office.advance(HOUR)
    match(office, name)
    assert first == [(use.booking_id, use.running_ms, use.matched_at) for use in office.all_of(BookingUse)]
    assert [(key, ms) for key, ms, _ in first] == [(booking_id, 40 * 60_000)]
    assert office.all_of(UnbookedUse) == []
    assert office.booking(booking_id).state == S.IN_USE


def test_use_before_the_claim_is_kept_for_the_manager_and_reported(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    name = metered_run(office, 0.5, 60)
    office.advance(2 * HOUR)
    match(office, name)
    (unbooked,) = office.all_of(UnbookedUse)
    assert (unbooked.running_ms, unbooked.purpose) == (15 * 60_000, None)
    (use,) = office.all_of(BookingUse)
    assert (use.booking_id, use.running_ms) == (booking_id, 45 * 60_000)
    (found,) = office.all_of(Anomaly)
    assert (found.rule, found.subject_id, found.blocks_reward) == (SESSION_WITHOUT_BOOKING, name, False)


def test_a_minute_of_unbooked_running_is_no_anomaly(sqlite_office: Office) -> None:
    match(sqlite_office, metered_run(sqlite_office, 0.5, 1))
    assert len(sqlite_office.all_of(UnbookedUse)) == 1
    assert sqlite_office.all_of(Anomaly) == []


def test_a_session_into_the_next_booking_is_divided_by_the_odometer(office: Office) -> None:
    first, second = office.book(FIRM_A, office.slot(1, 1)), office.book(FIRM_B, office.slot(2, 1))
    name = metered_run(office, 1.5, 60)
    office.advance(4 * HOUR)
    match(office, name)
    uses = {use.booking_id: use.running_ms for use in office.all_of(BookingUse)}
    assert uses == {first: 30 * 60_000, second: 30 * 60_000}


def test_where_a_check_in_is_needed_a_forgotten_check_out_is_reported(sqlite_office: Office) -> None:
    sqlite_office.change_instrument(use_detection="power+checkin")
    booking_id = sqlite_office.book(FIRM_A, sqlite_office.slot(0, 1))
    sqlite_office.do(FIRM_A, booking_id, A.CHECK_IN)
    match(sqlite_office, metered_run(sqlite_office, 0.5, 60))
    assert [use.running_ms for use in sqlite_office.all_of(BookingUse)] == [45 * 60_000]
    assert {found.rule for found in sqlite_office.all_of(Anomaly)} == {FORGOTTEN, SESSION_WITHOUT_BOOKING}


def test_a_used_booking_is_completed_and_its_charge_is_due(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    name = metered_run(office, 1, 30)
    office.advance(90 * MINUTE)
    match(office, name)
    end = office.booking(booking_id).slot_to + 15 * MINUTE
    assert complete(office, booking_id) == end
    office.advance(45 * MINUTE)
    assert complete(office, booking_id) is None
    assert office.booking(booking_id).state == S.COMPLETED
    assert (K.CHARGE_BOOKING, booking_id) in due_kinds(office)
    assert complete(office, booking_id) is None


def test_completing_waits_for_an_open_session_and_for_its_matching(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now) + 3_600_000)
    writer.open()
    writer.tick(PowerState.RUNNING, 2 * 3600)
    office.record(writer, writer.now_ms)
    office.advance(3 * HOUR)
    assert complete(office, booking_id) == office.now + LOOK_AGAIN
    writer.close(60)
    office.record(writer, writer.now_ms)
    assert complete(office, booking_id) == office.now + LOOK_AGAIN
    (name,) = (subject for kind, subject in due_kinds(office) if kind == K.MATCH_SESSION)
    match(office, name)
    assert complete(office, booking_id) is None
    assert office.booking(booking_id).state == S.COMPLETED


def test_who_neither_came_nor_used_it_is_a_no_show(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now))
    writer.tick(PowerState.STANDBY, 3 * 3600)
    office.record(writer, writer.now_ms)
    office.advance(3 * HOUR)
    assert complete(office, booking_id) is None
    assert office.booking(booking_id).state == S.NO_SHOW
    assert (K.CHARGE_BOOKING, booking_id) not in due_kinds(office)


def test_a_silent_meter_is_waited_for_a_day_and_then_reported(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    office.advance(HOUR)
    office.do(FIRM_A, booking_id, A.CHECK_IN)
    office.advance(timedelta(hours=25))
    assert complete(office, booking_id) == office.now + LOOK_AGAIN
    office.advance(20 * MINUTE)
    assert complete(office, booking_id) is None
    assert office.booking(booking_id).state == S.COMPLETED
    assert [(found.rule, found.subject_id) for found in office.all_of(Anomaly)] == [(TELEMETRY_COVERAGE, booking_id)]


def test_use_that_is_found_late_voids_a_no_show(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    start = office.now
    office.advance(timedelta(hours=27))
    assert complete(office, booking_id) is None
    assert office.booking(booking_id).state == S.NO_SHOW
    writer = StreamWriter(office.instrument, start_ms=to_ms(start) + 3_600_000)
    name = writer.run(30, standby_s=0)
    office.record(writer, writer.now_ms)
    match(office, name)
    assert office.booking(booking_id).state == S.COMPLETED
    assert (K.CHARGE_BOOKING, booking_id) in due_kinds(office)


def test_use_that_comes_after_completion_is_reported_not_lost(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    start = office.now
    office.advance(HOUR)
    office.do(FIRM_A, booking_id, A.CHECK_IN)
    office.advance(timedelta(hours=27))
    complete(office, booking_id)
    writer = StreamWriter(office.instrument, start_ms=to_ms(start) + 4_000_000)
    name = writer.run(30, standby_s=0)
    office.record(writer, writer.now_ms)
    match(office, name)
    assert [use.booking_id for use in office.all_of(BookingUse)] == [booking_id]
    assert USE_AFTER_COMPLETION in {found.rule for found in office.all_of(Anomaly)}


def test_a_sample_order_is_charged_once_its_results_stand_and_the_meter_has_spoken(office: Office) -> None:
    booking_id = office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=2)
    office.do(MANAGER, booking_id, A.RECEIVE, samples=("one", "two"))
    office.do(MANAGER, booking_id, A.SCHEDULE, slot=office.slot(1, 1))
    name = metered_run(office, 1.1, 30)
    office.advance(3 * HOUR)
    match(office, name)
    assert office.booking(booking_id).state == S.IN_USE
    assert complete(office, booking_id) is None
    assert (K.CHARGE_BOOKING, booking_id) not in due_kinds(office)
    office.do(MANAGER, booking_id, A.CONFIRM_RESULTS, quantity=2)
    assert complete(office, booking_id) is None
    assert (K.CHARGE_BOOKING, booking_id) in due_kinds(office)


def test_a_request_nobody_answers_expires_and_frees_its_slot(office: Office) -> None:
    office.change_instrument(approval="manager")
    booking_id = office.book(FIRM_A, office.slot(48, 1))
    with office.work(WORKER) as work:
        assert expire_booking(work, booking_id) == office.now + 24 * HOUR
    office.advance(24 * HOUR)
    with office.work(WORKER) as work:
        assert expire_booking(work, booking_id) is None
    assert office.booking(booking_id).state == S.EXPIRED
    assert office.active_rows() == []


def outage(office: Office, window: Interval, actor: object = MANAGER, note: str = "pump broken") -> OutageOutcome:
    with office.work(actor) as work:  # type: ignore[arg-type]
        return declare_outage(work, office.instrument, window, note)


def test_an_outage_cancels_what_it_hits_and_takes_the_time(office: Office) -> None:
    before, hit, after = (office.book(FIRM_A, office.slot(hour, 1)) for hour in (1, 2, 4))
    done = outage(office, office.slot(2.5, 1.5))
    assert (done.cancelled, done.shortened) == ([hit], [])
    assert [office.booking(key).state for key in (before, hit, after)] == [S.CONFIRMED, S.CANCELLED, S.CONFIRMED]
    assert [row.kind for row in office.active_rows()] == ["booking", CalendarKind.OUTAGE, "booking"]


def test_an_outage_shortens_what_is_under_way(office: Office) -> None:
    booking_id = office.book(FIRM_A, office.slot(0, 2))
    office.do(FIRM_A, booking_id, A.CHECK_IN)
    window = office.slot(1, 3)
    assert outage(office, window).shortened == [booking_id]
    booking = office.booking(booking_id)
    assert (booking.state, booking.slot_to) == (S.CHECKED_IN, window.from_at)
    assert [due.due_at for due in office.all_of(Due)] == [window.from_at + 15 * MINUTE]
    first, second = office.active_rows()
    assert first.to_at == second.from_at


def test_an_outage_sends_a_scheduled_sample_order_back(sqlite_office: Office) -> None:
    booking_id = sqlite_office.book(FIRM_A, mode=BookingMode.SAMPLES, quantity=1)
    sqlite_office.do(MANAGER, booking_id, A.RECEIVE, samples=("one",))
    sqlite_office.do(MANAGER, booking_id, A.SCHEDULE, slot=sqlite_office.slot(3, 1))
    assert outage(sqlite_office, sqlite_office.slot(2, 4)).unscheduled == [booking_id]
    assert sqlite_office.booking(booking_id).state == S.SAMPLES_RECEIVED


@pytest.mark.parametrize(
    ("slot", "actor", "note", "code"),
    [
        ((1, 1), OTHER_MANAGER, "x", "forbidden"),
        ((-1, 3), MANAGER, "x", "outage_in_the_past"),
        ((2, -1), MANAGER, "x", "slot_reversed"),
        ((1, 1), MANAGER, " ", "reason_required"),
        ((6, 1), MANAGER, "x", "outage_overlaps"),
    ],
)
def test_an_outage_that_makes_no_sense_changes_nothing(
    sqlite_office: Office, slot: tuple[float, float], actor: object, note: str, code: str
) -> None:
    outage(sqlite_office, sqlite_office.slot(5, 2))
    booking_id = sqlite_office.book(FIRM_A)
    with pytest.raises(Refused) as refused:
        outage(sqlite_office, sqlite_office.slot(*slot), actor, note)
    assert refused.value.code == code
    assert sqlite_office.booking(booking_id).state == S.CONFIRMED
