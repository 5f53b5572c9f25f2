"""The detector: when an instrument runs, to the sample, and never a guess."""

import json
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edge_agents.detector import (
    DetectorProfile,
    DetectorState,
    Interval,
    interrupted,
    profile_from_catalogue,
    rebased,
    run,
    step,
)
from edge_agents.drivers.base import Quality, Reading
from tests.edge.making import A_PROFILE, joined, readings, said, trace_readings
from wire.messages import PowerState

STATE = TypeAdapter(DetectorState)


def detected(powers: Sequence[float | None]) -> list[tuple[int, int, str]]:
    return said(run(A_PROFILE, DetectorState(), readings(powers))[1])


def test_a_run_starts_at_the_first_sample_above_and_ends_at_the_first_below() -> None:
    powers = [0] * 5 + [500] * 10 + [0] * 10
    assert detected(powers) == [(0, 5, "off"), (5, 15, "running"), (15, 24, "off")]


def test_a_spike_shorter_than_the_dwell_is_not_a_run() -> None:
    assert detected([20] * 5 + [500] * 2 + [20] * 10) == [(0, 16, "standby")]


def test_a_pause_shorter_than_the_dwell_does_not_end_a_run() -> None:
    assert detected([500] * 10 + [0] * 4 + [500] * 10) == [(0, 23, "running")]


def test_power_between_the_thresholds_changes_nothing() -> None:
    assert detected([90] * 10) == [(0, 9, "standby")]
    assert detected([500] * 5 + [90] * 10) == [(0, 14, "running")]


def test_time_whose_state_is_not_decided_yet_is_not_given_out() -> None:
    state, settled = run(A_PROFILE, DetectorState(), readings([0] * 5 + [500] * 3))
    assert said(settled) == [(0, 5, "off")]
    assert state.settled_ms == 5_000
    assert state.run_since_ms == 5_000


def test_standby_and_off_are_told_apart_without_chatter() -> None:
    powers = [20] * 4 + [0, 20, 0, 20] + [9, 11, 8.5, 12] + [0] * 5 + [20, 0, 20] + [20] * 4
    assert detected(powers) == [(0, 12, "standby"), (12, 19, "off"), (19, 23, "standby")]


def test_the_fall_through_standby_to_off_is_dated_sample_by_sample() -> None:
    assert detected([500] * 6 + [30] * 4 + [0] * 6) == [(0, 6, "running"), (6, 10, "standby"), (10, 15, "off")]


def test_a_climb_through_standby_into_a_run_keeps_its_standby_second() -> None:
    assert detected([0] * 4 + [30] + [500] * 6) == [(0, 4, "off"), (4, 5, "standby"), (5, 10, "running")]


def test_a_hole_is_unknown_and_the_same_run_goes_on_behind_it() -> None:
    before, after = readings([500] * 10), readings([500] * 5, start_ms=60_000)
    state, settled = run(A_PROFILE, DetectorState(), before + after)
    assert said(settled) == [(0, 9, "running"), (9, 60, "unknown"), (60, 64, "running")]
    assert state.running


def test_a_run_that_is_over_behind_a_hole_ends_at_the_first_sample_there() -> None:
    settled = run(A_PROFILE, DetectorState(), readings([500] * 10) + readings([0] * 8, start_ms=60_000))[1]
    assert said(settled) == [(0, 9, "running"), (9, 60, "unknown"), (60, 67, "off")]


def test_a_run_found_behind_a_hole_starts_at_the_first_sample_there() -> None:
    settled = run(A_PROFILE, DetectorState(), readings([0] * 10) + readings([500] * 8, start_ms=60_000))[1]
    assert said(settled) == [(0, 9, "off"), (9, 60, "unknown"), (60, 67, "running")]


def test_undecided_time_before_a_hole_is_unknown_too() -> None:
    settled = run(A_PROFILE, DetectorState(), readings([0] * 5 + [500] * 2) + readings([0] * 5, start_ms=60_000))[1]
    assert said(settled) == [(0, 5, "off"), (5, 60, "unknown"), (60, 64, "off")]


def test_a_single_missed_reading_is_held_over_and_a_silent_meter_is_unknown() -> None:
    assert detected([500] * 5 + [None] + [500] * 5) == [(0, 10, "running")]
    assert detected([500] * 5 + [None] * 8 + [500] * 5) == [(0, 4, "running"), (4, 13, "unknown"), (13, 17, "running")]


def test_a_meter_that_is_silent_from_the_start_is_unknown_from_the_start() -> None:
    assert detected([None] * 5 + [0] * 3) == [(0, 5, "unknown"), (5, 7, "off")]


@pytest.mark.parametrize("power", [float("nan"), float("inf"), None])
def test_a_reading_that_is_no_number_counts_as_none(power: float | None) -> None:
    state, settled = step(A_PROFILE, DetectorState(), Reading(0, power))
    assert state.blind
    assert settled == []


def test_a_reading_that_is_not_later_is_ignored() -> None:
    state, _ = run(A_PROFILE, DetectorState(), readings([0, 0, 0]))
    assert step(A_PROFILE, state, Reading(2000, 500)) == (state, [])
    assert step(A_PROFILE, state, Reading(1500, 500)) == (state, [])


def test_an_interrupted_detector_calls_the_pause_unknown_however_short() -> None:
    state, first = run(A_PROFILE, DetectorState(), readings([500] * 10))
    _, second = run(A_PROFILE, interrupted(state), readings([500] * 5, start_ms=11_000))
    assert said(first + second) == [(0, 9, "running"), (9, 11, "unknown"), (11, 15, "running")]


def test_a_new_boot_keeps_what_was_confirmed_and_none_of_its_times() -> None:
    state, _ = run(A_PROFILE, DetectorState(), readings([500] * 10))
    assert rebased(state) == DetectorState(running=True, level=state.level)
    _, settled = run(A_PROFILE, rebased(state), readings([500] * 3, start_ms=50))
    assert settled == [Interval(50, 2050, PowerState.RUNNING)]


def test_a_profile_has_one_text_and_one_hash() -> None:
    profile = profile_from_catalogue(60, 250, 4200, 1025)
    assert profile.canonical() == DetectorProfile(**json.loads(profile.canonical())).canonical()
    assert len(profile.sha256) == 64
    assert profile.off_w < profile.on_w == 1025
    assert not profile.narrow
    assert profile_from_catalogue(700, 1300, 1900, 1572).narrow


@pytest.mark.parametrize("levels", [(60, 250, 240, 245), (300, 250, 4200, 1025), (60, 250, 4200, 250)])
def test_catalogue_levels_that_do_not_rise_are_refused(levels: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValueError, match="must rise"):
        profile_from_catalogue(*levels)


@pytest.mark.parametrize("watts", [(100, 120, 10), (100, 80, 90), (100, 80, -1), (float("nan"), 80, 10)])
def test_thresholds_that_contradict_each_other_are_refused(watts: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="standby_w <= off_w <= on_w"):
        DetectorProfile(*watts)


# Powers on and around each threshold, and readings that come late or not at all.
POWER = st.sampled_from([0.0, 7.9, 8.0, 10.0, 10.1, 79.9, 80.0, 90.0, 100.0, 100.1, 500.0, None])
CURVE = st.lists(st.tuples(st.sampled_from([500, 1000, 1000, 1000, 4000, 4001, 30_000]), POWER), max_size=80)


def curve(steps: list[tuple[int, float | None]]) -> list[Reading]:
    out, at = [], 0
    for gap, power in steps:
        at += gap
        out.append(Reading(at, power, None, Quality.STALE if power is None else Quality.GOOD))
    return out


@given(CURVE)
@settings(max_examples=300, deadline=None)
def test_intervals_touch_and_account_for_all_time_but_the_undecided(steps: list[tuple[int, float | None]]) -> None:
    points = curve(steps)
    state, settled = DetectorState(), []
    for point in points:
        state, out = step(A_PROFILE, state, point)
        settled += out
        assert state.settled_ms is not None
        assert state.settled_ms <= point.mono_ms
    assert all(i.from_ms < i.to_ms for i in settled)
    assert all(a.to_ms == b.from_ms for a, b in pairwise(settled))
    if settled:
        assert settled[0].from_ms == points[0].mono_ms
        assert settled[-1].to_ms == state.settled_ms
    held_back = [since for since in (state.run_since_ms, state.level_since_ms) if since is not None]
    if points and not state.blind and points[-1].power_w is not None:
        assert state.settled_ms == points[-1].mono_ms or held_back


@given(CURVE, st.data())
@settings(max_examples=200, deadline=None)
def test_a_restart_at_any_sample_gives_the_same_intervals(
    steps: list[tuple[int, float | None]], data: st.DataObject
) -> None:
    points = curve(steps)
    whole = run(A_PROFILE, DetectorState(), points)
    cut = data.draw(st.integers(0, len(points)))
    state, first = run(A_PROFILE, DetectorState(), points[:cut])
    state = STATE.validate_json(STATE.dump_json(state))
    state, second = run(A_PROFILE, state, points[cut:])
    assert state == whole[0]
    assert joined(first + second) == whole[1]


@given(CURVE)
@settings(max_examples=200, deadline=None)
def test_no_run_is_shorter_than_its_dwell_unless_a_hole_cuts_it(steps: list[tuple[int, float | None]]) -> None:
    _, settled = run(A_PROFILE, DetectorState(), curve(steps))
    for n, interval in enumerate(settled):
        if interval.state is PowerState.RUNNING and 0 < n < len(settled) - 1:
            neighbours = (settled[n - 1].state, settled[n + 1].state)
            assert PowerState.UNKNOWN in neighbours or interval.to_ms - interval.from_ms >= A_PROFILE.up_ms


@pytest.mark.parametrize(("on_w", "off_w"), [(10, 5), (8, 6), (5, 5)])
def test_the_dishwasher_ran_once_for_80_minutes_and_40_seconds(on_w: float, off_w: float) -> None:
    profile = DetectorProfile(on_w=on_w, off_w=off_w, standby_w=3, down_ms=60_000)
    _, settled = run(profile, DetectorState(), trace_readings("dishwasher"))
    [session] = [i for i in settled if i.state is PowerState.RUNNING]
    assert abs(session.from_ms - 32_920_000) <= 4_000
    assert abs(session.to_ms - 37_760_000) <= 4_000
    assert abs(session.to_ms - session.from_ms - 4_840_000) <= 4_000


def test_a_coffee_machine_that_keeps_itself_warm_at_night_is_not_in_use() -> None:
    # As taught: just above the idle level, and a dwell of one and a half of its longest burst.
    profile = DetectorProfile(on_w=25, off_w=22, standby_w=3, up_ms=18_000, down_ms=10_000)
    _, settled = run(profile, DetectorState(), trace_readings("coffee_night"))
    assert PowerState.RUNNING not in {i.state for i in settled}


def test_the_washing_machine_ran_twice() -> None:
    profile = DetectorProfile(on_w=8, off_w=5, standby_w=1.5, up_ms=5_000, down_ms=120_000)
    _, settled = run(profile, DetectorState(), trace_readings("washer_a"))
    runs = [i for i in settled if i.state is PowerState.RUNNING]
    assert len(runs) == 2
