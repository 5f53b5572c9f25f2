"""A stream that will not go on: what it left open ends, with a flag, and holds up nobody."""

from datetime import timedelta

from api.booking.matching_service import SESSION_IN_DOUBT, match_session
from api.usage.endings import QUIET, RULE, end_lost_sessions
from api.verify.usage import stream_holds
from store.tables.audit import Anomaly
from store.tables.usage import Alert, EntryKind, UsageEntry, UsageSession
from tests.support.builders_booking import WORKER, Office
from tests.support.usage import StreamWriter
from wire.clock import to_ms
from wire.messages import PowerState

MINUTE_MS = 60_000


def left_open(office: Office) -> StreamWriter:
    """A run of which five minutes came before the spool was lost."""
    writer = StreamWriter(office.instrument, start_ms=to_ms(office.now))
    writer.open(60)
    for _ in range(5):
        writer.tick(PowerState.RUNNING, 60)
    office.record(writer)
    return writer


def goes_on(office: Office, old: StreamWriter, after_ms: int) -> StreamWriter:
    """The instrument is accounted for by a new stream, from some time after the old one's last record."""
    writer = StreamWriter(office.instrument, old.agent, start_ms=old.now_ms + after_ms)
    writer.tick(PowerState.STANDBY, 3600)
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
