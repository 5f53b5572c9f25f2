"""A session whose agent's clock was not set waits for its date, and is matched by the one it gets."""

from datetime import timedelta

from api.booking.matching_service import SESSION_IN_DOUBT, match_session
from store.ledger import DATED_TOO_LATE
from store.tables.audit import Anomaly
from store.tables.calendar import BookingUse, Due, DueKind, UnbookedUse
from tests.support.builders_booking import FIRM_A, FIRM_B, HOUR, WORKER, Office
from tests.support.unset_clock import Unset
from wire.clock import to_ms
from wire.messages import ClockQuality, PowerState

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def match(office: Office, session_id: str) -> object:
    with office.work(WORKER) as work:
        return match_session(work, session_id)


def test_use_of_a_box_without_a_clock_goes_to_the_booking_it_belongs_to_once_the_clock_is_set(office: Office) -> None:
    booking_id = office.book(FIRM_A)
    began_ms = to_ms(office.now)
    writer = Unset(office.instrument)
    writer.tick(PowerState.STANDBY, 70 * 60)
    name = writer.run(20, standby_s=0)
    office.advance(2 * HOUR)
    office.record(writer)
    assert match(office, name) == office.now + timedelta(hours=24)
    assert office.all_of(BookingUse) == []
    with office.work(WORKER) as work:
        due = work.session.get_one(Due, (DueKind.MATCH_SESSION.value, name))
        due.due_at = office.now + timedelta(hours=24)
    writer.set_clock(began_ms - MINUTE_MS)
    office.record(writer)
    [due] = [one for one in office.all_of(Due) if one.kind == DueKind.MATCH_SESSION.value]
    assert due.due_at == office.now
    assert match(office, name) is None
    [use] = office.all_of(BookingUse)
    assert (use.booking_id, use.running_ms, to_ms(use.from_at)) == (
        booking_id,
        20 * MINUTE_MS,
        began_ms + 70 * MINUTE_MS,
    )


def test_without_a_clock_for_a_day_somebody_has_to_look(office: Office) -> None:
    writer = Unset(office.instrument)
    name = writer.run(20)
    office.record(writer)
    office.advance(timedelta(hours=24))
    assert match(office, name) is None
    assert [part.running_ms for part in office.all_of(UnbookedUse)] == [20 * MINUTE_MS]
    assert SESSION_IN_DOUBT in {anomaly.rule for anomaly in office.all_of(Anomaly)}


def test_a_run_over_a_hole_of_unknown_length_waits_for_it_and_is_in_no_doubt_once_it_is_told(office: Office) -> None:
    office.book(FIRM_A)
    writer = Unset(office.instrument)
    writer.now_ms, writer.quality = to_ms(office.now) + 70 * MINUTE_MS, ClockQuality.NTP
    writer.open(0)
    name = str(writer.session)
    hole = writer.reboot()
    writer.tick(PowerState.RUNNING, 60)
    writer.close(60)
    office.advance(2 * HOUR)
    office.record(writer)
    assert match(office, name) == office.now + timedelta(hours=24)
    writer.tell_length(hole)
    office.record(writer)
    assert match(office, name) is None
    assert [use.running_ms for use in office.all_of(BookingUse)] == [2 * MINUTE_MS]
    assert SESSION_IN_DOUBT not in {anomaly.rule for anomaly in office.all_of(Anomaly)}


def eight_hours_off(office: Office, ahead_ms: int) -> Unset:
    """A box whose clock nobody compared; it shows local time for UTC, or the other way round."""
    writer = Unset(office.instrument)
    writer.now_ms, writer.quality = to_ms(office.now) + ahead_ms, ClockQuality.RTC
    writer.tick(PowerState.STANDBY, 70 * 60)
    return writer


def found(office: Office) -> dict[str, bool]:
    return {anomaly.rule: anomaly.blocks_reward for anomaly in office.all_of(Anomaly)}


def test_use_that_a_clock_put_into_the_future_goes_to_who_was_there_once_it_is_set(office: Office) -> None:
    mine = office.book(FIRM_A, office.slot(1, 1))
    office.book(FIRM_B, office.slot(9, 1))
    writer = eight_hours_off(office, 8 * HOUR_MS)
    name = writer.run(20, standby_s=0)
    office.advance(2 * HOUR)
    office.record(writer)
    assert match(office, name) == office.now + timedelta(hours=24)
    writer.set_clock(-8 * HOUR_MS)
    office.record(writer)
    assert match(office, name) is None
    assert [(use.booking_id, use.running_ms) for use in office.all_of(BookingUse)] == [(mine, 20 * MINUTE_MS)]
    assert found(office) == {}


def test_use_that_stays_in_the_future_is_nobodys_until_somebody_has_looked(sqlite_office: Office) -> None:
    office = sqlite_office
    office.book(FIRM_A, office.slot(1, 1))
    office.book(FIRM_B, office.slot(9, 1))
    writer = eight_hours_off(office, 8 * HOUR_MS)
    name = writer.run(20, standby_s=0)
    office.advance(2 * HOUR)
    office.record(writer)
    office.advance(timedelta(hours=24))
    assert match(office, name) is None
    assert office.all_of(BookingUse) == []
    assert [part.running_ms for part in office.all_of(UnbookedUse)] == [20 * MINUTE_MS]
    assert found(office)[SESSION_IN_DOUBT]


def test_a_clock_that_nobody_compared_keeps_no_session_waiting(sqlite_office: Office) -> None:
    office = sqlite_office
    mine = office.book(FIRM_A)
    writer = eight_hours_off(office, 0)
    name = writer.run(20, standby_s=0)
    office.advance(2 * HOUR)
    office.record(writer)
    assert match(office, name) is None
    assert [use.booking_id for use in office.all_of(BookingUse)] == [mine]
    assert found(office) == {}


def test_use_that_was_given_away_before_its_clock_was_set_is_in_doubt_and_due_at_once(office: Office) -> None:
    office.book(FIRM_A, office.slot(9, 1))
    writer = eight_hours_off(office, 0)
    writer.tick(PowerState.STANDBY, 8 * 3600)
    name = writer.run(20, standby_s=0)
    office.advance(12 * HOUR)
    office.record(writer)
    assert match(office, name) is None
    [given] = office.all_of(BookingUse)
    writer.set_clock(-8 * HOUR_MS)
    office.record(writer)
    assert name in {due.subject_id for due in office.all_of(Due) if due.kind == DueKind.MATCH_SESSION.value}
    for _ in range(2):
        assert match(office, name) is None
    [still] = office.all_of(BookingUse)
    assert (still.booking_id, still.from_at) == (given.booking_id, given.from_at)
    assert found(office) == {DATED_TOO_LATE: True}
