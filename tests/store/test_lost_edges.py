"""The record that opened or closed a session is lost: no second changes hands in silence."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from store.database import Database
from store.ledger import Arrival, check_usage_chain, commit_usage, refold
from store.tables.calendar import Due
from store.tables.usage import Alert, UsageSession
from tests.support.usage import NINE, StreamWriter, add_registry
from wire.commands import not_kept_record
from wire.messages import PowerState, RecordKind, encode

NOW = NINE + 86_400_000
MINUTE = 60_000


@pytest.fixture
def instrument(database: Database) -> str:
    with database.write() as session:
        return add_registry(session)[0]


@pytest.fixture
def writer(instrument: str) -> StreamWriter:
    return StreamWriter(instrument)


def commit(database: Database, writer: StreamWriter, lost: set[int]) -> None:
    """Commit a stream of which some records are lost: the stand-ins that say so are in their places."""
    arrivals = []
    for record in writer.records:
        there = not_kept_record(writer.stream, record.seq) if record.seq in lost else record
        arrivals.append(Arrival(writer.agent, writer.stream, record.seq, encode(there), there))
    with database.write() as session:
        commit_usage(session, arrivals, NOW, "gateway:test")
    with database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        assert list(refold(session, writer.agent, writer.stream)) == []


def sessions(database: Database) -> dict[str, tuple[int, str]]:
    """Running time and flags by session, in the order of their begin."""
    with database.read() as session:
        rows = session.scalars(select(UsageSession).order_by(UsageSession.open_seq))
        return {r.session_id: (r.odo_running_last_ms - r.odo_running_first_ms, r.flags) for r in rows}


def kinds(writer: StreamWriter, *wanted: RecordKind) -> list[int]:
    return [record.seq for record in writer.records if record.kind in wanted]


def alerts(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {alert.rule: alert.detail for alert in session.scalars(select(Alert))}


def test_a_session_of_which_the_opening_record_is_lost_keeps_its_time_and_says_so(
    database: Database, writer: StreamWriter
) -> None:
    name = writer.run(minutes=5)
    writer.tick(PowerState.STANDBY, 60)
    commit(database, writer, {1})
    assert sessions(database) == {name: (5 * MINUTE, "open_lost")}
    assert "open_lost" in alerts(database)


def test_what_ran_in_the_hole_before_the_only_session_that_touches_it_is_its_own(
    database: Database, writer: StreamWriter
) -> None:
    writer.tick(PowerState.STANDBY, 60)
    name = writer.run(minutes=5)
    commit(database, writer, {2, 3, 4})
    assert sessions(database) == {name: (5 * MINUTE, "open_lost")}


def test_a_session_of_which_the_closing_record_is_lost_ends_where_the_next_record_begins(
    database: Database, writer: StreamWriter
) -> None:
    name = writer.run(minutes=5)
    writer.tick(PowerState.STANDBY, 60)
    commit(database, writer, set(kinds(writer, RecordKind.CLOSE)))
    assert sessions(database) == {name: (5 * MINUTE, "close_lost")}
    with database.read() as session:
        assert [due.subject_id for due in session.scalars(select(Due))] == [name]


def test_between_two_sessions_the_time_in_the_hole_goes_to_neither_and_a_person_is_told_how_much(
    database: Database, writer: StreamWriter
) -> None:
    first = writer.run(minutes=5)
    second = writer.run(minutes=5)
    close, opened = kinds(writer, RecordKind.CLOSE)[0], kinds(writer, RecordKind.OPEN)[1]
    commit(database, writer, {close, opened, opened + 1})
    assert sessions(database) == {first: (4 * MINUTE, "close_lost"), second: (4 * MINUTE, "open_lost")}
    assert "120000 ms ran in the hole" in alerts(database)["open_lost"]


def test_a_record_cannot_bring_back_a_session_that_ended(database: Database, writer: StreamWriter) -> None:
    name = writer.run(minutes=5)
    writer.tick(PowerState.STANDBY, 60)
    late = writer.records[-1].model_copy(update={"session": name})
    writer.records[-1] = late
    commit(database, writer, set())
    assert sessions(database) == {name: (5 * MINUTE, "")}
    assert "session_id_differs" in alerts(database)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    lost=st.sets(st.integers(1, 30), max_size=6),
    data=st.data(),
)
def test_whatever_is_lost_no_session_gets_more_than_ran_and_each_that_changed_is_flagged(
    database: Database, instrument: str, runs: list[int], lost: set[int], data: st.DataObject
) -> None:
    writer = StreamWriter(instrument)
    meant = {}
    for minutes in runs:
        meant[writer.run(minutes=minutes, standby_s=data.draw(st.sampled_from([0, 60])))] = minutes * MINUTE
        if data.draw(st.booleans()):
            writer.tick(PowerState.STANDBY, 60)
    commit(database, writer, {seq for seq in lost if seq <= writer.seq})
    found = {name: of for name, of in sessions(database).items() if writer.stream in name}
    total = max((r.odo.running for r in writer.records if r.seq not in lost), default=0)
    assert sum(running for running, _ in found.values()) <= total
    assert set(found) <= set(meant)
    for name, (running, flags) in found.items():
        assert running == meant[name] or flags or name == list(meant)[-1]
