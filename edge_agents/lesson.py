"""What a labelled recording shows: idle levels, spikes, pauses, and the profiles that they allow. Pure.

The arithmetic behind `teaching`, which is the only one to call it; docs/detection.md says it in words.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from statistics import median

from edge_agents.detector import BILLABLE_PERIOD_MS, DetectorProfile
from edge_agents.power_curve import (
    LEVEL_WINDOW_MS,
    LONGEST_HELD_MS,
    SPIKE_WINDOW_MS,
    Sample,
    apart,
    percentile,
    running_intervals,
    running_median,
    sample_period_ms,
    stretches,
    thinned_to,
)

MARGIN = 1.5
DOWN_FLOOR_MS = 60_000
UP_FLOOR_MS = 15_000
BELOW_NOTHING_W = 5.0
"""Further below nothing than a meter's own error."""


class LabelState(StrEnum):
    """What a person says an instrument did. `ambiguous` time teaches nothing and is scored by nobody."""

    OFF = "off"
    STANDBY = "standby"
    RUNNING = "running"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Label:
    """[start_ms, end_ms) of a recording was `state`. Raises ValueError where it ends before it starts."""

    start_ms: int
    end_ms: int
    state: LabelState

    def __post_init__(self) -> None:
        if self.end_ms <= self.start_ms:
            raise ValueError("a labelled interval should end later than it starts")


class CannotTeach(ValueError):
    """The recording or its labels teach nothing; the message says what is missing."""


@dataclass(frozen=True)
class Lesson:
    """The samples, sorted by what was said about them."""

    samples: Sequence[Sample]
    period_ms: int
    labels: Sequence[Label]
    runs: Sequence[tuple[int, int]]
    idle: Sequence[tuple[Label, Sequence[Sample]]]
    active: Sequence[Sequence[Sample]]
    ceilings_w: Sequence[float]

    @staticmethod
    def of(samples: Sequence[Sample], labels: Sequence[Label]) -> "Lesson":
        labels = sorted(labels, key=lambda label: label.start_ms)
        if any(b.start_ms < a.end_ms for a, b in pairwise(labels)):
            raise CannotTeach("two labelled intervals overlap")
        if len(samples) < 2:
            raise CannotTeach("the recording holds one sample" if samples else "the recording holds no sample")
        times, period_ms = [t for t, _ in samples], sample_period_ms(samples)
        idle: list[tuple[Label, Sequence[Sample]]] = []
        active: list[Sequence[Sample]] = []
        runs: list[tuple[int, int]] = []
        for label in labels:
            inside = samples[bisect_left(times, label.start_ms) : bisect_left(times, label.end_ms)]
            if label.state is not LabelState.AMBIGUOUS:
                _lies_within(label, inside, (times[0], times[-1]), period_ms)
            if label.state is LabelState.RUNNING:
                runs.append((label.start_ms, label.end_ms))
                active.append(inside)
            elif label.state is not LabelState.AMBIGUOUS:
                idle.append((label, inside))
        if not idle:
            raise CannotTeach("no sample is labelled off or standby: record each idle level for two minutes")
        parts = [part for _, part in idle]
        long_parts = [part for part in parts if part[-1][0] - part[0][0] >= LEVEL_WINDOW_MS]
        held = [max(running_median(part, LEVEL_WINDOW_MS)) for part in long_parts]
        # Power that dithers between two values is at home on both.
        dithered = [max(running_median(part, LEVEL_WINDOW_MS, 0.8)) for part in long_parts]
        usual = max(
            (
                percentile(sorted(w for part in parts for w in running_median(part, SPIKE_WINDOW_MS)), 0.98),
                *(percentile(sorted(running_median(part, SPIKE_WINDOW_MS)), 0.98) for part in long_parts),
                *held,
            )
        )
        # First what was held for a minute: what is shorter is a spike, and the dwell keeps those out.
        found = (max(held, default=usual), max(dithered, default=usual), usual)
        # A meter that shows a little less than nothing while idle says that there is nothing.
        ceilings = tuple(dict.fromkeys(max(0.0, ceiling) for ceiling in found))
        lesson = Lesson(samples, period_ms, labels, runs, idle, active, ceilings)
        working = lesson.working_w(ceilings[0])
        if working is not None and working < -BELOW_NOTHING_W:
            raise CannotTeach(
                f"the power is negative while it runs ({working:g} W): a current transformer is the wrong way round"
            )
        return lesson

    def working_w(self, ceiling_w: float) -> float | None:
        """The usual power of a run. Of one that is made of short bursts, the power of the bursts."""
        powers = [w for part in self.active for _, w in part]
        working = [w for w in powers if w > _just_above(ceiling_w)[0]]
        return median(working if len(working) >= 0.04 * len(powers) else powers) if powers else None

    def run_floor_w(self) -> float:
        """The power that runs stay above, but for their first and last moments; 0 without a run."""
        return min((percentile(sorted(w for _, w in part), 0.02) for part in self.active), default=0.0)

    def candidates(self) -> Iterator[tuple[float, DetectorProfile]]:
        """Idle ceilings and profiles: those of the rule first, then others between idle and run."""
        between: list[tuple[float, DetectorProfile]] = []
        for ceiling in self.ceilings_w:
            working = self.working_w(ceiling)
            narrow = working is not None and working < 1.5 * ceiling
            plain = list(self._with_dwells(ceiling, *_just_above(ceiling), narrow))
            if not narrow:
                on, _ = _just_above(ceiling)
                room = min(2 * on, math.sqrt(on * max(on, self.run_floor_w())))
                if room > 1.1 * on:
                    # No run goes that low, so idle may come a little higher on another day.
                    yield from self._with_dwells(ceiling, room, ceiling + 0.6 * (room - ceiling), narrow)
                yield from plain
            if working is not None and working > ceiling:
                low = ceiling if ceiling > 0 else 0.05 * working
                for part in (0.5, 0.35, 0.65, 0.8):
                    on = low ** (1 - part) * working**part
                    between += self._with_dwells(ceiling, on, ceiling + 0.6 * (on - ceiling), narrow)
            if narrow:
                between += plain
        yield from between

    def _with_dwells(
        self, ceiling_w: float, on_w: float, off_w: float, narrow: bool
    ) -> Iterator[tuple[float, DetectorProfile]]:
        spike = self.longest_spike(on_w)
        down = self._down(off_w)
        for margin in (MARGIN, 1.2) if spike else (MARGIN,):
            profile = DetectorProfile(
                on_w=round(on_w, 3),
                off_w=round(min(off_w, on_w), 3),
                standby_w=0.0,
                up_ms=round(max(margin * spike, 0.9 * self.period_ms, 3_000, self._up_floor(on_w, off_w))),
                down_ms=round(down),
                max_hole_ms=max(LONGEST_HELD_MS, 5 * self.period_ms),
                narrow=narrow,
            )
            yield ceiling_w, replace(profile, standby_w=self.standby_w(profile.off_w))

    def _up_floor(self, on_w: float, off_w: float) -> float:
        """How long may be waited for a run at no cost, of an instrument that takes power all through its long runs.

        Such a wait keeps out short spikes that this recording does not show. The start is dated back all the same.
        """
        powers = [w for part in self.active for _, w in part]
        if not powers or sum(w > on_w for w in powers) < 0.9 * len(powers) or self.longest_pause(off_w):
            return 0.0
        begins = [
            next((b - a for above, a, b in stretches(part, lambda w: w > on_w) if above), 0) for part in self.active
        ]
        return min(UP_FLOOR_MS, min(begins) / 4, min(b - a for a, b in self.runs) / 10)

    def _down(self, off_w: float) -> float:
        pause, joined = self.longest_pause(off_w), self.longest_pause(off_w, blind_ms=BILLABLE_PERIOD_MS)
        # A programme of an hour is not over after ten seconds, though this one never paused for longer.
        # But the longer it is waited for, the more likely a spike of idle time is taken for more of the run.
        floor = min(DOWN_FLOOR_MS, min((b - a for a, b in self.runs), default=0) / 10, self.shortest_quiet(off_w) / 2)
        down = max(MARGIN * pause, 1.15 * joined, 3 * self.period_ms, 10_000, floor)
        nearest = min((b[0] - a[1] for a, b in pairwise(self.runs)), default=None)
        if nearest is not None and down >= nearest / MARGIN and nearest > pause:
            # Two runs so near that the margin would join them: half-way is the safest that is left.
            return math.sqrt(max(pause, 1000) * nearest)
        return down

    def standby_w(self, off_w: float) -> float:
        """Where off ends and standby begins, as far as the labels show both."""
        levels: dict[LabelState, list[float]] = {LabelState.OFF: [], LabelState.STANDBY: []}
        for label, part in self.idle:
            levels[label.state] += running_median(part, SPIKE_WINDOW_MS)
        off, standby = sorted(levels[LabelState.OFF]), sorted(levels[LabelState.STANDBY])
        if not standby:
            return off_w
        low = percentile(standby, 0.05)
        high = percentile(off, 0.95) if off else 0.0
        between = (low + high) / 2 if low > high else high
        return round(min(max(0.0, between), off_w), 3)

    def longest_spike(self, on_w: float) -> int:
        """The longest time above `on_w` while idle: first sample above to first that is not; a group counts as one."""
        longest = 0
        for part in self._idle_stretches():
            began, ended = 0, -SPIKE_WINDOW_MS
            spans = list(stretches(part, lambda w: w > on_w))
            for position, (above, start, end) in enumerate(spans):
                # What touches the border of idle time is the slope of a run, or of what was called ambiguous.
                if above and 0 < position < len(spans) - 1:
                    # A slow meter sees two spikes that are less than its period apart as one.
                    began, ended = (began if start - ended < BILLABLE_PERIOD_MS else start), end
                    longest = max(longest, ended - began)
        return longest

    def longest_pause(self, off_w: float, blind_ms: int = 0) -> int:
        """The longest time below `off_w` between two parts of one run.

        With `blind_ms`, as seen by somebody who missed any one burst shorter than that.
        """
        longest = 0
        for part in self.active:
            spans = list(stretches(part, lambda w: w < off_w))
            for position, (below, start, end) in enumerate(spans):
                if not below or position in (0, len(spans) - 1):
                    continue
                if position + 3 < len(spans) and spans[position + 2][1] - end < blind_ms:
                    end = spans[position + 2][2]
                longest = max(longest, end - start)
        return longest

    def shortest_quiet(self, off_w: float) -> float:
        """The shortest time below `off_w` between two spikes while idle; without end where there are none."""
        shortest = math.inf
        for part in self._idle_stretches():
            quiet = [end - start for above, start, end in stretches(part, lambda w: w >= off_w) if not above]
            shortest = min(shortest, *quiet[1:-1], math.inf)
        return shortest

    def _idle_stretches(self) -> Iterator[list[Sample]]:
        """Idle samples, with off and standby that follow each other joined."""
        joined: list[Sample] = []
        end_of_last = None
        for label, part in self.idle:
            if joined and label.start_ms != end_of_last:
                yield joined
                joined = []
            joined = [*joined, *part]
            end_of_last = label.end_ms
        if joined:
            yield joined

    def _unscored(self) -> list[tuple[int, int]]:
        """Time of which nobody said what it was."""
        said = [(x.start_ms, x.end_ms) for x in self.labels if x.state is not LabelState.AMBIGUOUS]
        borders = [self.samples[0][0], *(x for one in said for x in one), self.samples[-1][0]]
        return [(a, b) for a, b in zip(borders[::2], borders[1::2], strict=True) if a < b]

    def tried(self, profile: DetectorProfile, trials: Iterable[tuple[int, float]]) -> tuple[int, int, int]:
        """Return (runs missed or invented, milliseconds wrong, milliseconds that edges explain), of all `trials`."""
        faults = wrong = tolerated = 0
        truth, unscored = self.runs, self._unscored()
        for period, factor in trials:
            step_ms = max(period, self.period_ms)
            found = running_intervals(profile, ((t, w * factor) for t, w in thinned_to(self.samples, period)))
            for a, b in truth:
                if b - a >= max(30_000, 6 * step_ms) and not any(x < b and a < y for x, y in found):
                    faults += 1
            for a, b in found:
                if not any(x < b and a < y for x, y in (*truth, *unscored)):
                    faults += 1
            wrong += apart(truth, found, unscored, self.samples[0][0], self.samples[-1][0])
            tolerated += 2 * len(truth) * step_ms
        return faults, wrong, tolerated

    def warnings(
        self, profile: DetectorProfile, wrong_ms: int, ceiling_w: float, working_w: float | None
    ) -> Iterator[str]:
        if profile.narrow:
            yield (
                "narrow: idle and running lie close together "
                f"({ceiling_w:g} W and {working_w:g} W); a vendor interface would be better"
            )
        if not self.runs:
            yield "no run was labelled: record one supervised run before this profile is used for billing"
        if self.period_ms > BILLABLE_PERIOD_MS:
            yield f"one sample each {self.period_ms / 1000:g} s is too slow for billing; 5 s or less is wanted"
        total = sum(b - a for a, b in self.runs)
        if total and wrong_ms > 0.01 * total + 2 * len(self.runs) * self.period_ms:
            yield f"the profile does not explain its own recording: {wrong_ms / 1000:g} of {total / 1000:g} s are wrong"


def _lies_within(label: Label, inside: Sequence[Sample], recorded: tuple[int, int], period_ms: int) -> None:
    """Raise CannotTeach for an interval of which nobody recorded a sample, or not even half: it was labelled on another
    day or by another clock. That labels reach a little beyond the recording is usual."""
    there_ms = min(label.end_ms, recorded[1] + period_ms) - max(label.start_ms, recorded[0])
    if inside and 2 * there_ms >= label.end_ms - label.start_ms:
        return
    what = "lies mostly outside of what was recorded" if inside else "holds no sample"
    start, end, first, last = (f"{ms / 1000:.15g} s" for ms in (label.start_ms, label.end_ms, *recorded))
    raise CannotTeach(
        f"the interval labelled {label.state.value} from {start} to {end} {what}: "
        f"the recording goes from {first} to {last}"
    )


def _just_above(ceiling_w: float) -> tuple[float, float]:
    """The rule's thresholds, on and off."""
    return max(1.3 * ceiling_w, ceiling_w + 3), max(1.15 * ceiling_w, ceiling_w + 1.5)
