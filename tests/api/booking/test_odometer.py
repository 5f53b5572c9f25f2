"""Odometer points out of records: exact while clocks run forward, never falling whatever the labels say."""

from hypothesis import given
from hypothesis import strategies as st

from api.booking.matching import MeteredSession, OdometerPoint
from api.booking.odometer import odometer_points
from tests.support.usage import NINE, StreamWriter
from wire.messages import PowerState, UsageRecord, timestamp, timestamp_ms

MIN = 60_000


def points_of(writer: StreamWriter) -> tuple[OdometerPoint, ...]:
    records = writer.records
    first = OdometerPoint(_at(records[0]), records[0].odo.running, records[0].odo.unknown)
    last = OdometerPoint(max(_at(records[0]), _at(records[-1])), records[-1].odo.running, records[-1].odo.unknown)
    return odometer_points(records, first, last)


def _at(record: UsageRecord) -> int:
    return timestamp_ms(record.ts)


def test_points_stand_where_the_records_end() -> None:
    writer = StreamWriter("xc-h01-01", start_ms=NINE)
    writer.open()
    writer.tick(PowerState.RUNNING, 60)
    writer.tick(PowerState.STANDBY, 30)
    writer.close(30)
    assert points_of(writer) == (
        OdometerPoint(NINE, 0, 0),
        OdometerPoint(NINE + MIN, MIN, 0),
        OdometerPoint(NINE + MIN + 30_000, MIN, 0),
        OdometerPoint(NINE + 2 * MIN, MIN + 30_000, 0),
    )


def test_a_clock_set_forward_leaves_the_odometer_standing_for_the_jump() -> None:
    writer = StreamWriter("xc-h01-01", start_ms=NINE)
    writer.open()
    writer.now_ms += 10 * MIN
    writer.close(60)
    session = MeteredSession("s", points_of(writer))
    assert session.at(NINE + 10 * MIN) == (0, 0)
    assert session.at(NINE + 10 * MIN + 30_000) == (30_000, 0)


def test_a_clock_set_back_holds_the_labels_until_they_rise_again() -> None:
    writer = StreamWriter("xc-h01-01", start_ms=NINE)
    writer.open()
    writer.tick(PowerState.RUNNING, 600)
    writer.now_ms -= 5 * MIN
    writer.close(600)
    session = MeteredSession("s", points_of(writer))
    assert session.to_ms == NINE + 15 * MIN
    assert session.points[-1].running_ms == 20 * MIN


@given(st.lists(st.tuples(st.sampled_from(PowerState), st.integers(0, 600), st.integers(-900, 900)), max_size=8))
def test_points_never_fall_and_keep_both_ends(ticks: list[tuple[PowerState, int, int]]) -> None:
    writer = StreamWriter("xc-h01-01", start_ms=NINE)
    writer.open()
    for state, seconds, step in ticks:
        writer.now_ms += step * 1000
        writer.tick(state, seconds)
    writer.close(5)
    points = points_of(writer)
    MeteredSession("s", points)
    assert points[0].running_ms == writer.records[0].odo.running
    assert points[-1].running_ms == writer.records[-1].odo.running
    assert timestamp(points[0].at_ms) == writer.records[0].ts
