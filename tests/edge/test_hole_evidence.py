"""What a gap record tells of its hole: the energy over exactly the hole, and the load the instrument had before it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agents.drivers.base import Quality, Reading, stale
from edge_agents.drivers.from_callable import CallableDriver
from edge_agents.session_state import Labels
from edge_agents.watch import Watch, Watched, read_checkpoint, write_checkpoint
from tests.edge.making import A_PROFILE
from wire.clock import ManualClock
from wire.messages import ClockQuality, RecordKind, UsageRecord

STREAM = "01J00000000000000000000000"
WALL = 1_750_000_000_000
FIRST = Labels("boot-1", WALL, ClockQuality.NTP)
KW2 = 2_000.0


class Stand:
    """One instrument whose agent is stepped second by second, killed and started again from its checkpoint.

    The meter counts on whatever happens to the agent, in steps of `step_wh`, and is asked for its register every
    `every_s` seconds.
    """

    def __init__(self, *, step_wh: float = 0.001, every_s: int = 1, most_w: float | None = 4_000) -> None:
        self.labels = FIRST
        self.step_wh, self.every_s, self.most_w = step_wh, every_s, most_w
        self.wh = 1_000.0
        self.now_s = 0
        self.asked_s = -every_s
        self.records: list[UsageRecord] = []
        self.watch = self._begin(None)

    def _begin(self, saved: dict[str, Any] | None) -> Watch:
        driver = CallableDriver(lambda: 0.0, ManualClock(0), 1_000)
        watch = Watch(Watched("xc-h01-01", driver, A_PROFILE, 20_000, self.most_w))
        self.records += watch.begin(saved, self.labels, self.now_s * 1_000, STREAM, len(self.records) + 1)
        return watch

    def on(self, seconds: int, power_w: float, *, silent: bool = False) -> "Stand":
        """Let the instrument draw `power_w`; each second is read at its begin."""
        for _ in range(seconds):
            reading = stale(self.now_s * 1_000) if silent else self._reading(power_w)
            self.records += self.watch.take(reading, self.labels, STREAM, len(self.records) + 1)
            self.away(1, power_w)
        return self

    def _reading(self, power_w: float) -> Reading:
        energy = None
        if self.now_s - self.asked_s >= self.every_s:
            self.asked_s = self.now_s
            energy = round(self.wh // self.step_wh * self.step_wh, 6)
        return Reading(self.now_s * 1_000, power_w, energy, Quality.GOOD)

    def away(self, seconds: int, power_w: float) -> "Stand":
        self.now_s += seconds
        self.wh += power_w * seconds / 3_600
        return self

    def killed(self, seconds: int, power_w: float, labels: Labels | None = None) -> "Stand":
        """Kill the agent and start it again later, perhaps in another boot. Its driver asks the register at once."""
        text = json.loads(write_checkpoint({}, {}, [self.watch]))
        self.away(seconds, power_w)
        if labels is not None:
            self.now_s, self.labels = 5, labels
        self.asked_s = -self.every_s
        self.watch = self._begin(read_checkpoint(json.dumps(text))["instruments"]["xc-h01-01"])
        return self

    def gaps(self) -> list[UsageRecord]:
        return [record for record in self.records if record.kind is RecordKind.GAP]


@pytest.mark.parametrize("every_s", [1, 7, 10])
def test_a_killed_agent_tells_what_was_drawn_over_exactly_the_time_it_was_away(every_s: int) -> None:
    [gap] = Stand(every_s=every_s).on(100, KW2).killed(4, KW2).on(5, KW2).gaps()
    # The last sample before the kill is a second old: the hole begins there.
    assert gap.to_ms - gap.from_ms == 5_000
    told = gap.detail
    assert (told["before"], told["after"]) == ("running", "running")
    assert isinstance(told["energy_mwh"], int)
    assert abs(told["energy_mwh"] - 2_778) <= 2, "5 s at 2 kW"
    assert (told["level_mw"], told["level_ms"]) == (2_000_000, 99_000)
    assert (told["stop_mw"], told["dwell_ms"]) == (80_000, 5_000)
    assert gap.energy_q == "ok"


def test_the_step_of_the_register_is_the_smallest_rise_that_was_seen() -> None:
    [gap] = Stand(step_wh=10.0).on(100, KW2).killed(4, KW2).on(5, KW2).gaps()
    assert gap.detail["step_mwh"] == 10_000
    assert gap.detail["energy_mwh"] in (0, 10_000)
    [gap] = Stand(step_wh=1.0).on(300, 20).on(100, KW2).killed(4, KW2).on(5, KW2).gaps()
    assert gap.detail["step_mwh"] == 1_000


def test_an_instrument_that_stopped_meanwhile_has_drawn_less() -> None:
    stand = Stand().on(100, KW2).killed(30, KW2)
    assert stand.on(5, KW2).gaps()[0].detail["energy_mwh"] == pytest.approx(31 / 3.6 * 2_000, abs=2)
    stand = Stand().on(100, KW2).killed(30, 20.0)
    assert stand.on(5, KW2).gaps()[0].detail["energy_mwh"] == pytest.approx((2_000 + 600) / 3.6, abs=2)


def test_a_meter_that_was_cut_off_tells_its_energy_behind_the_hole() -> None:
    [gap] = Stand(every_s=10).on(100, KW2).on(55, KW2, silent=True).on(5, KW2).gaps()
    assert "driver_stale" in gap.flags
    assert gap.detail["energy_mwh"] == pytest.approx((gap.to_ms - gap.from_ms) * 2_000 / 3_600, abs=2)


def test_a_meter_without_a_register_or_one_not_read_behind_the_hole_tells_nothing_of_its_energy() -> None:
    [gap] = Stand(every_s=10**6).on(100, KW2).on(10, KW2, silent=True).on(5, KW2).gaps()
    assert gap.detail == {"before": "running", "after": "running"}
    stand = Stand(every_s=10).on(100, KW2).on(5, KW2, silent=True)
    stand.asked_s = stand.now_s - 3
    [gap] = stand.on(20, KW2).gaps()
    assert gap.detail == {"before": "running", "after": "running"}
    # What lies before that hole says nothing of the next one.
    assert "energy_mwh" in stand.killed(4, KW2).on(5, KW2).gaps()[1].detail


def test_a_register_that_falls_or_jumps_in_a_hole_is_no_energy_of_it() -> None:
    stand = Stand().on(100, KW2)
    stand.wh = 3.0
    [gap] = stand.killed(4, KW2).on(5, KW2).gaps()
    assert (gap.energy_q, gap.detail) == ("reset", {"before": "running", "after": "running"})
    stand = Stand().on(100, KW2)
    stand.wh += 2_000
    [gap] = stand.killed(4, KW2).on(5, KW2).gaps()
    assert (gap.energy_q, gap.detail) == ("jump", {"before": "running", "after": "running"})


def test_the_load_is_that_of_the_present_state_and_of_the_last_minutes() -> None:
    [gap] = Stand().on(100, 20).on(100, 3_000).on(650, KW2).killed(4, KW2).on(5, KW2).gaps()
    assert gap.detail["level_mw"] == 2_000_000
    assert 300_000 <= gap.detail["level_ms"] <= 600_000  # type: ignore[operator]


def test_over_a_boot_the_energy_is_told_with_the_quality_of_both_clocks() -> None:
    second = Labels("boot-2", WALL + 160_000 - 5_000, ClockQuality.NTP)
    [gap] = Stand().on(100, KW2).killed(60, KW2, second).on(5, KW2).gaps()
    assert gap.to_ms - gap.from_ms == 61_000
    assert gap.detail["energy_mwh"] == pytest.approx(61 * 2_000 / 3.6, abs=2)
    assert (gap.detail["by"], gap.detail["from_q"], gap.ts_q) == ("wall", "ntp", ClockQuality.NTP)


def test_a_hole_that_is_told_in_slices_says_nothing_of_its_energy() -> None:
    gaps = Stand().on(100, KW2).on(1_000, KW2, silent=True).on(5, KW2).gaps()
    assert [gap.detail["after"] for gap in gaps] == [None, "running"]
    assert not any("energy_mwh" in gap.detail for gap in gaps)


def test_a_checkpoint_of_an_older_version_is_read_and_its_first_hole_says_nothing() -> None:
    stand = Stand().on(100, KW2)
    saved = stand.watch.saved()
    del saved["sessions"]["evidence"]
    stand.watch = stand._begin(saved)
    stand.away(4, KW2)
    [gap] = stand.on(5, KW2).gaps()
    assert gap.detail == {"before": "running", "after": "running"}
    assert "energy_mwh" in stand.killed(4, KW2).on(5, KW2).gaps()[1].detail


@given(
    away=st.integers(1, 600),
    before=st.integers(61, 120),
    power=st.integers(200, 3_900),
    inside=st.integers(0, 3_900),
    every_s=st.integers(1, 30),
)
@settings(max_examples=30, deadline=None)
def test_the_energy_told_is_that_of_the_hole_whatever_was_drawn_around_it(
    away: int, before: int, power: int, inside: int, every_s: int
) -> None:
    [gap] = Stand(every_s=every_s).on(before, power).killed(away, inside).on(5, power).gaps()
    # A second of the old load, up to the kill, belongs to the hole: nobody read its end.
    really = (power + away * inside) / 3.6
    assert gap.detail["energy_mwh"] == pytest.approx(really, abs=3)
    assert gap.detail["level_mw"] == power * 1_000
