"""The usage ledger over both engines: repeats, holes, conflicts, sessions, chains."""

import dataclasses
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from store.database import Database, insert_many
from store.errors import AlreadyThere, StillReferenced
from store.ledger import check_usage_chain, commit_usage, refold, session_records, stream_marks
from store.tables.calendar import Due
from store.tables.usage import (
    Alert,
    MeterPosition,
    UsageConflict,
    UsageEntry,
    UsageRecordRow,
    UsageSession,
)
from tests.support.usage import NINE, StreamWriter, add_registry
from wire.messages import PowerState, encode

NOW = NINE + 86_400_000


@pytest.fixture
def instruments(database: Database) -> list[str]:
    with database.write() as session:
        return add_registry(session)


def commit(database: Database, arrivals, now_ms: int = NOW):
    with database.write() as session:
        return commit_usage(session, arrivals, now_ms, "gateway:test")


def check(database: Database, writer: StreamWriter) -> None:
    with database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        assert list(refold(session, writer.agent, writer.stream)) == []


def test_a_run_becomes_a_session_with_its_running_time_and_is_due_for_matching(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=80.5)
    writer.tick(PowerState.STANDBY, 60)
    result = commit(database, writer.arrivals())
    assert result.marks == {
        (writer.agent, writer.stream): dataclasses.replace(
            result.marks[writer.agent, writer.stream], upto=writer.seq, holes=()
        )
    }
    with database.read() as session:
        [row] = session.scalars(select(UsageSession))
        assert row.session_id == name
        assert row.odo_running_last_ms - row.odo_running_first_ms == 80.5 * 60_000
        assert (row.ended_at - row.started_at).total_seconds() == 80.5 * 60
        assert [(d.kind, d.subject_id) for d in session.scalars(select(Due))] == [("match_session", name)]
        [entry] = session.scalars(select(UsageEntry).where(UsageEntry.kind == "session"))
        assert entry.quantity_ms == 80.5 * 60_000
        assert session_records(session, name)[0].kind == "open"
        assert session_records(session, name)[-1].kind == "close"
    check(database, writer)


def test_a_repeated_batch_changes_nothing_and_gets_the_same_answer(database, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=10)
    first = commit(database, writer.arrivals())
    again = commit(database, writer.arrivals())
    assert again.marks == first.marks
    assert (again.appended, again.repeated, again.conflicts) == (0, writer.seq, 0)
    check(database, writer)


def test_a_hole_stops_the_mark_and_is_named_until_it_is_filled(database, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=10)
    arrivals = writer.arrivals()
    missing = arrivals.pop(4)
    mark = commit(database, arrivals).marks[writer.agent, writer.stream]
    assert (mark.upto, mark.holes) == (4, ((5, 5),))
    with database.read() as session:
        [row] = session.scalars(select(UsageSession))
        assert row.ended_at is None
    mark = commit(database, [missing]).marks[writer.agent, writer.stream]
    assert (mark.upto, mark.holes) == (writer.seq, ())
    check(database, writer)


def test_other_content_under_a_taken_key_is_kept_aside_and_alarmed(database, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=3)
    commit(database, writer.arrivals())
    forged = writer.records[1].model_copy(update={"samples": 999})
    result = commit(database, [dataclasses.replace(writer.arrivals()[1], payload=encode(forged), record=forged)])
    assert result.conflicts == 1
    with database.read() as session:
        [row] = session.scalars(select(UsageConflict))
        assert row.payload == encode(forged)
        assert session.scalars(select(Alert.rule)).all() == ["usage_conflict"]
    check(database, writer)


def test_a_parked_message_holds_its_place_and_the_odometer_still_gives_the_total(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=5)
    arrivals = writer.arrivals()
    arrivals[2] = dataclasses.replace(arrivals[2], record=None, payload=b"\x00garbage")
    mark = commit(database, arrivals).marks[writer.agent, writer.stream]
    assert mark.upto == writer.seq
    with database.read() as session:
        row = session.get_one(UsageSession, name)
        assert row.odo_running_last_ms - row.odo_running_first_ms == 300_000
        assert "interval_apart" in session.scalars(select(Alert.rule)).all()
    check(database, writer)


def test_unknown_time_inside_a_session_is_kept_apart_from_running(database, instruments):
    writer = StreamWriter(instruments[0])
    writer.open(10)
    writer.tick(PowerState.RUNNING, 60)
    writer.gap(90)
    writer.close(30)
    commit(database, writer.arrivals())
    with database.read() as session:
        [row] = session.scalars(select(UsageSession))
        assert row.odo_running_last_ms - row.odo_running_first_ms == 90_000
        assert row.odo_unknown_last_ms - row.odo_unknown_first_ms == 90_000
        assert "gap" in row.flags.split()
        [unknown] = session.scalars(select(UsageEntry).where(UsageEntry.kind == "unknown"))
        assert unknown.quantity_ms == 90_000
    check(database, writer)


def test_an_open_session_stands_at_its_last_durable_odometer(database, instruments):
    writer = StreamWriter(instruments[0])
    writer.open(10)
    writer.tick(PowerState.RUNNING, 60)
    commit(database, writer.arrivals())
    writer.tick(PowerState.RUNNING, 60)
    commit(database, writer.arrivals())
    with database.read() as session:
        [row] = session.scalars(select(UsageSession))
        assert row.open_slot == 1
        assert row.odo_running_last_ms - row.odo_running_first_ms == 120_000
    check(database, writer)


def test_long_quiet_streams_are_linked_every_so_many_records(database, instruments):
    writer = StreamWriter(instruments[0])
    for _ in range(600):
        writer.tick(PowerState.OFF, 60)
    arrivals = writer.arrivals()
    for start in range(0, 600, 77):
        commit(database, arrivals[start : start + 77])
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(UsageEntry).where(UsageEntry.kind == "fold")) == 2
    check(database, writer)


def test_a_changed_byte_of_a_record_is_named(database, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=5)
    commit(database, writer.arrivals())
    drop = {
        "sqlite": "DROP TRIGGER openlab_usage_record_no_update",
        "postgresql": "ALTER TABLE usage_record DISABLE TRIGGER ALL",
    }
    with database.write() as session:
        session.execute(text(drop[database.engine.dialect.name]))
        row = session.get_one(UsageRecordRow, (writer.agent, writer.stream, 3))
        row.payload = row.payload.replace(b'"running":1', b'"running":2', 1)
    with database.read() as session:
        fault = check_usage_chain(session, writer.agent, writer.stream)
        assert fault is not None
        assert (fault.table, fault.key) == ("usage_record", f"{writer.agent}/{writer.stream}/3")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), copies=st.integers(1, 3), size=st.integers(1, 40))
def test_any_order_repetition_and_batching_gives_the_same_ledger(database, instruments, seed, copies, size):
    """Invariant 1: duplication, re-order and loss-with-retry leave the same sessions and the same seconds."""
    dice = random.Random(seed)
    writer = StreamWriter(instruments[0], start_ms=NINE + dice.randrange(10**9))
    names = [writer.run(minutes=dice.choice([0.5, 1, 2, 7])) for _ in range(4)]
    writer.gap(dice.randrange(1, 100))
    writer.open(3)
    writer.tick(PowerState.RUNNING, 60)
    mess = writer.arrivals() * copies
    dice.shuffle(mess)
    for start in range(0, len(mess), size):
        commit(database, mess[start : start + size])
    with database.read() as session:
        position = session.get_one(MeterPosition, (writer.agent, writer.stream, writer.instrument))
        assert position.odo_running_ms == writer.odo.running
        assert position.odo_unknown_ms == writer.odo.unknown
        assert position.sessions == 5
        assert position.open_session_id == writer.session
        for name in names:
            row = session.get_one(UsageSession, name)
            open_, *_, close = session_records(session, name)
            assert row.odo_running_last_ms - row.odo_running_first_ms == close.odo.running - open_.odo.running
        assert stream_marks(session, [(writer.agent, writer.stream)])[writer.agent, writer.stream].upto == writer.seq
    check(database, writer)


def test_what_the_fast_insert_refuses_is_said_in_the_words_of_the_store(database, instruments):
    writer = StreamWriter(instruments[0])
    writer.run(minutes=1)
    commit(database, writer.arrivals())
    with database.read() as session:
        row = session.get_one(UsageRecordRow, (writer.agent, writer.stream, 1))
        values = {column.name: getattr(row, column.name) for column in UsageRecordRow.__table__.columns}
    with pytest.raises(AlreadyThere), database.write() as session:
        insert_many(session, UsageRecordRow, [values])
    with pytest.raises(StillReferenced), database.write() as session:
        insert_many(session, UsageRecordRow, [values | {"stream": "no-such-stream"}])
