"""What the wall clock is worth, read on a machine that stops the process whenever it likes."""

from hypothesis import given
from hypothesis import strategies as st

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
