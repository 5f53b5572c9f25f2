"""Which holes are bridged: every reason not to, the bounds to the millisecond and the milliwatt-hour, and never more
than the hole."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.ledger import bridging
from store.ledger.bridging import WHY_NOT, Hole, bridged_within, judge_holes
from tests.support.usage import NINE, StreamWriter
from wire.messages import ClockQuality, PowerState, UsageRecord

LEVEL, STOP = 2_000_000, 500_000
HOUR_MS = 3_600_000
MINUTE = 60


def detail(seconds: float, **changed: Any) -> dict[str, Any]:
    """What an agent tells of a hole at 2 kW whose energy fits exactly; None takes a field away."""
    told: dict[str, Any] = {
        "before": "running", "after": "running", "energy_mwh": round(LEVEL * seconds * 1_000 / HOUR_MS), "step_mwh": 1,
        "level_mw": LEVEL, "level_ms": 300_000, "stop_mw": STOP, "dwell_ms": 30_000,
    }  # fmt: skip
    return {name: value for name, value in (told | changed).items() if value is not None}


class Run(StreamWriter):
    """A run of some minutes, in which the test puts its holes."""

    def __init__(self) -> None:
        super().__init__("xc-t01-01")
        self.open(60)
        self.tick(PowerState.RUNNING, 300)

    def hole(self, seconds: float, *, record: dict[str, Any] | None = None, **changed: Any) -> UsageRecord:
        fields: dict[str, Any] = {"energy_q": "ok", "energy_wh": 1.0, "detail": detail(seconds, **changed)}
        return self.gap(seconds, **(fields | (record or {})))


def why(run: StreamWriter) -> list[str]:
    return [hole.why_not for hole in judge_holes(run.records)]


def of_one(seconds: float, *, record: dict[str, Any] | None = None, **changed: Any) -> str:
    run = Run()
    gap = run.hole(seconds, **changed)
    run.records[-1] = gap.model_copy(update=record or {})
    run.tick(PowerState.RUNNING, 60)
    [answer] = why(run)
    return answer


def test_a_short_hole_of_an_instrument_that_ran_on_at_its_load_is_bridged_as_running() -> None:
    run = Run()
    gap = run.hole(4)
    run.close(60)
    [hole] = judge_holes(run.records)
    assert hole == Hole(gap.seq, gap.session, NINE + 360_000, NINE + 364_000, "")
    assert (hole.is_bridged, hole.length_ms) == (True, 4_000)


def test_ten_minutes_are_bridged_and_a_millisecond_more_is_not() -> None:
    assert of_one(600) == ""
    assert of_one(600.001) == "too_long"


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"before": "standby", "after": "standby"}, "costs_nothing"),
        ({"before": "off", "after": "off"}, "costs_nothing"),
        ({"after": "standby"}, "states_differ"),
        ({"before": "standby"}, "states_differ"),
        ({"after": None}, "states_differ"),
        ({"by": "wall", "from_q": "rtc"}, "length_unsure"),
        ({"by": "wall"}, "length_unsure"),
        ({"by": "wall", "from_q": "ntp"}, ""),
        ({"energy_mwh": None}, "no_energy"),
        ({"step_mwh": None}, "no_energy"),
        ({"level_mw": 2_000_000.0}, "no_energy"),
        ({"dwell_ms": -1}, "no_energy"),
        ({"stop_mw": "500000"}, "no_energy"),
        ({"level_ms": 59_999}, "level_unknown"),
        ({"level_ms": 60_000}, ""),
        ({"stop_mw": LEVEL}, "level_unknown"),
        ({"energy_mwh": 0}, "energy_below"),
        ({"energy_mwh": -5}, "energy_below"),
        ({"energy_mwh": 100_000}, "energy_above"),
    ],
)
def test_a_hole_that_does_not_fit_is_not_bridged_and_the_reason_is_said(changed: dict[str, Any], answer: str) -> None:
    assert of_one(60, **changed) == answer


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({"session": None}, "between_sessions"),
        ({"flags": ("gap", "inferred", "length_unknown")}, "length_unknown"),
        ({"ts_q": ClockQuality.UNSET}, "clock_unset"),
        ({"ts_q": ClockQuality.RTC}, ""),
        ({"flags": ("gap", "indicative")}, "indicative"),
        ({"energy_q": "reset"}, "register_reset"),
        ({"energy_q": "jump"}, "register_jumped"),
        ({"energy_q": "none"}, "no_energy"),
        ({"detail": {}}, "states_differ"),
        ({"detail": {"before": "running", "after": "running"}}, "no_energy"),
    ],
)
def test_what_the_record_itself_says_decides_too(changed: dict[str, Any], answer: str) -> None:
    assert of_one(60, record=changed) == answer


def test_between_two_boots_both_clocks_must_have_been_synchronised() -> None:
    wall: dict[str, Any] = {"by": "wall", "from_q": "ntp"}
    assert of_one(60, **wall, record={"ts_q": ClockQuality.RTC}) == "length_unsure"
    assert of_one(60, **wall, record={"ts_q": ClockQuality.HOLDOVER}) == "length_unsure"
    assert of_one(60, **wall, record={"ts_q": ClockQuality.NTP}) == ""


def test_the_energy_may_miss_a_tenth_of_what_lies_between_the_load_and_the_end_of_a_run() -> None:
    # An hour's worth of figures in six minutes: 2 kW make 200 Wh, and 150 W more or less are allowed: 15 Wh.
    seconds = 360
    assert of_one(seconds, energy_mwh=185_001) == ""
    assert of_one(seconds, energy_mwh=185_000) == "register_too_coarse", "a step less would be too little"
    assert of_one(seconds, energy_mwh=184_999) == "register_too_coarse"
    assert of_one(seconds, energy_mwh=184_998) == "energy_below"
    assert of_one(seconds, energy_mwh=215_001) == ""
    assert of_one(seconds, energy_mwh=215_002) == "energy_above"
    # Where idle lies close below, less is missed.
    assert of_one(seconds, energy_mwh=195_002, stop_mw=1_500_000) == ""
    assert of_one(seconds, energy_mwh=195_000, stop_mw=1_500_000) == "register_too_coarse"


def test_a_register_in_coarse_steps_proves_a_long_hole_only_and_contradicts_no_short_one() -> None:
    steps: dict[str, Any] = {"step_mwh": 10_000, "dwell_ms": 45_000}
    assert of_one(4, energy_mwh=0, **steps) == ""
    assert of_one(4, energy_mwh=10_000, **steps) == ""
    assert of_one(4, energy_mwh=20_000, **steps) == "energy_above"
    assert of_one(45, energy_mwh=20_000, **steps) == "", "as long as the dwell"
    assert of_one(45.001, energy_mwh=20_000, **steps) == "register_too_coarse"
    assert of_one(600, energy_mwh=330_000, **steps) == ""
    assert of_one(600, energy_mwh=310_000, **steps) == "register_too_coarse"
    # However long a profile waits, a minute is where it ends.
    assert of_one(61, energy_mwh=33_000, step_mwh=10_000, dwell_ms=300_000) == "register_too_coarse"


def test_each_of_several_holes_is_judged_by_itself() -> None:
    run = Run()
    for seconds in (5, 600, 700, 30):
        run.hole(seconds)
        run.tick(PowerState.RUNNING, 60)
    assert why(run) == ["", "", "too_long", ""]


def test_holes_that_touch_are_one_hole_told_in_pieces_and_none_is_bridged() -> None:
    run = Run()
    run.hole(900, after=None)
    run.hole(200)
    run.tick(PowerState.RUNNING, 0.001)
    run.hole(200)
    assert why(run) == ["in_pieces", "in_pieces", ""]
    # Over a boot too, although there the agent's own time does not touch.
    run = Run()
    run.hole(300, by="wall", from_q="ntp")
    run.boot, run.mono_ms = "boot-2", 5_000
    run.hole(30)
    assert why(run) == ["in_pieces", "in_pieces"]


def test_a_record_of_an_older_agent_is_never_bridged() -> None:
    run = Run()
    run.gap(30, detail={"before": "running", "after": "running"}, energy_wh=500.0, energy_q="ok")
    run.gap(0, detail={}, energy_q="ok")
    assert all(answer != "" for answer in why(run))


def test_what_was_bridged_by_a_version_is_judged_by_it_and_an_unknown_one_is_refused() -> None:
    assert bridging.CURRENT_RULE in bridging.RULES
    with pytest.raises(KeyError):
        judge_holes([], rule="0")


def test_a_hole_is_divided_with_the_use_and_no_part_gets_more_than_its_unknown_time() -> None:
    hole = Hole(7, "s", 1_000, 61_000, "")
    not_this = Hole(9, "s", 100_000, 130_000, "too_long")
    holes = (hole, not_this)
    assert bridged_within(holes, 0, 200_000, 90_000) == ((hole, 60_000),)
    assert bridged_within(holes, 0, 21_000, 20_000) == ((hole, 20_000),)
    assert bridged_within(holes, 21_000, 200_000, 70_000) == ((hole, 40_000),)
    assert bridged_within(holes, 61_000, 200_000, 30_000) == ()
    assert bridged_within(holes, 0, 200_000, 59_999) == ((hole, 59_999),)
    assert bridged_within(holes, 0, 200_000, 0) == ()


@given(
    stretches=st.lists(
        st.tuples(st.integers(0, 700), st.integers(1, 700_000), st.integers(-20_000, 20_000), st.booleans()), max_size=8
    ),
    cuts=st.lists(st.integers(0, 6_000_000), max_size=4),
)
def test_bridged_and_running_and_unknown_are_the_length_however_a_session_is_divided(
    stretches: list[tuple[int, int, int, bool]], cuts: list[int]
) -> None:
    run = Run()
    for seconds, ms, off_mwh, goes_on in stretches:
        if seconds:
            run.tick(PowerState.RUNNING, seconds)
        fits = detail(ms / 1_000)
        run.hole(ms / 1_000, energy_mwh=fits["energy_mwh"] + off_mwh, after="running" if goes_on else "standby")
    close = run.close(60)
    holes = judge_holes(run.records)
    assert all(hole.why_not == "" or hole.why_not in WHY_NOT for hole in holes)
    assert sum(hole.length_ms for hole in holes) == close.odo.unknown
    started, ended = NINE + 60_000, run.now_ms
    edges = sorted({started, ended, *(cut for cut in (started + each for each in cuts) if cut < ended)})
    whole = sum(ms for _, ms in bridged_within(holes, started, ended, close.odo.unknown))
    parts = 0
    for start, end in pairwise(edges):
        unknown = sum(max(0, min(end, hole.to_ms) - max(start, hole.from_ms)) for hole in holes)
        found = bridged_within(holes, start, end, unknown)
        bridged = sum(ms for _, ms in found)
        running = (end - start) - unknown
        assert 0 <= bridged <= unknown
        assert bridged + running + (unknown - bridged) == end - start
        assert all(ms <= hole.length_ms for hole, ms in found)
        # Less unknown time never gives more.
        assert sum(ms for _, ms in bridged_within(holes, start, end, unknown // 2)) == min(bridged, unknown // 2)
        parts += bridged
    assert parts == whole == sum(hole.length_ms for hole in holes if hole.is_bridged)


@given(
    ms=st.integers(1, 700_000),
    level=st.integers(1, 10**8),
    stop=st.integers(0, 10**8),
    energy=st.integers(-(10**6), 10**8),
    step=st.integers(0, 10**6),
    dwell_ms=st.integers(0, 200_000),
)
def test_what_is_bridged_has_drawn_what_nine_tenths_of_running_draw_at_least(
    ms: int, level: int, stop: int, energy: int, step: int, dwell_ms: int
) -> None:
    answer = of_one(
        ms / 1_000, level_mw=level, stop_mw=stop, energy_mwh=energy, step_mwh=step, dwell_ms=dwell_ms
    )  # fmt: skip
    if answer == "":
        assert ms <= 600_000
        assert level > stop
        least = (energy - step if ms > min(dwell_ms, 60_000) else energy + step) * HOUR_MS * 10
        # Had it stood at `stop` for more than a tenth of the hole, and at its load in the rest, it had drawn less.
        assert least >= 9 * level * ms + stop * ms
        assert (energy - step) * HOUR_MS * 10 <= (11 * level - stop) * ms
        # Monotone: half of the same hole at the same load is bridged as well, where it was proved.
        if ms % 2 == 0 and energy % 2 == 0 and ms > 120_000 and step == 0:
            half = of_one(ms / 2_000, level_mw=level, stop_mw=stop, energy_mwh=energy // 2, step_mwh=0, dwell_ms=0)
            assert half == ""
