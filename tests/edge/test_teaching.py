"""Teaching: what is learned from a labelled recording, and how it does on days it has not seen."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agents.commands import Refusal
from edge_agents.detector import DetectorProfile
from edge_agents.drivers.recording import read_samples
from edge_agents.live_teaching import LiveTeaching, Noted
from edge_agents.power_curve import running_intervals, running_median, thinned_to
from edge_agents.power_files import read_labels
from edge_agents.records import Sample as Power
from edge_agents.teaching import CannotTeach, Label, LabelState, Teaching, teach
from tests.edge.making import trace_path
from tests.edge.second_days import KINDS, Day, Labels, day_of
from tests.support import scoring
from tests.support.scoring import Sample, Score, score
from wire.commands import TeachArgs
from wire.messages import PowerState

TRACES = ("washer_a", "laser_printer", "dishwasher", "video_projector", "coffee_night")


@cache
def recorded(name: str) -> Day:
    path = trace_path(name)
    labels = read_labels(path.with_name("labels.csv"), name)
    samples = [(t / 1000, power) for t, power in read_samples(path)]
    return samples, [(x.start_ms / 1000, x.end_ms / 1000, x.state.value) for x in labels]


def taught(samples: list[Sample], labels: Labels) -> Teaching:
    return teach(
        [(round(t * 1000), power) for t, power in samples],
        [Label(round(a * 1000), round(b * 1000), LabelState(state)) for a, b, state in labels],
    )


@cache
def taught_on(name: str) -> Teaching:
    return taught(*recorded(name))


def scored(profile: DetectorProfile, day: Day, period_s: float, native_s: float) -> Score:
    samples, labels = day
    points = thinned_to([(round(t * 1000), power) for t, power in samples], round(period_s * 1000))
    longer = round(1000 * period_s) if period_s > native_s else 0
    slower = replace(profile, max_hole_ms=profile.max_hole_ms + longer)
    found = [(a / 1000, b / 1000) for a, b in running_intervals(slower, points)]
    return score(labels, found, (samples[0][0], samples[-1][0]), max(period_s, native_s))


def cut(day: Day, start_s: float, end_s: float) -> Day:
    samples, labels = day
    return (
        [s for s in samples if start_s <= s[0] < end_s],
        [(max(a, start_s), min(b, end_s), state) for a, b, state in labels if a < end_s and b > start_s],
    )


def dice(seed: int) -> random.Random:
    return random.Random(seed)


SECOND_DAYS: dict[str, Callable[[list[Sample]], list[Sample]]] = {
    "the same": lambda s: s,
    "5 % more": lambda s: scoring.scaled(s, 1.05),
    "5 % less": lambda s: scoring.scaled(s, 0.95),
    "noise": lambda s: scoring.noisy(s, dice(1)),
    "jitter": lambda s: scoring.jittered(s, dice(2)),
    "one sample in ten lost": lambda s: scoring.dropped(s, dice(3)),
    "all at once": lambda s: scoring.dropped(
        scoring.jittered(scoring.noisy(scoring.scaled(s, 1.03), dice(4)), dice(5)), dice(6)
    ),
    "all at once, less power": lambda s: scoring.dropped(
        scoring.jittered(scoring.noisy(scoring.scaled(s, 0.96), dice(7)), dice(8)), dice(9)
    ),
}
# As samples really come, on average.
NATIVE_S = {"washer_a": 1.5, "laser_printer": 4, "dishwasher": 2, "video_projector": 2, "coffee_night": 1}


@pytest.mark.parametrize(("period_s", "gross", "near"), [(0, 0.1, 95), (2, 0.1, 95), (5, 0.3, 95), (10, 1.0, 90)])
def test_taught_on_the_recorded_traces_and_scored_on_changed_copies(period_s: float, gross: float, near: float) -> None:
    everything = Score()
    for change, made_from in SECOND_DAYS.items():
        total = Score()
        for name in TRACES:
            samples, labels = recorded(name)
            one = scored(taught_on(name).profile, (made_from(samples), labels), period_s, NATIVE_S[name])
            assert name != "coffee_night" or one.false_s == 0, change
            total += one
        assert total.gross_percent <= gross, (change, total.missed_s, total.false_s)
        assert total.missed_runs == total.spurious_runs == [], change
        assert total.edges - total.edges_near <= 1, change
        everything += total
    assert everything.edges_near_percent >= near


@pytest.mark.parametrize("phase_s", [0.0, 0.9, 1.7, 2.8, 3.9, 4.6])
def test_a_meter_polled_each_five_seconds_at_another_phase_stays_within_the_goal(phase_s: float) -> None:
    total = Score()
    for name in TRACES:
        samples, labels = recorded(name)
        day = scoring.resampled(samples, 5, phase_s), labels
        total += scored(taught_on(name).profile, day, 5, NATIVE_S[name])
    assert total.gross_percent <= 0.3
    assert total.edges_near_percent >= 95
    assert total.missed_runs == total.spurious_runs == []


@pytest.mark.parametrize("period_s", [0, 5])
@pytest.mark.parametrize(
    ("name", "lesson", "exam"),
    [
        ("washer_a", (46_800, 52_200), (52_200, 58_320)),
        ("washer_a", (52_200, 58_320), (46_800, 52_200)),
        ("video_projector", (66_600, 68_650), (68_650, 84_600)),
        ("video_projector", (73_000, 84_600), (66_600, 73_000)),
        ("video_projector", (71_000, 73_000), (73_000, 84_600)),
    ],
)
def test_taught_on_one_run_and_scored_on_another(
    name: str, lesson: tuple[float, float], exam: tuple[float, float], period_s: float
) -> None:
    day = recorded(name)
    one = scored(taught(*cut(day, *lesson)).profile, cut(day, *exam), period_s, NATIVE_S[name])
    # Short runs are all edge: one period an edge, or half a percent.
    edges = 2 * sum(state == "running" for _, _, state in cut(day, *exam)[1])
    assert one.missed_s + one.false_s <= max(0.005 * one.run_s, edges * max(period_s, NATIVE_S[name]))
    assert one.edges_near >= one.edges - 1
    assert one.missed_runs == one.spurious_runs == []


@pytest.mark.parametrize("kind", KINDS)
def test_taught_on_one_invented_day_and_scored_on_others(kind: str) -> None:
    for lesson, native_s in ((1, 1.0), (2, 2.0), (3, 4.3)) if kind != "printer" else ((1, 4.3), (2, 4.3)):
        profile = taught(*day_of(kind, lesson, native_s)).profile
        total, thin = Score(), Score()
        for exam in (11, 12, 13):
            day = day_of(kind, exam, native_s)
            total += scored(profile, day, 0, native_s)
            thin += scored(profile, day, 5, native_s)
        for one, step_s in ((total, native_s), (thin, 5.0)):
            assert one.missed_s + one.false_s <= max(0.005 * one.run_s, one.edges * step_s), lesson
            assert one.missed_runs == one.spurious_runs == [], lesson
            assert one.edges_near_percent >= 90, lesson


def test_what_was_seen_is_told() -> None:
    teaching = taught_on("laser_printer")
    assert teaching.period_ms == 4000
    assert teaching.idle_ceiling_w == 17
    assert teaching.longest_pause_ms == 65_000
    assert teaching.profile.on_w == pytest.approx(22.1)
    assert teaching.profile.off_w == pytest.approx(19.55)
    # Most samples of a job are as low as idle; the bursts are what it is known by.
    assert teaching.contrast is not None
    assert teaching.contrast > 10
    assert teaching.warnings == ()


def test_an_instrument_whose_run_is_hardly_above_its_idle_is_called_narrow() -> None:
    teaching = taught(*day_of("narrow", 1))
    assert teaching.profile.narrow
    assert any(warning.startswith("narrow: ") for warning in teaching.warnings)
    assert 101 < teaching.profile.on_w < 136


def test_a_recording_without_a_run_teaches_the_idle_level_and_says_what_is_missing() -> None:
    teaching = taught_on("coffee_night")
    assert any("no run was labelled" in warning for warning in teaching.warnings)
    assert teaching.profile.up_ms > 10_000
    assert teaching.run_median_w is None


def test_two_runs_that_nearly_touch_are_not_joined_by_a_generous_dwell() -> None:
    powers = [0.0] * 300 + [100.0] * 600 + [0.0] * 20 + [100.0] * 600 + [0.0] * 300
    labels: Labels = [(0, 300, "off"), (300, 900, "running"), (900, 920, "off")]
    labels += [(920, 1520, "running"), (1520, 1820, "off")]
    samples = [(float(n), power) for n, power in enumerate(powers)]
    assert taught(samples, labels).profile.down_ms < 20_000
    assert scored(taught(samples, labels).profile, (samples, labels), 0, 1).missed_s == 0


def test_a_run_hardly_above_nothing_is_still_learned() -> None:
    samples = [(float(n), 2.5 if 300 <= n < 900 else 0.0) for n in range(1200)]
    labels: Labels = [(0, 300, "off"), (300, 900, "running"), (900, 1200, "off")]
    teaching = taught(samples, labels)
    assert 0 < teaching.profile.on_w < 2.5
    assert teaching.wrong_ms == 0


def test_an_idle_level_that_rises_a_little_on_another_day_does_not_keep_a_run_open() -> None:
    labels: Labels = [(0, 300, "off"), (300, 900, "running"), (900, 1500, "off")]
    lesson = [(float(n), 60.0 if 300 <= n < 900 else 4.0) for n in range(1500)]
    exam = [(float(n), 60.0 if 300 <= n < 900 else 4.0 + 3 * (n % 3 == 0)) for n in range(1500)]
    one = scored(taught(lesson, labels).profile, (exam, labels), 0, 1)
    assert one.missed_s + one.false_s == 0


def test_time_that_nobody_labelled_counts_neither_for_nor_against() -> None:
    powers = [0.0] * 200 + [100.0] * 300 + [0.0] * 100 + [100.0] * 300 + [0.0] * 100
    samples = [(float(n), power) for n, power in enumerate(powers)]
    teaching = taught(samples, [(0, 200, "off"), (200, 500, "running"), (500, 600, "off")])
    assert teaching.wrong_ms == 0
    assert teaching.warnings == ()


def test_labels_that_teach_nothing_are_refused() -> None:
    samples = [(n * 1000, 5.0) for n in range(100)]
    with pytest.raises(CannotTeach, match="no sample is labelled off or standby"):
        teach(samples, [Label(0, 50_000, LabelState.RUNNING)])
    with pytest.raises(CannotTeach, match="overlap"):
        teach(samples, [Label(0, 50_000, LabelState.OFF), Label(40_000, 60_000, LabelState.RUNNING)])
    with pytest.raises(ValueError, match="end later"):
        Label(50_000, 50_000, LabelState.OFF)


POWERS = st.lists(st.sampled_from([0.0, 2.0, 2.0, 17.0, 60.0, 800.0]), min_size=3, max_size=60)


@given(POWERS, POWERS, POWERS)
@settings(max_examples=100, deadline=None)
def test_whatever_is_labelled_gives_a_profile_that_can_be_used(
    before: list[float], during: list[float], after: list[float]
) -> None:
    samples = [(n * 1000, power) for n, power in enumerate([*before, *during, *after])]
    first, second = len(before) * 1000, (len(before) + len(during)) * 1000
    teaching = teach(
        samples,
        [
            Label(0, first, LabelState.OFF),
            Label(first, second, LabelState.RUNNING),
            Label(second, len(samples) * 1000, LabelState.STANDBY),
        ],
    )
    assert 0 <= teaching.profile.standby_w <= teaching.profile.off_w <= teaching.profile.on_w
    assert teaching.profile.up_ms >= 3_000
    assert teaching.profile.down_ms >= 1_000


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.sampled_from([1, 3_000, 31_000]))
@settings(deadline=None)
def test_the_running_median_is_the_median_of_each_window(powers: list[int], window_ms: int) -> None:
    part = [(n * 1000, float(power)) for n, power in enumerate(powers)]
    for (t, _), found in zip(part, running_median(part, window_ms), strict=True):
        near = sorted(w for s, w in part if abs(s - t) <= window_ms // 2)
        assert found == near[(len(near) - 1) // 2]


def test_labels_of_time_that_nobody_recorded_are_refused_with_both_spans() -> None:
    samples = [(n * 1000, 200.0 if 100 <= n < 400 else 2.0) for n in range(600) if not 450 <= n < 520]
    off = Label(0, 100_000, LabelState.OFF)
    for start, end, state, what in (
        # The wrong day, the wrong offset from either side, and a hole.
        (86_500_000, 86_800_000, LabelState.RUNNING, "from 86500 s to 86800 s holds no sample"),
        (100_000, 1_200_000, LabelState.RUNNING, "from 100 s to 1200 s lies mostly outside"),
        (460_000, 500_000, LabelState.STANDBY, "from 460 s to 500 s holds no sample"),
    ):
        with pytest.raises(CannotTeach, match=f"{state.value} {what}.*: the recording goes from 0 s to 599 s"):
            teach(samples, [off, Label(start, end, state)])
    with pytest.raises(CannotTeach, match=r"standby from -50 s to 0\.5 s lies mostly outside"):
        teach(samples, [Label(-50_000, 500, LabelState.STANDBY), Label(100_000, 400_000, LabelState.RUNNING)])
    # What teaches nothing may lie anywhere, and the last reading holds for a while.
    run, rest = Label(100_000, 400_000, LabelState.RUNNING), Label(900_000, 999_000, LabelState.AMBIGUOUS)
    assert teach(samples, [off, run, Label(400_000, 620_000, LabelState.OFF), rest]).wrong_ms == 0
    for some in ([], [(0, 2.0)]):
        with pytest.raises(CannotTeach, match=r"holds (one|no) sample"):
            teach(some, [off])


@pytest.mark.parametrize("idle_w", [-8.0, -0.4])
def test_a_meter_that_shows_less_than_nothing_while_idle_has_an_idle_level_of_nothing(idle_w: float) -> None:
    samples = [(float(n), 300.0 if 200 <= n < 500 else idle_w) for n in range(700)]
    for state in ("off", "standby"):
        teaching = taught(samples, [(0, 200, state), (200, 500, "running"), (500, 700, state)])
        assert (teaching.idle_ceiling_w, teaching.wrong_ms, teaching.warnings) == (0.0, 0, ())
        assert 0 <= teaching.profile.standby_w <= teaching.profile.off_w
    with pytest.raises(CannotTeach, match=r"negative while it runs \(-300 W\).*the wrong way round"):
        taught([(t, -power) for t, power in samples], [(0, 200, "off"), (200, 500, "running")])


def test_a_recording_outlives_the_lesson_until_another_begins_or_it_is_cancelled() -> None:
    live, at = LiveTeaching(), 0

    def recorded_for(state: str, seconds: int, power: float) -> int:
        nonlocal at
        live.mark(TeachArgs(inst="xc-h01-01", mark="start", state=state), at)
        for _ in range(seconds):
            live.saw("xc-h01-01", Power(at, power, None, PowerState.OFF))
            at += 1000
        noted = live.mark(TeachArgs(inst="xc-h01-01", mark="stop"), at)
        assert isinstance(noted, Noted)
        return noted.labels

    def lesson() -> Teaching:
        future = live.learn("xc-h01-01", at)
        assert not isinstance(future, Refusal)
        return future.result(60)

    try:
        assert recorded_for("running", 60, 500.0) == 1
        with pytest.raises(CannotTeach, match="no sample is labelled off or standby"):
            lesson()
        assert recorded_for("off", 150, 1.0) == 2, "what was missing is added"
        assert recorded_for("standby", 0, 1.0) == 2, "a mark that was taken back at once says nothing"
        first = lesson()
        live.saw("xc-h01-01", Power(at, 9000.0, None, PowerState.OFF))
        assert lesson() == first, "the answer was lost"
        assert recorded_for("off", 150, 1.0) == 1, "the next lesson begins"
        at += 40_000
        live.mark(TeachArgs(inst="xc-h01-01", mark="start", state="running"), at)
        at += 60_000
        with pytest.raises(CannotTeach, match=r"running .* holds no sample"):
            lesson()
        assert live.mark(TeachArgs(inst="xc-h01-01", mark="cancel"), at) == Noted(0, 0)
        assert isinstance(live.learn("xc-h01-01", at), Refusal)
    finally:
        live.close()
