"""What the wall clock is worth, read on a machine that stops the process whenever it likes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents import wall
from edge_agents.dating import Dating
from edge_agents.wall import wall_offset_ms
from wire.clock import ManualClock
from wire.messages import ClockQuality

START = 1_750_000_000_000


class StallingClock(ManualClock):
    """Time passes only when it is read: after each reading as many milliseconds as the list says, then none."""

    def __init__(self, stalls: list[int], speed: float = 1.0) -> None:
        super().__init__(START)
        self._stalls = list(stalls)
        self.speed = speed

    def now_ms(self) -> int:
        now = super().now_ms()
        self._stall()
        return now

    def mono_ms(self) -> int:
        now = super().mono_ms()
        self._stall()
        return now

    def _stall(self) -> None:
        if self._stalls:
            self.advance(self._stalls.pop(0))


def test_a_pause_between_the_readings_is_not_taken_for_a_step() -> None:
    assert wall_offset_ms(StallingClock([60, 0, 0, 0])) == START
    assert wall_offset_ms(StallingClock([0, 5_000, 0])) == START
    assert wall_offset_ms(StallingClock([60, 0, 0], speed=60.0), previous=START) == START


def test_a_real_step_is_seen_through_a_pause() -> None:
    clock = StallingClock([60, 0, 0])
    clock.step_wall(-3_600_000)
    assert wall_offset_ms(clock, previous=START) == START - 3_600_000


def test_a_machine_that_pauses_all_the_time_gets_the_tightest_of_a_few_readings() -> None:
    assert wall_offset_ms(StallingClock([500, 1] * 3 + [7, 1, 1] + [500, 1] * 20)) - START <= 500


@given(st.lists(st.integers(0, 400), max_size=30))
def test_whatever_the_pauses_an_unchanged_clock_shows_no_step(stalls: list[int]) -> None:
    assert wall_offset_ms(StallingClock(stalls), previous=START) == START
    assert 0 <= wall_offset_ms(StallingClock(stalls)) - START <= max(stalls, default=0)


def test_a_clock_behind_what_is_known_to_have_passed_is_unset_until_it_is_set() -> None:
    clock = ManualClock(START)
    dating = Dating(clock, {})
    assert dating.labels.quality is ClockQuality.RTC
    clock.advance(7_200_000)
    saved = dating.saved()
    clock = ManualClock(START + 3_600_000, boot="boot-2")
    dating = Dating(clock, saved)
    assert dating.labels.quality is ClockQuality.UNSET
    # That it goes on does not make it right.
    clock.advance(5 * 3_600_000)
    assert not dating.look()
    assert dating.saved()["wall_ms"] == START + 7_200_000
    # Nor does a restart of the agent in the same boot.
    dating = Dating(clock, dating.saved())
    assert (dating.labels.quality, dating.stepped_from) == (ClockQuality.UNSET, dating.labels)
    clock.step_wall(48 * 3_600_000)
    assert dating.look()
    assert dating.labels.quality is ClockQuality.RTC
    assert dating.saved()["wall_ms"] == clock.now_ms()


def test_a_clock_that_somebody_sets_back_while_the_agent_runs_is_believed() -> None:
    clock = ManualClock(START)
    dating = Dating(clock, {})
    clock.step_wall(-86_400_000)
    assert dating.look()
    assert dating.labels.quality is ClockQuality.RTC
    saved = dating.saved()
    clock.step_wall(-3_600_000)
    again = Dating(clock, saved)
    assert again.labels.quality is ClockQuality.RTC
    assert again.stepped_from is not None
    assert again.labels.wall_offset_ms - again.stepped_from.wall_offset_ms == -3_600_000


def synchronised(monkeypatch: pytest.MonkeyPatch, now: bool) -> None:
    monkeypatch.setattr("edge_agents.wall.is_synchronised", lambda: now)


def test_a_clock_that_lost_its_time_server_is_in_holdover_until_somebody_sets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock(START)
    synchronised(monkeypatch, True)
    dating = Dating(clock, {})
    assert dating.labels.quality is ClockQuality.NTP
    synchronised(monkeypatch, False)
    clock.advance(40 * 3_600_000)
    assert dating.look()
    assert dating.labels.quality is ClockQuality.HOLDOVER
    # A restart of the agent remembers it, a reboot does not.
    saved = dating.saved()
    assert Dating(clock, saved).labels.quality is ClockQuality.HOLDOVER
    assert Dating(ManualClock(clock.now_ms(), boot="boot-2"), saved).labels.quality is ClockQuality.RTC
    # Nor is what somebody says who sets it, even where it is set back to what it was.
    clock.step_wall(3_600_000)
    assert dating.look()
    assert dating.labels.quality is ClockQuality.RTC
    clock.step_wall(-3_600_000)
    assert dating.look()
    assert dating.labels.quality is ClockQuality.RTC
    synchronised(monkeypatch, True)
    assert dating.look()
    assert dating.labels.quality is ClockQuality.NTP


def test_a_clock_that_was_never_synchronised_is_in_no_holdover() -> None:
    clock = ManualClock(START)
    dating = Dating(clock, {})
    clock.advance(3_600_000)
    assert not dating.look()
    assert dating.labels.quality is ClockQuality.RTC


@pytest.mark.parametrize(
    ("state", "status", "says"),
    [
        pytest.param(0, 0x2001, True, id="systemd-timesyncd, ntpd, chrony with rtcsync"),
        pytest.param(5, 0x40, False, id="nobody, or chrony without rtcsync"),
        pytest.param(0, 0x40, False, id="the mark alone"),
        pytest.param(5, 0x2001, False, id="another error"),
        pytest.param(1, 0x0011, True, id="a leap second is announced"),
        pytest.param(-1, 0, None, id="not allowed"),
    ],
)
def test_the_kernel_is_taken_at_its_word(
    monkeypatch: pytest.MonkeyPatch, state: int, status: int, says: bool | None
) -> None:
    monkeypatch.setattr(wall, "_adjtimex", lambda: lambda: (state, status))
    assert wall.kernel_says() is says


def test_this_kernel_can_be_asked() -> None:
    assert wall.kernel_says() in (True, False, None)
    monotone = wall._adjtimex()
    assert monotone is not None
    state, status = monotone()
    assert -1 <= state <= 5
    assert 0 <= status < 0x10000


def test_where_the_kernel_does_not_answer_the_mark_of_systemd_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()  # of the fixture that speaks for every other test
    monkeypatch.setattr(wall, "_adjtimex", lambda: None)
    monkeypatch.setattr(wall, "_SYNCHRONIZED", tmp_path / "synchronized")
    assert not wall.is_synchronised()
    (tmp_path / "synchronized").touch()
    assert wall.is_synchronised()
    # It stays there when the server is lost; the kernel takes its word back.
    monkeypatch.setattr(wall, "_adjtimex", lambda: lambda: (5, 0x40))
    assert not wall.is_synchronised()
    assert wall.wall_quality(ManualClock(START)) is ClockQuality.RTC


@pytest.mark.parametrize(
    ("leap", "code", "is_so"),
    [
        ("Normal", 0, True),
        ("Insert second", 0, True),
        ("Not synchronised", 0, False),
        ("Normal", 1, False),
        ("", 0, False),
    ],
)
def test_chrony_is_asked_itself_where_it_does_not_tell_the_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, leap: str, code: int, is_so: bool
) -> None:
    answer = f"C0000201,192.0.2.1,3,1795221000.1,0.000012,-0.000008,0.000011,1.2,0.0,0.05,0.011,0.002,64.3,{leap}"
    program = tmp_path / "chronyc"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = '-c tracking' ] && echo '{answer if leap else ''}'\nexit {code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert wall.chrony_is_synchronised() is is_so
    program.unlink()
    assert not wall.chrony_is_synchronised()
