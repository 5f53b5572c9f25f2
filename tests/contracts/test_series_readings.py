"""What every time-series store promises of readings (what meters show beside power), held against each of them."""

from contextlib import closing

import pytest

from store.series import (
    END_MS,
    HOUR_MS,
    Reading,
    ReadingsRefused,
    SeriesStore,
    SeriesUnavailable,
    ThinnedReadings,
    open_series,
)
from tests.contracts.conftest import SeriesCase
from tests.support.influx import InfluxServer
from tests.support.ports import free_port
from tests.support.samples import OVEN, SPINDLE, H, all_of, steady, the_hours

VOLTS, CELSIUS = "volts_l1", "celsius"
WEEK = 168 * HOUR_MS


def every(series: SeriesStore, quantity: str = VOLTS, of: str = SPINDLE) -> list[Reading]:
    return list(series.readings(of, quantity, 0, END_MS))


def minutes(count: int, quantity: str = VOLTS, of: str = SPINDLE) -> list[Reading]:
    return [Reading(of, H + i * 60_000, quantity, 230 + i / 8) for i in range(count)]


def test_readings_are_read_back_exactly_and_disturb_no_sample(series: SeriesStore) -> None:
    samples = steady(H, H + 60_000)
    series.write(samples)
    before = all_of(series), the_hours(series), series.latest()
    values = [231.4, -20.05, 0.1 + 0.2, 1e100, -1e100, 5e-324, 1e-7, 1e16, 50.0, 0.0]
    volts = [Reading(SPINDLE, H + at, VOLTS, value) for at, value in enumerate(values)]
    others = [
        Reading(SPINDLE, H, CELSIUS, 23.5),
        Reading(OVEN, H, "time", 7.0),  # names that a query language knows too
        Reading(OVEN, H, "select", 8.0),
    ]
    series.write_readings(others + volts[::-1])
    assert every(series) == volts
    assert [repr(one.value) for one in every(series)] == [repr(value) for value in values]
    assert every(series, CELSIUS) == others[:1]
    assert every(series, "time", OVEN) + every(series, "select", OVEN) == others[1:]
    assert series.quantities(SPINDLE, 0, END_MS) == [CELSIUS, VOLTS]
    assert series.quantities(OVEN, 0, END_MS) == ["select", "time"]
    assert (all_of(series), the_hours(series), series.latest()) == before
    assert series.latest([OVEN]) == {}, "a reading is no sample"


def test_no_readings_are_nothing(series: SeriesStore) -> None:
    series.write_readings([])
    assert every(series) == []
    assert series.quantities(SPINDLE, 0, END_MS) == []
    assert series.thinned_readings(SPINDLE, VOLTS, H, H + HOUR_MS, 10) == []
    assert series.expire(H) == H


def test_a_repeated_reading_changes_nothing_and_another_value_replaces_it(series: SeriesStore) -> None:
    readings = minutes(3)
    series.write_readings(readings)
    series.write_readings(readings)
    assert every(series) == readings
    other = Reading(SPINDLE, readings[1].at_ms, VOLTS, 190.0)
    series.write_readings([Reading(SPINDLE, readings[1].at_ms, VOLTS, 1.0), other])
    assert every(series) == [readings[0], other, readings[2]]


def test_intervals_of_readings_are_half_open_and_go_over_many_pages(series: SeriesStore) -> None:
    readings = minutes(5_003)
    series.write_readings(readings)
    assert every(series) == readings
    first, last = readings[10].at_ms, readings[12].at_ms
    assert list(series.readings(SPINDLE, VOLTS, first, last)) == readings[10:12]
    assert list(series.readings(SPINDLE, VOLTS, first, first)) == []
    assert series.quantities(SPINDLE, H - 1, H) == series.quantities(SPINDLE, H + 1, H + 60_000) == []
    assert series.quantities(SPINDLE, H, H + 1) == [VOLTS]


def test_a_chart_of_readings_has_mean_lowest_and_highest_of_equal_slices(series: SeriesStore) -> None:
    values = {0: 1.0, 10: 2.0, 100: -7.5, 150: 2.5, 250: 3.0}
    series.write_readings([Reading(SPINDLE, H + 7 + at, CELSIUS, value) for at, value in values.items()])
    series.write_readings(minutes(2))
    assert series.thinned_readings(SPINDLE, CELSIUS, H + 7, H + 307, 3) == [
        ThinnedReadings(H + 7, 2, 1.5, 1.0, 2.0),
        ThinnedReadings(H + 107, 2, -2.5, -7.5, 2.5),
        ThinnedReadings(H + 207, 1, 3.0, 3.0, 3.0),
    ]
    assert series.thinned_readings(SPINDLE, CELSIUS, H + 7, H + 7, 3) == []
    with pytest.raises(ValueError, match="at least one bucket"):
        series.thinned_readings(SPINDLE, CELSIUS, H, H + 1, 0)


def test_readings_expire_with_the_samples_and_come_back_no_more(series: SeriesStore) -> None:
    old = [Reading(SPINDLE, H - age, name, 1.0) for age in (80 * HOUR_MS, 30 * HOUR_MS, 1) for name in (VOLTS, CELSIUS)]
    old.append(Reading(OVEN, H - 1, "hertz", 50.0))
    kept = minutes(2)
    series.write_readings(old + kept)
    assert series.expire(H + 123) == H
    assert every(series) == kept
    assert every(series, CELSIUS) == every(series, "hertz", OVEN) == []
    assert series.quantities(SPINDLE, 0, END_MS) == [VOLTS]
    fresh = Reading(OVEN, H, "hertz", 49.9)
    with pytest.raises(ReadingsRefused, match="expired") as refused:
        series.write_readings([old[4], fresh])
    assert [one.reading for one in refused.value.refused] == [old[4]]
    assert every(series, "hertz", OVEN) == [fresh]


BAD = [
    (Reading("XC-H01-01", H, VOLTS, 1.0), "not a wire id"),
    (Reading("a' or 1=1", H, VOLTS, 1.0), "not a wire id"),
    (Reading(SPINDLE, H, "Volts", 1.0), "quantity is not named"),
    (Reading(SPINDLE, H, "volts,l=1", 1.0), "quantity is not named"),
    (Reading(SPINDLE, H, "volts\n", 1.0), "quantity is not named"),
    (Reading(SPINDLE, H, "v" * 33, 1.0), "quantity is not named"),
    (Reading(SPINDLE, -1, VOLTS, 1.0), "time is outside"),
    (Reading(SPINDLE, END_MS, VOLTS, 1.0), "time is outside"),
    (Reading(SPINDLE, 1.5, VOLTS, 1.0), "time is a whole number"),  # type: ignore[arg-type]
    (Reading(SPINDLE, H, VOLTS, float("nan")), "not a number within"),
    (Reading(SPINDLE, H, VOLTS, float("-inf")), "not a number within"),
    (Reading(SPINDLE, H, VOLTS, 1.1e100), "not a number within"),
    (Reading(SPINDLE, H, VOLTS, "1"), "not a number within"),  # type: ignore[arg-type]
    (Reading(SPINDLE, H, VOLTS, True), "not a number within"),
]


def test_each_refused_reading_is_named_and_the_others_are_stored(series: SeriesStore) -> None:
    good = minutes(len(BAD))
    with pytest.raises(ReadingsRefused, match=r"not a wire id \(and 13 more\)") as refused:
        series.write_readings([one for pair in zip(good, [bad for bad, _ in BAD], strict=True) for one in pair])
    named = refused.value.refused
    assert [repr(one.reading) for one in named] == [repr(bad) for bad, _ in BAD]
    assert [(one.reason, why) for one, (_, why) in zip(named, BAD, strict=True) if why not in one.reason] == []
    assert every(series) == good


def test_readings_of_what_can_have_no_name_cannot_be_asked_for(series: SeriesStore) -> None:
    evil = "x' OR time > 0 --"
    for ask in (
        lambda: series.readings(evil, VOLTS, 0, H),
        lambda: series.readings(SPINDLE, evil, 0, H),
        lambda: series.thinned_readings(evil, VOLTS, 0, H, 1),
        lambda: series.thinned_readings(SPINDLE, evil, 0, H, 1),
        lambda: series.quantities(evil, 0, H),
    ):
        with pytest.raises(ValueError, match="is not the"):
            ask()
    for ask in (
        lambda: series.readings(SPINDLE, VOLTS, -1, H),
        lambda: series.thinned_readings(SPINDLE, VOLTS, 0, END_MS + 1, 1),
        lambda: series.quantities(SPINDLE, -1, H),
    ):
        with pytest.raises(ValueError, match="is outside"):
            ask()


def test_readings_wait_where_the_store_is_away() -> None:
    with (
        closing(open_series(f"influxdb://127.0.0.1:{free_port()}/openlab/none")) as series,
        pytest.raises(SeriesUnavailable),
    ):
        series.write_readings(minutes(1))


def test_readings_that_the_server_refuses_are_named_and_those_of_other_weeks_are_stored(
    influx_server: InfluxServer, influx_case: SeriesCase
) -> None:
    database = influx_case.url.split("/")[-1].split("?")[0]
    # Another program made `value` an integer in that week's shard: the server takes no float there any more.
    influx_server.write_line(database, f"reading,instrument={OVEN},quantity={CELSIUS} value=1i {H}")
    weeks = [Reading(SPINDLE, H + week * WEEK, VOLTS, 230.0 + week) for week in range(1, 20)]
    bad = Reading(OVEN, H + 5, CELSIUS, 3.5)
    with closing(open_series(influx_case.url)) as series:
        with pytest.raises(ReadingsRefused, match="type conflict") as refused:
            series.write_readings([bad, *weeks])
        assert [one.reading for one in refused.value.refused] == [bad]
        assert every(series) == weeks
