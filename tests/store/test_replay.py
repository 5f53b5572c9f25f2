"""A parked record that is understood later takes its place, and the ledger is as if it had never been parked."""

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

from store.database import Database
from store.ledger import Arrival, ReplayRefused, check_usage_chain, commit_usage, refold, session_records, unpark
from store.tables.calendar import Due, UnbookedUse
from store.tables.usage import MeterPosition, UsageEntry, UsageSession
from tests.support.unset_clock import Unset
from tests.support.usage import NINE, StreamWriter, add_registry
from wire.messages import ClockQuality, PowerState

NOW = NINE + 86_400_000


@pytest.fixture
def instruments(database: Database) -> list[str]:
    with database.write() as session:
        return add_registry(session)


def parked(arrival: Arrival) -> Arrival:
    return dataclasses.replace(arrival, record=None)


def commit(database: Database, arrivals) -> None:
    with database.write() as session:
        commit_usage(session, arrivals, NOW, "gateway:test")


def replay(database: Database, writer: StreamWriter, *seqs: int):
    records = {seq: writer.records[seq - 1] for seq in seqs}
    with database.write() as session:
        return unpark(session, (writer.agent, writer.stream), records, NOW, "system:replay")


def check(database: Database, writer: StreamWriter) -> None:
    with database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        assert list(refold(session, writer.agent, writer.stream)) == []


def view(database: Database, writer: StreamWriter) -> dict[str, object]:
    """Sessions and positions of a stream, without what names the stream itself."""
    with database.read() as session:
        sessions = session.scalars(
            select(UsageSession).where(UsageSession.stream == writer.stream).order_by(UsageSession.open_seq)
        )
        columns = ("open_seq", "last_seq", "close_seq", "started_at", "last_at", "ended_at", "flags")
        odos = ("odo_running_first_ms", "odo_running_last_ms", "odo_unknown_first_ms", "odo_unknown_last_ms")
        positions = session.scalars(select(MeterPosition).where(MeterPosition.stream == writer.stream))
        stands = ("last_seq", "to_ms", "accounted_to", "state", "odo_running_ms", "odo_unknown_ms", "sessions")
        return {
            "sessions": [tuple(getattr(row, name) for name in columns + odos) for row in sessions],
            "positions": [tuple(getattr(row, name) for name in stands) for row in positions],
        }


def test_a_parked_tick_changes_nothing_and_stands_in_its_session_again(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=5)
    arrivals = writer.arrivals()
    arrivals[2] = parked(arrivals[2])
    commit(database, arrivals)
    before = view(database, writer)
    done = replay(database, writer, 3)
    assert (done.new, done.changed) == ((), ())
    assert view(database, writer) == before
    with database.read() as session:
        assert [r.seq for r in session_records(session, name)] == [1, 2, 3, 4, 5, 6][: writer.seq]
    check(database, writer)
    replay(database, writer, 3)
    check(database, writer)


def test_many_records_of_a_stream_are_taken_in_by_folding_it_once(database, instruments):
    writers = [StreamWriter(instrument) for instrument in instruments]
    asked: list[int] = []
    event.listen(database.engine, "before_cursor_execute", lambda *_: asked.append(1))
    counts = []
    for writer, many in zip(writers, (2, 12), strict=True):
        writer.run(minutes=15)
        hidden = range(2, 2 + many)
        commit(database, [parked(a) if a.seq in hidden else a for a in writer.arrivals()])
        asked.clear()
        replay(database, writer, *hidden)
        counts.append(len(asked))
        check(database, writer)
    assert counts[0] == counts[1]


def test_a_parked_open_gives_its_session_the_begin_it_had(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=5)
    arrivals = writer.arrivals()
    arrivals[0] = parked(arrivals[0])
    commit(database, arrivals)
    assert [row[6] for row in view(database, writer)["sessions"]] == ["open_lost"]
    done = replay(database, writer, 1)
    assert (done.new, done.changed) == ((), (name,))
    with database.read() as session:
        row = session.get_one(UsageSession, name)
        assert (row.open_seq, row.flags) == (1, "")
        assert row.odo_running_last_ms - row.odo_running_first_ms == 300_000
        assert [due.subject_id for due in session.scalars(select(Due))] == [name]
    check(database, writer)


def test_a_parked_close_ends_its_session_where_it_ended_by_a_reversal_and_a_new_statement(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=5)
    writer.tick(PowerState.STANDBY, 600)
    writer.run(minutes=2)
    arrivals = writer.arrivals()
    close = next(r.seq for r in writer.records if r.kind == "close")
    arrivals[close - 1] = parked(arrivals[close - 1])
    commit(database, arrivals)
    done = replay(database, writer, close)
    assert done.changed == (name,)
    with database.read() as session:
        row = session.get_one(UsageSession, name)
        assert (row.close_seq, row.flags) == (close, "")
        stated = session.scalars(
            select(UsageEntry).where(UsageEntry.session_id == name).order_by(UsageEntry.revision)
        ).all()
        assert [(e.revision, e.quantity_ms) for e in stated] == [(1, 300_000), (2, -300_000), (3, 300_000)]
    check(database, writer)


def test_use_that_somebody_was_given_is_never_changed_by_a_replay(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=5)
    writer.tick(PowerState.STANDBY, 600)
    writer.run(minutes=2)
    arrivals = writer.arrivals()
    close = next(r.seq for r in writer.records if r.kind == "close")
    arrivals[close - 1] = parked(arrivals[close - 1])
    commit(database, arrivals)
    given_to(database, name, "internal")
    before = view(database, writer)
    with pytest.raises(ReplayRefused) as refused:
        replay(database, writer, close)
    assert refused.value.session_id == name
    assert view(database, writer) == before
    check(database, writer)


def test_use_that_waits_for_a_person_is_found_anew(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=5)
    writer.tick(PowerState.STANDBY, 600)
    writer.run(minutes=2)
    arrivals = writer.arrivals()
    close = next(r.seq for r in writer.records if r.kind == "close")
    arrivals[close - 1] = parked(arrivals[close - 1])
    commit(database, arrivals)
    given_to(database, name, None)
    replay(database, writer, close)
    with database.read() as session:
        assert session.scalars(select(UnbookedUse)).all() == []
        assert name in session.scalars(select(Due.subject_id)).all()


def given_to(database: Database, name: str, purpose: str | None) -> None:
    with database.write() as session:
        row = session.get_one(UsageSession, name)
        session.add(
            UnbookedUse(
                session_id=name,
                from_at=row.started_at,
                instrument_id=row.instrument_id,
                to_at=row.ended_at,
                running_ms=300_000,
                unknown_ms=0,
                found_at=row.ended_at,
                purpose=purpose,
                classified_by=None,
                classified_at=None,
            )
        )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_parking_and_replaying_any_records_in_any_order_leaves_the_ledger_of_never_parked(database, instruments, data):
    writer = Unset(instruments[0])
    writer.now_ms, writer.quality = NINE + data.draw(st.integers(0, 10**9)), data.draw(st.sampled_from(ClockQuality))
    steps = st.tuples(st.sampled_from([-28_800_000, -3_000, 0, 61_000, 28_800_000]), st.sampled_from(ClockQuality))
    for minutes in data.draw(st.lists(st.sampled_from([0.5, 1, 3]), min_size=1, max_size=4)):
        writer.run(minutes=minutes)
        if data.draw(st.booleans()):
            writer.set_clock(*data.draw(steps))
        writer.tick(PowerState.STANDBY, 60)
    if data.draw(st.booleans()):
        writer.gap(30)
        writer.open(3)
        writer.tick(PowerState.RUNNING, 60)
    hidden = data.draw(st.lists(st.integers(1, writer.seq), min_size=1, max_size=5, unique=True))
    commit(database, [parked(a) if a.seq in hidden else a for a in writer.arrivals()])
    if data.draw(st.booleans(), label="all at once"):
        replay(database, writer, *hidden)
    else:
        for seq in hidden:
            replay(database, writer, seq)
    writer.set_clock(*data.draw(steps))
    commit(database, writer.arrivals())
    found = view(database, writer)
    check(database, writer)
    # The same records under another stream's name, none of them parked.
    twin = StreamWriter(instruments[0])
    text = [r.model_dump_json(by_alias=True).replace(writer.stream, twin.stream) for r in writer.records]
    twin.records = [type(r).model_validate_json(line) for r, line in zip(writer.records, text, strict=True)]
    commit(database, twin.arrivals())
    assert found == view(database, twin)
