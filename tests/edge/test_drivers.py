"""Drivers: real, recorded and simulated sources of power tell the same kind of truth."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge_agents.detector import DetectorState, profile_from_catalogue, run
from edge_agents.drivers import build_driver
from edge_agents.drivers.base import BadDriverSetting, Driver, DriverContext, Quality, Reading, credible
from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.drivers.habits import HOUR, MINUTE, Habits, day_start, local_day, what_became_of
from edge_agents.drivers.simulated import Levels, SimulatedDriver
from edge_agents.drivers.trace import TraceDriver
from tests.edge.making import trace_path, trace_readings
from wire.clock import ManualClock
from wire.messages import MAX_EXTRA, PowerState

MONDAY = day_start(20_600 - (20_600 + 3) % 7)
LEVELS = Levels(7500, 60, 250, 4200, 1025)
NARROW = Levels(6000, 700, 1300, 1900, 1572)
PLAIN = Habits(no_show=0, late=0, ends_early=0, overruns=0, walk_ins_per_week=(0, 0), off_at_night=1)


def played(driver: Driver, until_ms: int) -> list[Reading]:
    out, due = [], driver.next_due(-1)
    while due <= until_ms:
        out.append(driver.read(due))
        due = driver.next_due(due)
    return out


def test_a_function_that_returns_watts_is_a_driver() -> None:
    clock = ManualClock(0)
    driver = CallableDriver(lambda: 12.5, clock, period_ms=1000)
    clock.advance(1700)
    assert driver.read(1000) == Reading(1700, 12.5)
    assert driver.next_due(1700) == 2000
    assert driver.next_due(2000) == 3000


def test_a_function_that_knows_more_says_it_by_name() -> None:
    answers: list[Mapping[str, float | None]] = [
        {"power_w": 12.5, "energy_wh": 80_412, "celsius": 23.5, "volts": None},
        {"celsius": 23.5},
        {"power_w": 12.5, "celsius": float("nan"), "Not A Name": 1.0} | {f"n{n}": n for n in range(30)},
    ]
    driver = CallableDriver(lambda: answers.pop(0), ManualClock(0), period_ms=1000)
    assert driver.read(0) == Reading(0, 12.5, 80_412.0, extra={"celsius": 23.5})
    assert driver.read(0).quality is Quality.STALE, "of a meter without power nothing is told"
    assert list(credible(driver.read(0)).extra) == [f"n{n}" for n in range(MAX_EXTRA)]


def test_a_function_that_raises_or_says_nothing_is_a_meter_that_does_not_answer() -> None:
    def broken() -> float:
        raise OSError("no route to meter")

    for function in (broken, lambda: None):
        assert CallableDriver(function, ManualClock(0)).read(0).quality is Quality.STALE


def test_a_trace_is_played_at_its_own_times() -> None:
    samples = [(500_000, 1.0), (501_000, 2.0), (503_000, 3.0), (504_000, 4.0)]
    driver = TraceDriver(samples, ManualClock(0), period_ms=1000)
    assert played(driver, 4000) == [Reading(0, 1.0), Reading(1000, 2.0), Reading(3000, 3.0), Reading(4000, 4.0)]
    assert not driver.finished


def test_a_trace_can_start_at_a_wall_time() -> None:
    clock = ManualClock(1_000_000)
    driver = TraceDriver([(0, 1.0), (1000, 2.0)], clock, start_ms=1_060_000)
    assert driver.next_due(0) == 60_000
    assert driver.read(30_000).quality is Quality.STALE
    assert driver.read(61_000) == Reading(61_000, 2.0)


def test_a_pause_in_a_trace_is_a_silent_meter_and_so_is_its_end() -> None:
    driver = TraceDriver([(0, 1.0), (1000, 2.0), (30_000, 3.0)], ManualClock(0), period_ms=1000)
    heard = played(driver, 40_000)
    assert [r.mono_ms for r in heard if r.quality is Quality.GOOD] == [0, 1000, 30_000]
    assert [r.mono_ms for r in heard if r.quality is Quality.STALE] == [
        6_000,
        11_000,
        16_000,
        21_000,
        26_000,
        35_000,
        40_000,
    ]
    assert driver.finished


def test_a_real_trace_comes_out_as_it_was_recorded() -> None:
    recorded = trace_readings("dishwasher")
    driver = TraceDriver.from_csv(trace_path("dishwasher"), ManualClock(0))
    heard = [r for r in played(driver, recorded[-1].mono_ms - recorded[0].mono_ms) if r.quality is Quality.GOOD]
    assert [(r.mono_ms + recorded[0].mono_ms, r.power_w) for r in heard] == [(r.mono_ms, r.power_w) for r in recorded]


@pytest.mark.parametrize("text", ["", "t_s,power_w\n", "a,b\n1,2\n", "t_s,power_w\n1,x\n", "t_s,power_w\n2,1\n1,1\n"])
def test_a_file_that_is_no_trace_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "curve.csv"
    file.write_text(text)
    with pytest.raises(BadDriverSetting, match=r"curve\.csv"):
        TraceDriver.from_csv(file, ManualClock(0))


def simulated(tmp_path: Path, plan: list[tuple[int, int]], **options: object) -> SimulatedDriver:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    habits = options.pop("habits", PLAIN)
    driver = SimulatedDriver(LEVELS, ManualClock(MONDAY), "seed", plan=file, habits=habits)  # type: ignore[arg-type]
    driver.look_at_plan()
    return driver


def test_a_simulated_instrument_sleeps_at_night_idles_by_day_and_runs_when_booked(tmp_path: Path) -> None:
    driver = simulated(tmp_path, [(MONDAY + 10 * HOUR, MONDAY + 11 * HOUR)])
    assert driver.power_at(MONDAY + 3 * HOUR) == 0
    assert 200 < driver.power_at(MONDAY + 9 * HOUR + 30 * MINUTE) < 300
    assert driver.power_at(MONDAY + 10 * HOUR + 30 * MINUTE) > 3800
    assert 200 < driver.power_at(MONDAY + 11 * HOUR + 5 * MINUTE) < 300
    assert driver.power_at(MONDAY + 23 * HOUR) == 0


def test_its_power_depends_on_seed_and_time_alone(tmp_path: Path) -> None:
    times = [MONDAY + n * 977_000 for n in range(500)]
    one, two = (simulated(tmp_path, [(MONDAY, MONDAY + HOUR)], habits=Habits()) for _ in range(2))
    assert [one.power_at(t) for t in times] == [two.power_at(t) for t in reversed(times)][::-1]


def test_a_new_plan_is_noticed(tmp_path: Path) -> None:
    driver = simulated(tmp_path, [])
    at = MONDAY + 14 * HOUR
    assert driver.power_at(at) < 1000
    file = tmp_path / "plan.json"
    file.write_text(json.dumps([[at - HOUR, at + HOUR]]))
    os.utime(file, (1, 1))
    driver.look_at_plan()
    assert driver.power_at(at) > 3800
    file.write_text("half a pl")
    driver.look_at_plan()
    assert driver.power_at(at) > 3800


def test_some_do_not_come_and_some_stay_longer() -> None:
    booked = [(MONDAY + n * HOUR, MONDAY + (n + 1) * HOUR) for n in range(400)]
    real = [(span, what_became_of("seed", span, Habits())) for span in booked]
    assert 5 < sum(1 for _, run in real if run is None) < 60
    assert any(run is not None and run[1] > span[1] for span, run in real)
    assert any(run is not None and run[0] > span[0] for span, run in real)


@pytest.mark.parametrize("levels", [LEVELS, NARROW])
def test_its_noise_never_looks_like_a_run_or_like_the_end_of_one(levels: Levels) -> None:
    clock = ManualClock(MONDAY)
    driver = SimulatedDriver(levels, clock, "seed", habits=Habits(walk_ins_per_week=(3, 3)), period_ms=5000)
    profile = profile_from_catalogue(levels.standby_w, levels.idle_w, levels.running_w, levels.run_threshold_w)
    # Two weeks, half a minute a reading: every walk-in is found, at its own time, and nothing else.
    points = [Reading(t, driver.power_at(MONDAY + t)) for t in range(0, 14 * 24 * HOUR, 30_000)]
    _, settled = run(profile, DetectorState(), points)
    runs = [i for i in settled if i.state is PowerState.RUNNING]
    assert runs
    for found in runs:
        real = driver.running_at(MONDAY + found.from_ms)
        assert real is not None
        assert 0 <= MONDAY + found.from_ms - real[0] < 30_000
        assert 0 <= MONDAY + found.to_ms - real[1] < 30_000
    days = {local_day(MONDAY + t) for t in range(0, 14 * 24 * HOUR, HOUR)}
    assert len(runs) == sum(len(driver._day(day)[1]) for day in days)


def test_drivers_are_built_by_name_and_say_what_they_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def context(**params: object) -> DriverContext:
        return DriverContext("xc-h01-01", ManualClock(0), 1000, params)

    with pytest.raises(BadDriverSetting, match="no driver is called 'modem'; there are: callable"):
        build_driver("modem", context())
    with pytest.raises(BadDriverSetting, match="needs rated_w, standby_w"):
        build_driver("simulated", context())
    with pytest.raises(BadDriverSetting, match="must rise"):
        build_driver("simulated", context(rated_w=1, standby_w=2, idle_w=3, running_w=4, run_threshold_w=5))
    with pytest.raises(BadDriverSetting, match="needs path"):
        build_driver("trace", context())
    for wrong in ("x", 0, 2.5, True):
        with pytest.raises(BadDriverSetting, match="hole_periods of the trace driver is a whole number"):
            build_driver("trace", context(path="a.csv", hole_periods=wrong))
    with pytest.raises(BadDriverSetting, match="cannot be loaded"):
        build_driver("callable", context(function="nowhere:power"))
    (tmp_path / "a_broken_module.py").write_text("def watts(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadDriverSetting, match="'a_broken_module:watts' cannot be loaded: SyntaxError"):
        build_driver("callable", context(function="a_broken_module:watts"))
    assert build_driver("callable", context(function="time:time")).read(0).quality is Quality.GOOD
