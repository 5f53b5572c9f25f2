"""Old ticks go, and nothing else: what is left still proves the same sessions, and tampering with it is still found."""

import dataclasses
import itertools
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from store.database import Database
from store.ledger import (
    check_usage_chain,
    commit_usage,
    drop_ticks,
    folded_upto,
    refold,
    session_records,
    streams_with_old_ticks,
)
from store.tables.calendar import UnbookedUse
from store.tables.usage import UsageRecordRow, UsageSession
from tests.support.unset_clock import Unset
from tests.support.usage import NINE, StreamWriter, add_registry, at
from wire.messages import ClockQuality, PowerState, timestamp_ms

NOW = NINE + 100 * 86_400_000
LATER = at(NOW)


@pytest.fixture
def instruments(database: Database) -> list[str]:
    with database.write() as session:
        return add_registry(session)


def commit(database: Database, arrivals) -> None:
    with database.write() as session:
        commit_usage(session, arrivals, NOW, "gateway:test")


def settle(database: Database, *names: str, cut_after_min: int | None = None, off_by_ms: int = 0) -> None:
    """Say whose the use was, as the lab manager does; with a cut, in two parts."""
    with database.write() as session:
        for name in names:
            row = session.get_one(UsageSession, name)
            edges = [row.started_at, row.ended_at]
            if cut_after_min is not None:
                edges.insert(1, row.started_at + timedelta(minutes=cut_after_min))
            for start, end in itertools.pairwise(edges):
                session.add(
                    UnbookedUse(
                        session_id=name,
                        from_at=start,
                        instrument_id=row.instrument_id,
                        to_at=end,
                        running_ms=round((end - start).total_seconds() * 1000) + off_by_ms,
                        unknown_ms=0,
                        found_at=row.ended_at,
                        purpose="internal",
                        classified_by="somebody",
                        classified_at=row.ended_at,
                    )
                )


def drop(database: Database, writer: StreamWriter, before=LATER):
    with database.write() as session:
        return drop_ticks(session, (writer.agent, writer.stream), before, NOW, "system:expire")


def check(database: Database, writer: StreamWriter) -> None:
    with database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        assert list(refold(session, writer.agent, writer.stream)) == []


def kinds(database: Database, writer: StreamWriter) -> list[str]:
    with database.read() as session:
        return list(
            session.scalars(
                select(UsageRecordRow.kind).where(UsageRecordRow.stream == writer.stream).order_by(UsageRecordRow.seq)
            )
        )


def test_ticks_of_settled_sessions_go_and_the_ledger_still_proves_them(database, instruments):
    writer = StreamWriter(instruments[0])
    names = [writer.run(minutes=40), writer.run(minutes=90)]
    commit(database, writer.arrivals())
    settle(database, *names)
    gone = drop(database, writer)
    assert gone is not None
    assert gone.dropped == 39 + 89
    assert kinds(database, writer) == ["open", "close", "open", "close"]
    check(database, writer)
    with database.read() as session:
        assert folded_upto(session, writer.agent, writer.stream) == writer.seq
        assert [r.kind for r in session_records(session, names[0])] == ["open", "close"]
        row = session.get_one(UsageSession, names[1])
        assert row.odo_running_last_ms - row.odo_running_first_ms == 90 * 60_000


def test_the_stream_goes_on_after_its_ticks_were_dropped_and_is_dropped_from_again(database, instruments):
    writer = StreamWriter(instruments[0])
    first = writer.run(minutes=30)
    commit(database, writer.arrivals())
    settle(database, first)
    drop(database, writer)
    second = writer.run(minutes=20)
    commit(database, writer.arrivals()[-21:])
    check(database, writer)
    settle(database, second)
    again = drop(database, writer)
    assert again is not None
    assert again.dropped == 19
    check(database, writer)
    assert drop(database, writer) is None


def test_a_session_nobody_has_settled_keeps_its_ticks(database, instruments):
    writer = StreamWriter(instruments[0])
    settled, open_question = writer.run(minutes=10), writer.run(minutes=10)
    commit(database, writer.arrivals())
    settle(database, settled)
    drop(database, writer)
    assert kinds(database, writer) == ["open", "close", "open", *["tick"] * 9, "close"]
    check(database, writer)
    settle(database, open_question)
    drop(database, writer)
    assert kinds(database, writer) == ["open", "close", "open", "close"]
    check(database, writer)


def test_young_records_a_running_session_gaps_and_flags_stay(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=5)
    writer.gap(90)
    writer.tick(PowerState.STANDBY, 60, flags=("narrow_contrast",))
    writer.tick(PowerState.STANDBY, 60)
    cut = writer.now_ms
    writer.tick(PowerState.STANDBY, 60)
    writer.open(10)
    writer.tick(PowerState.RUNNING, 60)
    commit(database, writer.arrivals())
    settle(database, name)
    drop(database, writer, at(cut + 1))
    # A link is the border: the gap was the last one below the cut.
    assert kinds(database, writer) == ["open", "close", "gap", "tick", "tick", "tick", "open", "tick"]
    check(database, writer)


def test_the_records_around_the_instant_at_which_a_session_was_divided_stay(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=60)
    commit(database, writer.arrivals())
    settle(database, name, cut_after_min=30)
    gone = drop(database, writer)
    assert gone is not None
    kept = kinds(database, writer)
    with database.read() as session:
        middle = session.get_one(UsageSession, name).started_at + timedelta(minutes=30)
        labels = [at(timestamp_ms(record.ts)) for record in session_records(session, name)]
    # The record whose interval begins at that instant, and the one that ends there, among the few that stay.
    assert {middle, middle + timedelta(minutes=1)} <= set(labels)
    assert len(labels) == len(kept) <= 6
    check(database, writer)


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("off_ms", [-8 * 3_600_000, 8 * 3_600_000, -3_000])
def test_what_was_dated_again_keeps_its_dates_and_the_records_around_a_cut_when_its_ticks_go(
    database, instruments, off_ms
):
    writer = Unset(instruments[0])
    writer.now_ms, writer.quality = NINE + off_ms, ClockQuality.RTC
    first = writer.run(minutes=30)
    writer.open(60)
    second = writer.session
    for _ in range(10):
        writer.tick(PowerState.RUNNING, 60)
    writer.set_clock(-off_ms)
    writer.session = second
    for _ in range(20):
        writer.tick(PowerState.RUNNING, 60)
    writer.close(60)
    commit(database, writer.arrivals())
    settle(database, first, second, cut_after_min=6)
    with database.read() as session:
        before = [(r.seq, r.ts) for name in (first, second) for r in session_records(session, name)]
    gone = drop(database, writer)
    assert gone is not None
    assert gone.dropped > 30
    check(database, writer)
    with database.read() as session:
        for name in (first, second):
            row, left = session.get_one(UsageSession, name), session_records(session, name)
            cut = row.started_at + timedelta(minutes=6)
            assert {cut, cut + timedelta(minutes=1)} <= {at(timestamp_ms(record.ts)) for record in left}
            assert {(record.seq, record.ts) for record in left} <= set(before)
    # A clock that is set later still dates what is left of the stream, as if all of it were there.
    writer.set_clock(3_600_000)
    commit(database, writer.arrivals())
    check(database, writer)


@pytest.mark.parametrize("what", ["a kept record is changed", "a kept record is gone", "a later tick is gone"])
def test_tampering_with_what_is_left_is_found(database, instruments, what):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=30)
    commit(database, writer.arrivals())
    settle(database, name)
    drop(database, writer)
    for _ in range(300):
        writer.tick(PowerState.OFF, 60)
    commit(database, writer.arrivals()[31:])
    check(database, writer)
    off = {"sqlite": ["no_update", "no_delete"], "postgresql": []}[database.engine.dialect.name]
    with database.write() as session:
        for trigger in off:
            session.execute(text(f"DROP TRIGGER openlab_usage_record_{trigger}"))
        if not off:
            session.execute(text("ALTER TABLE usage_record DISABLE TRIGGER ALL"))
        if what == "a kept record is changed":
            row = session.get_one(UsageRecordRow, (writer.agent, writer.stream, 1))
            forged = row.payload.replace(b'"samples":0', b'"samples":9')
            session.execute(
                update(UsageRecordRow)
                .where(UsageRecordRow.seq == 1)
                .values(payload=forged, payload_sha256=dataclasses.replace(writer.arrivals()[0], payload=forged).sha256)
            )
        else:
            seq = 1 if what == "a kept record is gone" else 100
            session.execute(text("DELETE FROM usage_record WHERE seq = :seq"), {"seq": seq})
    with database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is not None


def test_a_tick_that_is_sent_again_after_it_was_dropped_is_a_repeat(database, instruments):
    writer = StreamWriter(instruments[0])
    name = writer.run(minutes=30)
    commit(database, writer.arrivals())
    settle(database, name)
    drop(database, writer)
    with database.write() as session:
        result = commit_usage(session, writer.arrivals(), NOW, "gateway:test")
    assert (result.appended, result.repeated, result.conflicts) == (0, writer.seq, 0)
    assert result.marks[writer.agent, writer.stream].upto == writer.seq
    check(database, writer)


def test_streams_with_old_ticks_are_named(database, instruments):
    old, young = StreamWriter(instruments[0]), StreamWriter(instruments[1], start_ms=NOW)
    for writer in (old, young):
        writer.tick(PowerState.OFF, 60)
        commit(database, writer.arrivals())
    with database.read() as session:
        assert streams_with_old_ticks(session, at(NOW - 1)) == [(old.agent, old.stream)]
        assert session.scalar(select(func.count()).select_from(UsageRecordRow)) == 2
