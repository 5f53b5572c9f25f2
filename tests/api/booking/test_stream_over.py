"""A stream that will not go on: what it left open ends, with a flag, and holds up nobody."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select

from api.booking.matching_service import SESSION_IN_DOUBT, match_session
from api.usage.endings import QUIET, RULE, UNWATCHED, end_lost_sessions
from api.verify.usage import stream_holds
from store.ledger import commit_usage
from store.tables.audit import Anomaly
from store.tables.calendar import BookingUse
from store.tables.registry import Metering
from store.tables.usage import Alert, EntryKind, UsageEntry, UsageSession
from tests.support.builders_booking import FIRM_A, WORKER, Office
from tests.support.usage import NINE, StreamWriter, at
from wire.clock import to_ms
from wire.messages import PowerState

MINUTE_MS = 60_000


def left_open(office: Office) -> StreamWriter:
    """A run of which five minutes came before the spool was lost."""
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now))
    writer.open(60)
    for _ in range(5):
        writer.tick(PowerState.RUNNING, 60)
    office.clock.advance(6 * MINUTE_MS)
    office.record(writer)
    return writer


def goes_on(office: Office, old: StreamWriter, after_ms: int) -> StreamWriter:
    """The instrument is accounted for by a new stream, from some time after the old one's last record."""
    writer = StreamWriter(office.instrument, old.agent, start_ms=old.now_ms + after_ms)
    writer.tick(PowerState.STANDBY, 600)
    office.record(writer)
    return writer


def end(office: Office) -> list[UsageSession]:
    with office.work(WORKER) as work:
        end_lost_sessions(work)
    return [row for row in office.all_of(UsageSession) if row.ended_at is not None]


def holds(office: Office, writer: StreamWriter) -> None:
    with office.database.read() as session:
        assert list(stream_holds(session, writer.agent, writer.stream)) == []


def test_an_open_session_ends_at_its_last_record_once_another_stream_goes_on(office: Office) -> None:
    old = left_open(office)
    office.advance(timedelta(minutes=30))
    goes_on(office, old, 7 * MINUTE_MS)
    [ended] = end(office)
    assert (ended.odo_running_last_ms - ended.odo_running_first_ms, ended.flags) == (5 * MINUTE_MS, "stream_lost")
    assert to_ms(ended.ended_at) == old.now_ms  # type: ignore[arg-type]
    [unknown] = [link for link in office.all_of(UsageEntry) if link.kind == EntryKind.UNKNOWN.value]
    assert (to_ms(unknown.from_at), unknown.quantity_ms) == (old.now_ms, 7 * MINUTE_MS)
    assert [alert.subject for alert in office.all_of(Alert) if alert.rule == RULE] == [office.instrument]
    holds(office, old)
    links = len(office.all_of(UsageEntry))
    end(office)
    assert len(office.all_of(UsageEntry)) == links


def test_it_is_matched_and_waits_for_an_officer_before_it_counts_for_a_reward(office: Office) -> None:
    old = left_open(office)
    office.advance(timedelta(minutes=30))
    goes_on(office, old, 0)
    [ended] = end(office)
    with office.work(WORKER) as work:
        match_session(work, ended.session_id)
    found = {anomaly.rule: anomaly.blocks_reward for anomaly in office.all_of(Anomaly)}
    assert found[SESSION_IN_DOUBT]


def test_a_stream_that_is_only_silent_or_spoke_a_moment_ago_is_not_over(office: Office) -> None:
    old = left_open(office)
    office.advance(timedelta(days=3))
    assert end(office) == []
    old.tick(PowerState.RUNNING, 60)
    office.record(old)
    goes_on(office, old, 0)
    office.advance(QUIET - timedelta(seconds=1))
    assert end(office) == []


def test_what_comes_of_it_after_all_is_kept_and_told_and_changes_nothing_that_was_settled(office: Office) -> None:
    old = left_open(office)
    office.advance(timedelta(minutes=30))
    goes_on(office, old, 0)
    before = end(office)
    old.tick(PowerState.RUNNING, 60)
    old.close(60)
    name = old.run(2)
    office.record(old)
    settled = next(row for row in office.all_of(UsageSession) if row.session_id == before[0].session_id)
    assert (settled.odo_running_last_ms, settled.flags) == (before[0].odo_running_last_ms, "stream_lost")
    assert f"{7 * MINUTE_MS} ms" in next(a.detail for a in office.all_of(Alert) if a.rule == "use_after_stream_end")
    assert name in {row.session_id for row in office.all_of(UsageSession)}
    holds(office, old)


def with_another(office: Office, old: StreamWriter) -> StreamWriter:
    """The same stream about the agent's other instrument, to which nothing of the first one comes any more."""
    with office.database.write() as session:
        metering = session.scalars(select(Metering).where(Metering.agent_id == old.agent)).one()
        values = {column.key: getattr(metering, column.key) for column in Metering.__table__.columns}
        session.add(Metering(**(values | {"instrument_id": office.instruments[1], "effective_at": at(NINE - 1)})))
    other = StreamWriter(office.instruments[1], old.agent, start_ms=old.now_ms, boot=old.boot)
    other.stream, other.seq, other.mono_ms = old.stream, old.seq, old.mono_ms
    return other


def test_an_instrument_that_is_moved_in_mid_session_does_not_lose_its_use_to_a_stream_that_lives_on(
    office: Office,
) -> None:
    booking_id, old = office.book(FIRM_A, office.slot(0, 1)), left_open(office)
    other = with_another(office, old)
    other.open(60)
    new = StreamWriter(office.instrument, office.moved(), start_ms=old.now_ms + 2 * MINUTE_MS)
    for _ in range(7):
        other.tick(PowerState.RUNNING, 600)
        new.tick(PowerState.STANDBY, 600)
    office.advance(timedelta(minutes=80))
    office.record(other)
    office.record(new)
    [ended] = end(office)
    assert (ended.instrument_id, ended.flags, to_ms(ended.last_at)) == (office.instrument, "stream_lost", old.now_ms)
    [unknown] = [link for link in office.all_of(UsageEntry) if link.kind == EntryKind.UNKNOWN.value]
    assert (to_ms(unknown.from_at), unknown.quantity_ms) == (old.now_ms, 2 * MINUTE_MS)
    assert [alert.subject for alert in office.all_of(Alert) if alert.rule == RULE] == [office.instrument]
    with office.work(WORKER) as work:
        match_session(work, ended.session_id)
    assert [(use.booking_id, use.running_ms) for use in office.all_of(BookingUse)] == [(booking_id, 5 * MINUTE_MS)]
    holds(office, old)
    end(office)
    assert len(office.all_of(Alert)) == 1


def test_an_instrument_that_comes_back_to_its_stream_is_told_and_counted_once(sqlite_office: Office) -> None:
    old = left_open(sqlite_office)
    other = with_another(sqlite_office, old)
    for _ in range(8):
        other.tick(PowerState.STANDBY, 600)
    sqlite_office.advance(timedelta(minutes=90))
    sqlite_office.record(other)
    [ended] = end(sqlite_office)
    old.seq = other.seq
    old.gap(80 * 60)
    old.close(60)
    name = old.run(2)
    sqlite_office.record(old)
    running = {row.session_id: row.odo_running_last_ms - row.odo_running_first_ms for row in end(sqlite_office)}
    assert running == {ended.session_id: 5 * MINUTE_MS, name: 2 * MINUTE_MS}
    [late] = [alert.detail for alert in sqlite_office.all_of(Alert) if alert.rule == "use_after_stream_end"]
    assert f"{6 * MINUTE_MS} ms" in late
    holds(sqlite_office, old)


def test_one_that_is_watched_is_waited_for(sqlite_office: Office) -> None:
    old = left_open(sqlite_office)
    other = with_another(sqlite_office, old)
    for _ in range(6):
        other.tick(PowerState.STANDBY, UNWATCHED.total_seconds() / 6)
    sqlite_office.advance(timedelta(hours=2))
    sqlite_office.record(other)
    assert end(sqlite_office) == []  # an hour since, but not yet for an hour
    other.tick(PowerState.STANDBY, 600)
    sqlite_office.record(other)
    assert len(end(sqlite_office)) == 1


def test_a_record_that_is_parked_may_be_about_the_instrument(sqlite_office: Office) -> None:
    old = left_open(sqlite_office)
    other = with_another(sqlite_office, old)
    for _ in range(8):
        other.tick(PowerState.STANDBY, 600)
    sqlite_office.advance(timedelta(hours=2))
    first, *rest = other.arrivals()
    with sqlite_office.database.write() as session:
        commit_usage(session, [replace(first, record=None), *rest], sqlite_office.clock.now_ms(), "test")
    assert end(sqlite_office) == []


def test_a_clock_that_is_set_or_a_pause_of_the_whole_box_ends_nothing(sqlite_office: Office) -> None:
    old = left_open(sqlite_office)
    other = with_another(sqlite_office, old)
    other.now_ms += 24 * 60 * MINUTE_MS
    other.tick(PowerState.STANDBY, 600)
    sqlite_office.advance(timedelta(days=2))
    sqlite_office.record(other)
    assert end(sqlite_office) == []
    other.boot, other.mono_ms = "boot-2", 1_000
    other.gap(2 * 3600)
    other.tick(PowerState.STANDBY, 60)
    sqlite_office.record(other)
    assert end(sqlite_office) == []


def test_a_box_that_fell_silent_is_over_once_the_agent_it_was_moved_to_accounts_for_the_instrument(
    sqlite_office: Office,
) -> None:
    served = StreamWriter(sqlite_office.instruments[1], start_ms=to_ms(sqlite_office.now))
    served.tick(PowerState.STANDBY, 60)
    sqlite_office.clock.advance(MINUTE_MS)
    sqlite_office.record(served)  # a stream that began before the one that falls silent
    old = left_open(sqlite_office)
    sqlite_office.advance(timedelta(hours=2))
    here = StreamWriter(sqlite_office.instrument, sqlite_office.moved(), start_ms=old.now_ms + 3 * MINUTE_MS)
    here.stream, here.seq = served.stream, served.seq
    here.tick(PowerState.STANDBY, 3600)
    sqlite_office.record(here)
    [ended] = end(sqlite_office)
    assert (ended.instrument_id, to_ms(ended.last_at)) == (sqlite_office.instrument, old.now_ms)
    [unknown] = [link for link in sqlite_office.all_of(UsageEntry) if link.kind == EntryKind.UNKNOWN.value]
    assert unknown.quantity_ms == 3 * MINUTE_MS
