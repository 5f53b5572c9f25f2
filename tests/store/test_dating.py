"""A box whose clock was not set begins in the past; once it is set, what it recorded is dated again."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from store.database import Database
from store.ledger import check_usage_chain, commit_usage, refold, session_records
from store.tables.calendar import Due, UnbookedUse
from store.tables.usage import Alert, UsageEntry, UsageSession
from tests.support.unset_clock import Unset
from tests.support.usage import NINE, add_registry
from wire.clock import from_ms, to_ms
from wire.messages import ClockQuality, PowerState, timestamp_ms

NOW = NINE + 86_400_000
MINUTE = 60_000
STEP = NINE - MINUTE


@pytest.fixture
def writer(database: Database) -> Unset:
    with database.write() as session:
        return Unset(add_registry(session)[0])


def commit(database: Database, writer: Unset, batches: Sequence[int] = ()) -> None:
    """Commit a stream, in one batch or cut after these numbers."""
    arrivals = writer.arrivals()
    for first, last in zip([0, *batches], [*batches, len(arrivals)], strict=True):
        with database.write() as session:
            commit_usage(session, arrivals[first:last], NOW, "gateway:test")
    with database.read() as session:
        assert check_usage_chain(session, writer.agent, writer.stream) is None
        assert list(refold(session, writer.agent, writer.stream)) == []


def found(database: Database, name: str) -> UsageSession:
    with database.read() as session:
        return session.get_one(UsageSession, name)


def span(row: UsageSession) -> tuple[int, int]:
    return to_ms(row.started_at), to_ms(row.ended_at or row.last_at)


@pytest.mark.parametrize("batches", [(), (7,), (3, 7)])
def test_a_session_that_ended_before_the_clock_was_set_gets_the_dates_it_had(
    database: Database, writer: Unset, batches: tuple[int, ...]
) -> None:
    name = writer.run(5)
    writer.tick(PowerState.STANDBY, 60)
    writer.set_clock()
    writer.tick(PowerState.STANDBY, 60)
    commit(database, writer, batches)
    row = found(database, name)
    assert span(row) == (NINE + MINUTE, NINE + 6 * MINUTE)
    assert (row.flags, row.odo_running_last_ms - row.odo_running_first_ms) == ("dated_again", 5 * MINUTE)
    with database.read() as session:
        stated = session.scalars(select(UsageEntry).where(UsageEntry.session_id == name).order_by(UsageEntry.revision))
        assert [e.quantity_ms for e in stated] == [5 * MINUTE, -5 * MINUTE, 5 * MINUTE]
        labels = [timestamp_ms(r.ts) for r in session_records(session, name)]
        assert labels == [NINE + n * MINUTE for n in range(1, 7)]
        assert [due.subject_id for due in session.scalars(select(Due))] == [name]


@pytest.mark.parametrize("batches", [(), (4,), (3,), (3, 4, 5)])
def test_an_open_session_gets_the_begin_it_had_and_goes_on(
    database: Database, writer: Unset, batches: tuple[int, ...]
) -> None:
    writer.open(60)
    name = str(writer.session)
    writer.tick(PowerState.RUNNING, 60)
    writer.tick(PowerState.RUNNING, 60)
    writer.set_clock()
    writer.tick(PowerState.RUNNING, 60)
    writer.close(60)
    commit(database, writer, batches)
    row = found(database, name)
    assert span(row) == (NINE + MINUTE, NINE + 5 * MINUTE)
    assert row.flags == "dated_again"


def test_what_another_boot_dated_without_a_clock_stays_as_it_is_and_says_so(database: Database, writer: Unset) -> None:
    name = writer.run(5)
    writer.boot, writer.mono_ms = "boot-2", 1_000
    writer.tick(PowerState.STANDBY, 60)
    writer.set_clock()
    commit(database, writer)
    row = found(database, name)
    assert row.started_at == from_ms(2 * MINUTE)
    assert row.flags == "end_unset start_unset"


def test_a_clock_that_moved_and_is_still_not_trusted_is_waited_for(database: Database, writer: Unset) -> None:
    name = writer.run(5)
    writer.set_clock(MINUTE, ClockQuality.UNSET)
    writer.set_clock(STEP - MINUTE)
    commit(database, writer)
    row = found(database, name)
    assert span(row) == (NINE + MINUTE, NINE + 6 * MINUTE)
    assert row.flags == "dated_again"


def test_use_that_somebody_was_given_by_its_old_date_keeps_it_and_a_person_is_told(
    database: Database, writer: Unset
) -> None:
    name = writer.run(5)
    commit(database, writer)
    with database.write() as session:
        row = session.get_one(UsageSession, name)
        times = {"from_at": row.started_at, "to_at": row.ended_at, "running_ms": 5 * MINUTE, "unknown_ms": 0}
        nobody = {"purpose": None, "classified_by": None, "classified_at": None}
        session.add(
            UnbookedUse(session_id=name, instrument_id=row.instrument_id, found_at=from_ms(NOW), **times, **nobody)
        )
    writer.set_clock()
    commit(database, writer)
    assert found(database, name).started_at == from_ms(2 * MINUTE)
    with database.read() as session:
        assert "dated_too_late" in set(session.scalars(select(Alert.rule)))


@pytest.mark.parametrize("batches", [(), (5,), (3, 4, 5, 6, 7)])
@pytest.mark.parametrize("closed_first", [True, False])
def test_a_session_whose_hole_gets_its_length_is_in_doubt_no_more(
    database: Database, writer: Unset, batches: tuple[int, ...], closed_first: bool
) -> None:
    writer.now_ms, writer.quality = NINE, ClockQuality.NTP
    writer.open(60)
    name = str(writer.session)
    writer.tick(PowerState.RUNNING, 60)
    gap_seq = writer.reboot()
    writer.tick(PowerState.RUNNING, 60)
    if closed_first:
        writer.close(60)
    writer.tell_length(gap_seq)
    if not closed_first:
        writer.close(60)
    commit(database, writer, batches)
    row = found(database, name)
    assert row.flags == "gap inferred length_told"
    # What ran is what the odometers say; the hole's length is in the chain, for people.
    assert (row.odo_running_last_ms - row.odo_running_first_ms, row.odo_unknown_last_ms) == (3 * MINUTE, 0)
    with database.read() as session:
        said = session.scalars(select(UsageEntry.reason).where(UsageEntry.reason.startswith("hole")))
        assert list(said) == [f"hole {gap_seq} lasted {60 * MINUTE} ms, recorded 0"]
        assert [due.subject_id for due in session.scalars(select(Due))] == [name]


def test_a_length_that_is_no_length_or_of_another_hole_leaves_the_doubt(database: Database, writer: Unset) -> None:
    writer.now_ms, writer.quality = NINE, ClockQuality.NTP
    writer.open(60)
    name = str(writer.session)
    gap_seq = writer.reboot()
    writer.tell_length(gap_seq, ClockQuality.UNSET)
    writer.tell_length(gap_seq, length_ms=-1)
    writer.tell_length(gap_seq, inst="xc-h99-99")
    writer.tell_length(1)
    writer.close(60)
    # The next hole lies behind this session; nobody ever said how long the one in it was by itself.
    writer.tell_length(writer.reboot())
    commit(database, writer, (2, 5))
    assert found(database, name).flags == "gap inferred length_unknown"
