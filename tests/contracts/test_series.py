"""What every time-series store promises, held against each of them."""

import itertools
import random
import threading
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.series import (
    END_MS,
    HOUR_MS,
    MAX_HOLD_MS,
    STATE_NAMES,
    Coverage,
    HourlyUse,
    Sample,
    SeriesRefused,
    SeriesStore,
    SeriesUnavailable,
    Thinned,
)
from tests.support.samples import OFF, OVEN, RUNNING, SPINDLE, STANDBY, UNKNOWN, H, all_of, steady, the_hours


def test_what_was_written_is_read_back_exactly(series: SeriesStore) -> None:
    samples = [
        Sample(SPINDLE, H, 0, OFF, 0),
        Sample(SPINDLE, H + 1, -3, UNKNOWN, None),
        Sample(SPINDLE, H + 9_999, 10**12, RUNNING, 2**62),
        Sample(SPINDLE, H + 10_000, 123_456_789, STANDBY, 42),
    ]
    series.write(samples)
    assert all_of(series) == samples
    assert all_of(series, OVEN) == []


def test_nothing_in_is_nothing_out(series: SeriesStore) -> None:
    series.ping()
    series.write([])
    assert all_of(series) == []
    assert the_hours(series) == []
    assert series.latest() == {}
    assert series.latest([SPINDLE]) == {}
    assert series.thinned(SPINDLE, H, H + HOUR_MS, 10) == []
    assert series.coverage(SPINDLE, H, H + HOUR_MS, 10_000) == Coverage(360, 0)
    assert series.coverage(SPINDLE, H, H, 10_000) == Coverage(0, 0)


def test_writing_again_changes_nothing(series: SeriesStore) -> None:
    samples = steady(H, H + HOUR_MS)
    series.write(samples)
    before = all_of(series), the_hours(series)
    series.write(samples)
    series.write(samples[100:101])
    assert (all_of(series), the_hours(series)) == before


def test_another_reading_at_the_same_instant_replaces_the_first(series: SeriesStore) -> None:
    series.write([Sample(SPINDLE, H, 5_000, RUNNING, 7), Sample(SPINDLE, H + 10_000, 0, OFF, 8)])
    series.write([Sample(SPINDLE, H, 1_000, STANDBY, None)])
    assert all_of(series) == [Sample(SPINDLE, H, 1_000, STANDBY, 7), Sample(SPINDLE, H + 10_000, 0, OFF, 8)]
    assert the_hours(series) == [HourlyUse(SPINDLE, H, 2, 250, 1_000, 30_000, 10_000, 0, 0)]


def test_of_one_instant_twice_in_a_call_the_last_wins(series: SeriesStore) -> None:
    series.write([Sample(SPINDLE, H, 1, OFF, 5), Sample(SPINDLE, H, 2, RUNNING, None)])
    assert all_of(series) == [Sample(SPINDLE, H, 2, RUNNING, 5)]


def test_the_order_of_arrival_does_not_matter(series: SeriesStore) -> None:
    samples = steady(H - 100_000, H + 200_000) + steady(H, H + 50_000, STANDBY, of=OVEN)
    shuffled = random.Random(7).sample(samples, len(samples))
    for start in range(0, len(shuffled), 4):
        series.write(shuffled[start : start + 4])
    assert all_of(series) + all_of(series, OVEN) == samples
    assert the_hours(series) == [
        HourlyUse(SPINDLE, H - HOUR_MS, 10, 1_500_000, 1_500_000, 0, 0, 100_000, 0),
        HourlyUse(SPINDLE, H, 20, 1_500_000, 1_500_000, 0, 0, 220_000, 0),
        HourlyUse(OVEN, H, 5, 1_500_000, 1_500_000, 0, 70_000, 0, 0),
    ]


def test_a_late_sample_updates_its_hour(series: SeriesStore) -> None:
    series.write([Sample(SPINDLE, H, 4_000, RUNNING), Sample(SPINDLE, H + 20_000, 4_000, RUNNING)])
    assert the_hours(series) == [HourlyUse(SPINDLE, H, 2, 4_000, 4_000, 0, 0, 50_000, 0)]
    series.write([Sample(SPINDLE, H + 10_000, 9_000, STANDBY)])
    assert the_hours(series) == [HourlyUse(SPINDLE, H, 3, 5_000, 9_000, 0, 10_000, 40_000, 0)]


def test_intervals_are_half_open(series: SeriesStore) -> None:
    series.write(steady(H, H + 50_000))
    assert [s.at_ms - H for s in series.read(SPINDLE, H + 10_000, H + 30_000)] == [10_000, 20_000]
    assert [s.at_ms - H for s in series.read(SPINDLE, H + 10_001, H + 30_001)] == [20_000, 30_000]
    assert list(series.read(SPINDLE, H, H)) == []
    assert len(series.thinned(SPINDLE, H, H + 40_000, 4)) == 4
    assert series.coverage(SPINDLE, H, H + 40_000, 10_000) == Coverage(4, 4)
    series.write(steady(H + HOUR_MS, H + HOUR_MS + 10_000))
    assert [use.hour_ms for use in series.hourly(None, H, H + HOUR_MS)] == [H]
    assert [use.hour_ms for use in series.hourly(None, H + 1, H + HOUR_MS + 1)] == [H + HOUR_MS]


def test_reading_can_be_limited_and_goes_over_many_pages(series: SeriesStore) -> None:
    samples = [Sample(SPINDLE, H + i, i, RUNNING) for i in range(11_003)]
    series.write(samples)
    assert all_of(series) == samples
    for limit in (0, 1, 999, 1_000, 1_001, 10_000, 20_000):
        assert list(series.read(SPINDLE, H, H + HOUR_MS, limit)) == samples[:limit]


def test_the_latest_sample_of_each_instrument(series: SeriesStore) -> None:
    spindle, oven = steady(H, H + 50_000), steady(H - HOUR_MS, H, of=OVEN)
    series.write(spindle + oven)
    assert series.latest() == {SPINDLE: spindle[-1], OVEN: oven[-1]}
    assert series.latest([OVEN, "xc-h99-99"]) == {OVEN: oven[-1]}
    assert series.latest([]) == {}


def test_a_chart_gets_whole_number_means_of_equal_slices(series: SeriesStore) -> None:
    powers = {0: 1, 10: 2, 100: 7, 150: -1, 199: 1, 250: 3}
    series.write([Sample(SPINDLE, H + 7 + at, power, RUNNING) for at, power in powers.items()])
    assert series.thinned(SPINDLE, H + 7, H + 307, 3) == [
        Thinned(H + 7, 2, 2, 2),  # 1.5: halves go up
        Thinned(H + 107, 3, 2, 7),  # 7, -1, 1
        Thinned(H + 207, 1, 3, 3),
    ]
    # Slices without a sample are left out, and more slices than milliseconds are one millisecond each.
    assert [t.start_ms - H for t in series.thinned(SPINDLE, H + 7, H + 307, 10_000)] == [7 + at for at in powers]
    assert series.thinned(SPINDLE, 0, END_MS, 1) == [Thinned(0, 6, 2, 7)]
    with pytest.raises(ValueError, match="at least one bucket"):
        series.thinned(SPINDLE, H, H + 1, 0)


def test_an_hour_is_cut_at_its_edges_and_loses_nothing(series: SeriesStore) -> None:
    series.write(
        [
            Sample(SPINDLE, H - 10_000, 6_000, RUNNING),  # speaks for 10 s of its hour and 20 s of the next
            Sample(SPINDLE, H + HOUR_MS - 1, 1_000, STANDBY),  # 1 ms of its hour, cut by the sample on the edge
            Sample(SPINDLE, H + HOUR_MS, 2_000, OFF),
            Sample(OVEN, H - MAX_HOLD_MS, 5, RUNNING),  # ends exactly at the full hour
        ]
    )
    assert the_hours(series, SPINDLE) == [
        HourlyUse(SPINDLE, H - HOUR_MS, 1, 6_000, 6_000, 0, 0, 10_000, 0),
        HourlyUse(SPINDLE, H, 1, 6_000, 6_000, 0, 1, 20_000, 0),  # (6000 * 20000 + 1000) / 20001
        HourlyUse(SPINDLE, H + HOUR_MS, 1, 2_000, 2_000, 30_000, 0, 0, 0),
    ]
    assert the_hours(series, OVEN) == [HourlyUse(OVEN, H - HOUR_MS, 1, 5, 5, 0, 0, 30_000, 0)]


def test_time_without_samples_is_a_hole_and_not_a_state(series: SeriesStore) -> None:
    first, second = steady(H, H + 600_000), steady(H + 1_200_000, H + HOUR_MS, UNKNOWN, 0)
    series.write(first + second)
    (use,) = series.hourly([SPINDLE], H, H + HOUR_MS)
    assert (use.running_ms, use.unknown_ms) == (600_000 + 20_000, 2_400_000)
    assert use.hole_ms == 600_000 - 20_000
    assert use.held_ms + use.hole_ms == HOUR_MS
    assert series.coverage(SPINDLE, H, H + HOUR_MS, 10_000) == Coverage(360, 300)


def test_coverage_counts_periods_and_not_samples(series: SeriesStore) -> None:
    series.write([Sample(SPINDLE, H + 3 + at, 1, RUNNING) for at in (0, 1, 9_999, 10_000, 30_000)])
    assert series.coverage(SPINDLE, H + 3, H + 3 + 45_000, 10_000) == Coverage(5, 3)
    with pytest.raises(ValueError, match="at least one millisecond"):
        series.coverage(SPINDLE, H, H + 1, 0)


def test_expired_samples_go_and_their_hours_stay(series: SeriesStore) -> None:
    samples = steady(H - 2 * HOUR_MS - 50_000, H + HOUR_MS)
    series.write(samples + steady(H - 60 * HOUR_MS, H - 59 * HOUR_MS, of=OVEN))
    hours = the_hours(series)
    assert series.expire(H + 123) == H
    kept = [sample for sample in samples if sample.at_ms >= H - MAX_HOLD_MS]
    assert all_of(series) == kept
    assert all_of(series, OVEN) == []
    assert the_hours(series) == hours
    assert series.expire(H - HOUR_MS) == H, "expiry never moves backwards"
    # A sample that comes too late would be the only one its hour is computed from: it is refused, the rest is kept.
    late, fresh = Sample(SPINDLE, H - HOUR_MS, 9, OFF), Sample(SPINDLE, H + 5, 1_500_000, RUNNING)
    with pytest.raises(SeriesRefused, match="expired") as refused:
        series.write([late, fresh])
    assert [refusal.sample for refusal in refused.value.refused] == [late]
    assert fresh in all_of(series)
    (after,) = series.hourly(None, H, H + HOUR_MS)
    assert (after.samples, after.running_ms) == (361, HOUR_MS), "what held into the first hour kept still counts"
    assert series.hourly(None, H - HOUR_MS, H) == [use for use in hours if use.hour_ms == H - HOUR_MS]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Sample("XC-H01-01", H, 1, OFF), "not a wire id"),
        (Sample("a' or 1=1", H, 1, OFF), "not a wire id"),
        (Sample("xc,host=x", H, 1, OFF), "not a wire id"),
        (Sample("_", H, 1, OFF), "not a wire id"),
        (Sample(SPINDLE, -1, 1, OFF), "time is outside"),
        (Sample(SPINDLE, 2**63, 1, OFF), "time is outside"),
        (Sample(SPINDLE, H, 10**12 + 1, OFF), "power is beyond"),
        (Sample(SPINDLE, H, 1.5, OFF), "whole numbers"),  # type: ignore[arg-type]
        (Sample(SPINDLE, H, 1, True), "whole numbers"),
        (Sample(SPINDLE, H, 1, 4), "state is not one of"),
        (Sample(SPINDLE, H, 1, OFF, -1), "energy register is outside"),
    ],
)
def test_a_refused_point_is_named_and_the_others_are_stored(series: SeriesStore, bad: Sample, why: str) -> None:
    good = [Sample(SPINDLE, H + 10, 1, OFF), Sample(OVEN, H, 2, RUNNING)]
    with pytest.raises(SeriesRefused, match=why) as refused:
        series.write([good[0], bad, good[1]])
    assert [refusal.sample for refusal in refused.value.refused] == [bad]
    assert all_of(series) + all_of(series, OVEN) == good
    assert len(the_hours(series)) == 2


def test_an_instrument_that_is_no_wire_id_cannot_be_asked_for(series: SeriesStore) -> None:
    evil = "x' OR time > 0 --"
    with pytest.raises(ValueError, match="not the wire id"):
        series.read(evil, 0, H)
    with pytest.raises(ValueError, match="not the wire id"):
        series.latest([evil])
    with pytest.raises(ValueError, match="not the wire id"):
        series.hourly([SPINDLE, evil], 0, H)
    with pytest.raises(ValueError, match="not the wire id"):
        series.thinned(evil, 0, H, 1)
    with pytest.raises(ValueError, match="not the wire id"):
        series.coverage(evil, 0, H, HOUR_MS)


@pytest.mark.parametrize(("from_ms", "to_ms"), [(-1, H), (0, END_MS + 1), (2**63, 2**64)])
def test_an_interval_beyond_the_end_of_time_is_refused(series: SeriesStore, from_ms: int, to_ms: int) -> None:
    asks = (
        lambda: series.read(SPINDLE, from_ms, to_ms),
        lambda: series.thinned(SPINDLE, from_ms, to_ms, 10),
        lambda: series.hourly(None, from_ms, to_ms),
        lambda: series.coverage(SPINDLE, from_ms, to_ms, 10_000),
    )
    for ask in asks:
        with pytest.raises(ValueError, match="is outside"):
            ask()


def test_threads_may_share_a_store(series: SeriesStore) -> None:
    errors: list[Exception] = []

    def write(of: str) -> None:
        try:
            for start in range(H, H + 600_000, 60_000):
                series.write(steady(start, start + 60_000, of=of))
                assert list(series.read(of, start, start + 60_000)) == steady(start, start + 60_000, of=of)
        except (SeriesUnavailable, AssertionError) as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"xc-t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [(use.samples, use.running_ms) for use in the_hours(series)] == [(60, 620_000)] * 6


_fresh = itertools.count()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_with_any_repeats_gives_the_hours_of_the_plain_definition(
    series: SeriesStore, data: st.DataObject
) -> None:
    edges = [H - HOUR_MS, H, H + HOUR_MS]
    near = st.builds(lambda edge, by: edge + by, st.sampled_from(edges), st.sampled_from([-1, 0, 1, -30_000, -29_999]))
    at = near | st.integers(H - HOUR_MS, H + HOUR_MS) | st.integers(H - 90_000, H + 90_000)
    instrument_id = f"xc-any-{next(_fresh)}"
    point = st.builds(
        Sample, st.just(instrument_id), at, st.integers(-5, 10**9), st.sampled_from(sorted(STATE_NAMES)), st.none()
    )
    arrived = data.draw(st.lists(point, min_size=1, max_size=30))
    cut = data.draw(st.integers(0, len(arrived)))
    for batch in (arrived[:cut], arrived[cut:], arrived[cut:]):
        series.write(batch)
    kept = {sample.at_ms: sample for sample in arrived}
    assert list(series.read(instrument_id, 0, END_MS)) == [kept[at] for at in sorted(kept)]
    assert the_hours(series, instrument_id) == plain_hours(kept.values())


def plain_hours(samples: Iterable[Sample]) -> list[HourlyUse]:
    """The definition, without cleverness: cut each sample's hold at full hours and add the pieces up."""
    ordered = sorted(samples, key=lambda sample: sample.at_ms)
    ends = [sample.at_ms for sample in ordered[1:]] + [END_MS]
    pieces: dict[int, list[tuple[Sample, int]]] = {}
    for sample, following in zip(ordered, ends, strict=True):
        begin, end = sample.at_ms, min(following, sample.at_ms + MAX_HOLD_MS)
        while begin < end:
            hour = begin // HOUR_MS * HOUR_MS
            until = min(end, hour + HOUR_MS)
            pieces.setdefault(hour, []).append((sample, until - begin))
            begin = until
    uses = []
    for hour in sorted(pieces):
        held = [sum(ms for sample, ms in pieces[hour] if sample.state == code) for code in (0, 1, 2, 3)]
        total = sum(sample.power_mw * ms for sample, ms in pieces[hour])
        average = (2 * total + sum(held)) // (2 * sum(held))
        inside = sum(1 for sample in ordered if hour <= sample.at_ms < hour + HOUR_MS)
        top = max(sample.power_mw for sample, _ in pieces[hour])
        uses.append(HourlyUse(ordered[0].instrument_id, hour, inside, average, top, *held))
    return uses
