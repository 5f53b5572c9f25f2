import json
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wire.clock import ClockSetting, ManualClock, ScaledClock, SystemClock, from_ms, open_clock, to_ms

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # what a datetime can hold


def boottime_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@given(st.integers(FIRST_MS, LAST_MS))
@example(FIRST_MS)
@example(LAST_MS)
@example(-1)
@example(0)
@example(1_795_276_799_999)
def test_milliseconds_and_datetimes_are_exact_inverses(ms: int) -> None:
    assert to_ms(from_ms(ms)) == ms


@given(st.datetimes(min_value=datetime(1902, 1, 1), max_value=datetime(2200, 1, 1)), st.integers(0, 999))  # noqa: DTZ001
def test_an_instant_has_the_same_milliseconds_in_every_zone_and_is_rounded_down(naive: datetime, micros: int) -> None:
    moment = naive.replace(tzinfo=UTC, microsecond=naive.microsecond // 1000 * 1000)
    ms = to_ms(moment)
    assert to_ms(moment + timedelta(microseconds=micros)) == ms
    for zone in (ZoneInfo("Asia/Shanghai"), timezone(timedelta(hours=-9, minutes=-30))):
        assert to_ms(moment.astimezone(zone)) == ms


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_ms(datetime(2026, 11, 21, 9))  # noqa: DTZ001


def test_a_datetime_of_milliseconds_is_aware_and_utc() -> None:
    assert from_ms(1_795_222_800_123) == datetime(2026, 11, 21, 1, 0, 0, 123_000, tzinfo=UTC)


def test_a_manual_clock_moves_when_told_and_only_forward() -> None:
    clock = ManualClock(1_000)
    clock.advance(250)
    assert (clock.now_ms(), clock.mono_ms()) == (1_250, 250)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


def test_a_stepped_wall_clock_does_not_touch_durations() -> None:
    clock = ManualClock(10_000)
    clock.step_wall(-3_600_000)
    clock.advance(5)
    assert (clock.now_ms(), clock.mono_ms()) == (10_000 - 3_600_000 + 5, 5)


def test_the_system_clock_is_the_machines_time() -> None:
    clock = SystemClock()
    assert abs(clock.now_ms() - time.time_ns() // 1_000_000) < 1_000
    assert abs(clock.mono_ms() - boottime_ms()) < 1_000
    assert clock.boot == SystemClock().boot


@given(
    behind_ms=st.integers(0, 400 * 86_400_000),
    ran_ms=st.integers(0, 30 * 86_400_000),
    speed=st.floats(0.1, 100_000),
)
@example(behind_ms=0, ran_ms=0, speed=1.0)
@example(behind_ms=1_000, ran_ms=86_400_000, speed=100_000.0)
def test_demo_time_never_passes_the_real_now_and_never_runs_back(behind_ms: int, ran_ms: int, speed: float) -> None:
    origin = time.time_ns() // 1_000_000 - behind_ms
    clock = ScaledClock(ClockSetting(origin, boottime_ms() - ran_ms, speed, "demo-1"))
    last = origin
    for _ in range(5):
        now = clock.now_ms()
        assert last <= now <= time.time_ns() // 1_000_000
        last = now
    assert clock.mono_ms() >= last - origin


def test_demo_time_runs_at_its_speed() -> None:
    origin = time.time_ns() // 1_000_000 - 10 * 86_400_000
    clock = ScaledClock(ClockSetting(origin, boottime_ms() - 60_000, 60.0, "demo-1"))
    assert 3_600_000 <= clock.now_ms() - origin < 3_600_000 + 60 * 2_000
    assert (clock.speed, clock.boot) == (60.0, "demo-1")


def test_a_clock_setting_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    setting = ClockSetting(1_790_000_000_000, 12_345, 60.0, "demo-1")
    path = tmp_path / "clock.json"
    setting.save(path)
    assert ClockSetting.load(path) == setting
    assert json.loads(path.read_text())["speed"] == 60.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["clock.json"]


def test_without_a_setting_the_clock_is_the_machines_own(tmp_path: Path) -> None:
    assert isinstance(open_clock(None), SystemClock)
    ClockSetting(1_790_000_000_000, 0, 60.0, "demo-1").save(tmp_path / "clock.json")
    assert isinstance(open_clock(tmp_path / "clock.json"), ScaledClock)
    with pytest.raises(FileNotFoundError):
        open_clock(tmp_path / "absent.json")
