"""A box whose clock was not set begins in the past; once it is set, what it recorded is dated again."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from store.database import Database
from store.ledger import check_usage_chain, commit_usage, refold, session_records
from store.tables.calendar import Due, UnbookedUse
from store.tables.usage import Alert, UsageEntry, UsageSession
from tests.support.unset_clock import Unset
from tests.support.usage import NINE, add_registry
from wire.clock import from_ms, to_ms
from wire.messages import ClockQuality, PowerState, RecordKind, timestamp_ms

NOW = NINE + 86_400_000
MINUTE = 60_000
STEP = NINE - MINUTE
HOUR = 60 * MINUTE
EIGHT = 8 * HOUR
NTP, RTC, HOLDOVER, UNSET = ClockQuality.NTP, ClockQuality.RTC, ClockQuality.HOLDOVER, ClockQuality.UNSET


@pytest.fixture
def writer(database: Database) -> Unset:
    with database.write() as session:
        return Unset(add_registry(session)[0])


def commit(database: Database, writer: Unset, batches: Sequence[int] = (), received_ms: int = NOW) -> None:
    """Commit a stream, in one batch or cut after these numbers."""
    arrivals = writer.arrivals()
    for first, last in zip([0, *batches], [*batches, len(arrivals)], strict=True):
        with database.write() as session:
            commit_usage(session, arrivals[first:last], received_ms, "gateway:test")
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


@pytest.mark.slow_on_postgresql
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
    give_away(database, name)
    writer.set_clock()
    commit(database, writer)
    assert found(database, name).started_at == from_ms(2 * MINUTE)
    assert "dated_too_late" in alerts(database)


def give_away(database: Database, name: str) -> None:
    """Let a session be matched by the dates it has, as use that nobody booked."""
    with database.write() as session:
        row = session.get_one(UsageSession, name)
        times = {"from_at": row.started_at, "to_at": row.ended_at, "running_ms": 5 * MINUTE, "unknown_ms": 0}
        nobody = {"purpose": None, "classified_by": None, "classified_at": None}
        session.add(
            UnbookedUse(session_id=name, instrument_id=row.instrument_id, found_at=from_ms(NOW), **times, **nobody)
        )


def alerts(database: Database) -> set[str]:
    with database.read() as session:
        return set(session.scalars(select(Alert.rule)))


@pytest.mark.slow_on_postgresql
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


def off_by(writer: Unset, off_ms: int, quality: ClockQuality = RTC) -> Unset:
    """A box whose clock shows another time than it is."""
    writer.now_ms, writer.quality = NINE + off_ms, quality
    return writer


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("batches", [(), (7,), (3, 7), (2, 3, 4, 5, 6, 7)])
@pytest.mark.parametrize("off_ms", [EIGHT, -EIGHT])
def test_a_clock_that_was_wrong_dates_again_what_it_dated_when_it_is_set(
    database: Database, writer: Unset, off_ms: int, batches: tuple[int, ...]
) -> None:
    off_by(writer, off_ms)
    name = writer.run(5)
    writer.tick(PowerState.STANDBY, 60)
    writer.set_clock(-off_ms)
    writer.tick(PowerState.STANDBY, 60)
    commit(database, writer, batches)
    row = found(database, name)
    assert (span(row), row.flags) == ((NINE + MINUTE, NINE + 6 * MINUTE), "dated_again")
    with database.read() as session:
        stated = session.scalars(select(UsageEntry).where(UsageEntry.session_id == name).order_by(UsageEntry.revision))
        assert [(e.quantity_ms, e.reason != "") for e in stated] == [
            (5 * MINUTE, False), (-5 * MINUTE, True), (5 * MINUTE, True),
        ]  # fmt: skip
        assert [timestamp_ms(r.ts) for r in session_records(session, name)] == [NINE + n * MINUTE for n in range(1, 7)]
        assert [due.subject_id for due in session.scalars(select(Due))] == [name]


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("batches", [(), (4,), (3,), (3, 4, 5)])
@pytest.mark.parametrize("off_ms", [EIGHT, -EIGHT, 3_000, -3_000])
def test_a_clock_that_is_set_while_a_session_runs_leaves_it_as_long_as_it_was(
    database: Database, writer: Unset, off_ms: int, batches: tuple[int, ...]
) -> None:
    off_by(writer, off_ms)
    writer.open(60)
    name = str(writer.session)
    writer.tick(PowerState.RUNNING, 60)
    writer.tick(PowerState.RUNNING, 60)
    writer.set_clock(-off_ms)
    writer.tick(PowerState.RUNNING, 60)
    writer.close(60)
    commit(database, writer, batches)
    row = found(database, name)
    assert (span(row), row.flags) == ((NINE + MINUTE, NINE + 5 * MINUTE), "dated_again")


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize(
    ("before", "off_ms", "after", "moves"),
    [
        (RTC, MINUTE, NTP, False),
        (RTC, MINUTE + 1, NTP, True),
        (RTC, -MINUTE - 1, NTP, True),
        (RTC, EIGHT, RTC, True),
        (RTC, EIGHT, UNSET, False),
        (HOLDOVER, EIGHT, NTP, False),
        (HOLDOVER, EIGHT, RTC, False),
        (NTP, EIGHT, NTP, False),
        (UNSET, 1_000, RTC, True),
    ],
)
def test_a_session_that_ended_is_dated_again_by_what_is_worth_as_much_and_no_small_step(
    database: Database, writer: Unset, before: ClockQuality, off_ms: int, after: ClockQuality, moves: bool
) -> None:
    off_by(writer, off_ms, before)
    name = writer.run(5)
    writer.set_clock(-off_ms, after)
    commit(database, writer, (4,))
    row = found(database, name)
    assert ((span(row)[0], row.flags) == (NINE + MINUTE, "dated_again")) is moves
    assert (row.flags == "") is not moves


def test_each_end_of_a_session_is_dated_by_what_its_own_boot_says(database: Database, writer: Unset) -> None:
    off_by(writer, 0, NTP)
    writer.open(60)
    name = str(writer.session)
    writer.tick(PowerState.RUNNING, 60)
    writer.boot, writer.mono_ms = "boot-2", 1_000
    off_by(writer, 2 * MINUTE - EIGHT)
    writer.tick(PowerState.RUNNING, 60)
    writer.close(60)
    commit(database, writer)
    # Until the clock is set it ran for as long as its odometer says, from a begin that is sure.
    assert span(found(database, name)) == (NINE + MINUTE, NINE + 4 * MINUTE)
    writer.set_clock(EIGHT)
    commit(database, writer)
    assert span(found(database, name)) == (NINE + MINUTE, NINE + 4 * MINUTE)
    with database.read() as session:
        assert [timestamp_ms(r.ts) for r in session_records(session, name)] == [NINE + n * MINUTE for n in range(1, 5)]


@pytest.mark.slow_on_postgresql
def test_a_clock_that_somebody_sets_wrong_and_a_time_service_sets_right_does_no_harm(
    database: Database, writer: Unset
) -> None:
    off_by(writer, 0)
    first = writer.run(5)
    writer.set_clock(-EIGHT, RTC)
    second = writer.run(5)
    writer.set_clock(EIGHT, NTP)
    third = writer.run(5)
    commit(database, writer, (8, 9, 16, 17))
    starts = [span(found(database, name))[0] - NINE for name in (first, second, third)]
    assert starts == [MINUTE, 7 * MINUTE, 13 * MINUTE]


@pytest.mark.slow_on_postgresql
def test_no_label_is_moved_to_where_it_cannot_have_been(database: Database, writer: Unset) -> None:
    off_by(writer, 0)
    name = writer.run(5)
    writer.set_clock(EIGHT, RTC)
    commit(database, writer, received_ms=NINE + HOUR)
    assert (span(found(database, name))[0], found(database, name).flags) == (NINE + MINUTE, "")


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("batches", [(), (6,), (3, 6)])
def test_use_that_was_matched_before_a_wrong_clock_was_set_keeps_its_date_in_doubt(
    database: Database, writer: Unset, batches: tuple[int, ...]
) -> None:
    off_by(writer, -EIGHT)
    name = writer.run(5)
    commit(database, writer, batches)
    give_away(database, name)
    for step in (EIGHT, -2 * HOUR):
        writer.set_clock(step, RTC)
        commit(database, writer)
    row = found(database, name)
    assert (span(row)[0], row.flags) == (NINE + MINUTE - EIGHT, "dated_too_late")
    assert alerts(database) == {"dated_too_late"}
    with database.read() as session:
        said = session.scalars(select(UsageEntry.reason).where(UsageEntry.reason.startswith("dates stay")))
        assert list(said) == [f"dates stay {name}"]


def test_what_was_dated_again_and_then_matched_stays_as_it_was_matched(database: Database, writer: Unset) -> None:
    off_by(writer, -EIGHT)
    name = writer.run(5)
    writer.set_clock(EIGHT + HOUR, RTC)
    commit(database, writer)
    give_away(database, name)
    writer.set_clock(-HOUR, NTP)
    commit(database, writer)
    row = found(database, name)
    assert (span(row)[0], row.flags) == (NINE + MINUTE + HOUR, "dated_again dated_too_late")
    with database.read() as session:
        assert timestamp_ms(session_records(session, name)[0].ts) == NINE + MINUTE + HOUR


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize(("ahead_ms", "flags"), [(MINUTE, ""), (MINUTE + 1, "dated_ahead")])
@pytest.mark.parametrize("quality", [NTP, RTC])
def test_a_record_that_says_a_later_time_than_it_was_received_at_is_known_to_be_wrong(
    database: Database, writer: Unset, ahead_ms: int, flags: str, quality: ClockQuality
) -> None:
    off_by(writer, 0, quality)
    name = writer.run(5)
    commit(database, writer, (3,), writer.now_ms - ahead_ms)
    assert found(database, name).flags == flags


def test_what_waited_for_a_hole_is_judged_by_when_it_was_received(database: Database, writer: Unset) -> None:
    off_by(writer, EIGHT)
    name = writer.run(5)
    missing, *rest = writer.arrivals()
    for arrivals, at_ms in ((rest, NINE + HOUR), ([missing], NINE + EIGHT + HOUR)):
        with database.write() as session:
            commit_usage(session, arrivals, at_ms, "gateway:test")
    assert found(database, name).flags == "dated_ahead"
    commit(database, writer)


@pytest.mark.slow_on_postgresql
@pytest.mark.parametrize("quality", [NTP, RTC, UNSET])
def test_a_clock_that_ran_ahead_is_set_and_nothing_is_in_doubt_any_more(
    database: Database, writer: Unset, quality: ClockQuality
) -> None:
    off_by(writer, EIGHT, quality)
    name = writer.run(5)
    writer.open(60)
    running = str(writer.session)
    commit(database, writer, received_ms=NINE + HOUR)
    assert "dated_ahead" in found(database, name).flags
    writer.set_clock(-EIGHT)
    writer.session = running
    writer.close(60)
    commit(database, writer, received_ms=NINE + HOUR)
    for one, began in ((name, MINUTE), (running, 7 * MINUTE)):
        assert (span(found(database, one))[0], found(database, one).flags) == (NINE + began, "dated_again")


clocks = st.sampled_from([-EIGHT, -61_000, -60_000, -3_000, 0, 3_000, 60_000, 61_000, EIGHT, NINE])
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.sampled_from([0.5, 1, 3])),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("end"), st.just(0)),
        st.tuples(st.just("standby"), st.just(0)),
        st.tuples(st.just("clock"), st.tuples(clocks, st.sampled_from([NTP, RTC, HOLDOVER, UNSET]))),
        st.tuples(st.just("boot"), st.tuples(clocks, st.sampled_from([NTP, RTC, UNSET]))),
        st.tuples(st.just("lose"), st.just(0)),
        st.tuples(st.sampled_from(["send", "match"]), st.just(0)),
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.slow_on_postgresql
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=happenings, off_ms=clocks, quality=st.sampled_from([NTP, RTC, HOLDOVER, UNSET]), late_ms=clocks)
@example([("begin", 0), ("clock", (-EIGHT, NTP)), ("end", 0)], EIGHT, RTC, 0)
@example([("begin", 0), ("lose", 0), ("run", 1), ("clock", (-EIGHT, NTP)), ("clock", (0, NTP))], EIGHT, RTC, 0)
@example([("begin", 0), ("boot", (EIGHT, RTC)), ("end", 0), ("clock", (-EIGHT, NTP))], 0, NTP, 0)
def test_however_clocks_are_set_a_session_lasts_as_long_as_it_ran_and_the_stream_folds_to_the_same_again(
    database: Database,
    writer: Unset,
    events: list[tuple[str, object]],
    off_ms: int,
    quality: ClockQuality,
    late_ms: int,
) -> None:
    stream = off_by(Unset(writer.instrument), off_ms, quality)
    received, real_ms = NINE + late_ms, 0
    kept = 0
    for what, how in events:
        before_ms = stream.mono_ms
        if what == "run":
            stream.run(float(str(how)))
        elif what == "begin" and stream.session is None:
            stream.open(60)
        elif what == "end" and stream.session is not None:
            stream.close(60)
        elif what == "standby":
            stream.tick(PowerState.STANDBY if stream.session is None else PowerState.RUNNING, 60)
        elif what == "lose" and stream.seq > kept:
            lost = stream.records[-1].model_copy(update={"kind": RecordKind.FAULT, "inst": "_", "session": None})
            stream.records[-1] = lost
        elif what == "clock":
            going, (step, worth) = stream.session, how  # type: ignore[misc]
            stream.set_clock(step, worth)
            stream.session = going
        elif what == "boot":
            shift, worth = how  # type: ignore[misc]
            stream.boot, stream.mono_ms = f"boot-{stream.seq + 2}", 500
            off_by(stream, real_ms + shift, worth)
            before_ms = 500
        elif what in ("send", "match"):
            kept = stream.seq
            with database.write() as session:
                commit_usage(session, stream.arrivals(), received, "gateway:test")
                over = session.scalars(
                    select(UsageSession.session_id).where(
                        UsageSession.stream == stream.stream,
                        UsageSession.ended_at.is_not(None),
                        UsageSession.session_id.not_in(select(UnbookedUse.session_id)),
                    )
                ).all()
            for name in over if what == "match" else ():
                give_away(database, name)
        real_ms += stream.mono_ms - before_ms
    if not stream.records:
        return
    commit(database, stream, received_ms=received)
    with database.read() as session:
        rows = session.scalars(select(UsageSession).where(UsageSession.stream == stream.stream)).all()
    for row in rows:
        ran_ms = row.odo_running_last_ms - row.odo_running_first_ms
        assert row.ended_at is None or span(row)[1] - span(row)[0] >= min(ran_ms, max(1, ran_ms - MINUTE))
