"""The worker: everything due is done exactly once, by one or by several; what fails waits longer each time."""

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from api.booking.due import ensure_due, move_due
from api.booking.states import BookingAction
from api.errors import Refused, conflict
from api.work import Work
from api.worker import ALERT_AFTER, ALERT_RULE, BACK_OFF_MOST, Handler, Worker
from store.database import Database
from store.series import STATE_CODES, Sample, SeriesStore
from store.tables.audit import AuditEvent
from store.tables.calendar import BookingState, BookingUse, Due, DueKind
from store.tables.charging import Charge
from store.tables.usage import Alert
from tests.support.builders_booking import FIRM_A, HOUR, MINUTE, Office, open_office
from tests.support.usage import StreamWriter
from tests.support.waiting import wait_until
from wire.clock import ManualClock, from_ms, to_ms
from wire.messages import PowerState

K = DueKind


def leave(database: Database, count: int, at: datetime, kind: DueKind = K.MATCH_SESSION) -> None:
    with database.write() as session:
        for number in range(count):
            ensure_due(session, kind, f"s-{number:03d}", at)


def rows(database: Database) -> list[Due]:
    with database.read() as session:
        return list(session.query(Due).order_by(Due.subject_id))


def auditing(work: Work, subject_id: str) -> None:
    """A handler whose effect is one row of the audit chain."""
    work.audit("test.done", subject_id, host_id=None)


def done_by_subject(database: Database) -> Counter[str]:
    with database.read() as session:
        return Counter(event.subject for event in session.query(AuditEvent))


def worker(database: Database, series: SeriesStore, clock: ManualClock, handler: Handler, name: str = "w") -> Worker:
    return Worker(database, series, clock, name=name, poll_s=0.01, handlers=dict.fromkeys(DueKind, handler), chores=())


def test_what_is_due_is_done_once_and_what_is_not_waits(
    database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    now = from_ms(clock.now_ms())
    leave(database, 3, now)
    leave(database, 2, now + MINUTE, K.EXPIRE_BOOKING)
    one = worker(database, api_series, clock, auditing)
    assert one.run_once() == 3
    assert one.run_once() == 0
    assert {row.kind for row in rows(database)} == {K.EXPIRE_BOOKING}
    clock.advance(60_000)
    assert one.run_once() == 2
    assert rows(database) == []


def test_several_workers_do_everything_exactly_once(
    database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    leave(database, 60, from_ms(clock.now_ms()))
    workers = [worker(database, api_series, clock, auditing, f"w{n}") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(Worker.run_once, workers)) == 60
    assert done_by_subject(database) == {f"s-{number:03d}": 1 for number in range(60)}


def test_a_failure_leaves_nothing_behind_but_the_row_and_its_reason(
    database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    def breaks(work: Work, subject_id: str) -> None:
        auditing(work, subject_id)
        raise conflict("period_locked", "已锁定", "locked")

    leave(database, 1, from_ms(clock.now_ms()))
    assert worker(database, api_series, clock, breaks).run_once() == 0
    (row,) = rows(database)
    assert (row.attempts, row.last_error) == (1, "Refused: locked")
    assert row.due_at > from_ms(clock.now_ms())
    assert done_by_subject(database) == {}


def test_failures_wait_longer_each_time_and_somebody_is_told(
    database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    tries = []

    def breaks(work: Work, subject_id: str) -> None:
        tries.append(work.now)
        raise RuntimeError("no such thing")

    leave(database, 1, from_ms(clock.now_ms()))
    failing = worker(database, api_series, clock, breaks)
    for _ in range(14):
        failing.run_once()
        failing.run_once()
        (row,) = rows(database)
        clock.advance(to_ms(row.due_at) - clock.now_ms())
    pauses = [b - a for a, b in itertools.pairwise(tries)]
    assert pauses[:3] == [timedelta(seconds=5), timedelta(seconds=10), timedelta(seconds=20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACK_OFF_MOST
    assert len(tries) == 14
    with database.read() as session:
        (alert,) = session.query(Alert)
    assert (alert.rule, alert.subject, alert.times) == (ALERT_RULE, "match_session:s-000", 14 - ALERT_AFTER + 1)


def test_one_bad_row_does_not_hold_up_the_others(
    sqlite_database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    def picky(work: Work, subject_id: str) -> None:
        if subject_id == "s-000":
            raise ValueError("bad")
        auditing(work, subject_id)

    leave(sqlite_database, 5, from_ms(clock.now_ms()))
    assert worker(sqlite_database, api_series, clock, picky).run_once() == 4
    assert [row.subject_id for row in rows(sqlite_database)] == ["s-000"]


def test_work_that_is_put_off_is_done_later_not_again_at_once(
    sqlite_database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    calls = []

    def later(work: Work, subject_id: str) -> datetime:
        calls.append(subject_id)
        return work.now  # due again at this very instant: still once a pass

    leave(sqlite_database, 1, from_ms(clock.now_ms()))
    assert worker(sqlite_database, api_series, clock, later).run_once() == 1
    assert calls == ["s-000"]
    assert rows(sqlite_database)[0].attempts == 0


def test_work_left_anew_while_it_is_done_is_not_lost(
    database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    now = from_ms(clock.now_ms())

    def slow(work: Work, subject_id: str) -> None:
        entered.set()
        assert go_on.wait(20)
        auditing(work, subject_id)

    def leave_anew() -> None:
        with database.write() as session:
            move_due(session, K.MATCH_SESSION, "s-000", now)

    leave(database, 1, now)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(worker(database, api_series, clock, slow).run_once)
        assert entered.wait(20)
        second = pool.submit(leave_anew)
        go_on.set()
        second.result(20)
        first.result(20)
    worker(database, api_series, clock, auditing).run_once()
    assert done_by_subject(database) == {"s-000": 2}
    assert rows(database) == []


def test_it_stops_when_told_and_finishes_the_row_in_hand(
    sqlite_database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    until = threading.Event()

    def stops(work: Work, subject_id: str) -> None:
        auditing(work, subject_id)
        until.set()

    leave(sqlite_database, 5, from_ms(clock.now_ms()))
    thread = threading.Thread(target=worker(sqlite_database, api_series, clock, stops).run, args=(until,))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(rows(sqlite_database)) == 4


def test_it_takes_up_what_becomes_due_while_it_runs(
    sqlite_database: Database, api_series: SeriesStore, clock: ManualClock
) -> None:
    until = threading.Event()
    running = threading.Thread(target=worker(sqlite_database, api_series, clock, auditing).run, args=(until,))
    running.start()
    try:
        leave(sqlite_database, 3, from_ms(clock.now_ms()))
        wait_until(lambda: not rows(sqlite_database), "the worker to do what is due")
    finally:
        until.set()
        running.join(20)
    assert not running.is_alive()


def test_check_outs_and_completions_at_the_same_moment_both_come_through(
    office: Office, api_series: SeriesStore, clock: ManualClock
) -> None:
    office.change_instrument(use_detection="checkin")
    for _ in range(8):
        booking_id = office.book(FIRM_A, office.slot(0, 1))
        office.do(FIRM_A, booking_id, BookingAction.CHECK_IN)
        office.advance(75 * MINUTE)
        hands = [Worker(office.database, api_series, clock, name=f"w{n}") for n in range(2)]
        with ThreadPoolExecutor(3) as pool:
            leaving = pool.submit(_check_out_or_too_late, office, booking_id)
            list(pool.map(Worker.run_once, hands))
            leaving.result(20)
        hands[0].run_once()
        assert office.booking(booking_id).state == BookingState.COMPLETED
        assert all(row.attempts == 0 for row in rows(office.database))


def _check_out_or_too_late(office: Office, booking_id: str) -> None:
    try:
        office.do(FIRM_A, booking_id, BookingAction.CHECK_OUT)
    except Refused as refused:
        if refused.code != "not_possible_now":
            raise


@pytest.fixture
def office(database: Database, clock: ManualClock) -> Office:
    return open_office(database, clock)


def test_a_booking_is_used_completed_and_charged_by_the_worker_alone(
    office: Office, api_series: SeriesStore, clock: ManualClock
) -> None:
    booking_id = office.book(FIRM_A, office.slot(1, 2))
    start = to_ms(office.now)
    writer = StreamWriter(office.instrument, start_ms=start)
    writer.tick(PowerState.STANDBY, 3600 + 600)
    writer.run(77, standby_s=0)
    writer.tick(PowerState.STANDBY, 3 * 3600)
    running = STATE_CODES[PowerState.RUNNING]
    api_series.write(
        [Sample(office.instrument, at, 750_000, running) for at in range(start, start + 5 * 3_600_000, 1000)]
    )
    office.advance(6 * HOUR)
    office.record(writer)
    workers = [Worker(office.database, api_series, clock, name=f"w{n}") for n in range(2)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            office.advance(HOUR)
            list(pool.map(Worker.run_once, workers))
    assert [use.running_ms for use in office.all_of(BookingUse)] == [77 * 60_000]
    (charge,) = office.all_of(Charge)
    assert (charge.booking_id, charge.total_fen) == (booking_id, 5_000 + 60_000)
    assert office.booking(booking_id).state == BookingState.COMPLETED
    assert rows(office.database) == []
