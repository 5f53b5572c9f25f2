"""Learns a detector profile from a recording whose intervals a person has labelled. Pure.

Called by `openlab-agent teach` and by whoever teaches a running agent. The rule (docs/detection.md): thresholds
just above the highest idle level, because runs begin and end at low power; dwells longer than the longest spike
seen while idle and the longest pause seen within a run. What it finds it tries on the recording itself, as it is
and as a slower meter would have seen it, and where the plain rule errs there it looks for thresholds between idle
and run that do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agents.detector import BILLABLE_PERIOD_MS, DetectorProfile
from edge_agents.lesson import CannotTeach, Label, LabelState, Lesson
from edge_agents.power_curve import Sample

__all__ = ["BILLABLE_PERIOD_MS", "CannotTeach", "Label", "LabelState", "Teaching", "teach"]

_TRIALS = ((0, 1.0), (5_000, 1.0), (0, 1.03), (0, 0.97))
"""How a profile is tried on its own recording: read every so many milliseconds, with so much of the power."""


@dataclass(frozen=True)
class Teaching:
    """A profile and what it rests on: watts and milliseconds as seen in the recording.

    `wrong_ms` is what the profile gets wrong of the recording itself (running missed plus running invented), of
    `run_ms` labelled as running. `warnings` are sentences for a person.
    """

    profile: DetectorProfile
    period_ms: int
    idle_ceiling_w: float
    run_median_w: float | None
    longest_idle_spike_ms: int
    longest_pause_ms: int
    run_ms: int
    wrong_ms: int
    warnings: tuple[str, ...]

    @property
    def contrast(self) -> float | None:
        """The usual power of a run as a multiple of the idle ceiling; None where no run was seen or idle is 0 W."""
        if self.run_median_w is None or self.idle_ceiling_w <= 0:
            return None
        return self.run_median_w / self.idle_ceiling_w


def teach(samples: Sequence[Sample], labels: Sequence[Label]) -> Teaching:
    """Learn a profile. Raises CannotTeach for labels that overlap or lie outside of the recording (`ambiguous` ones
    may), without idle samples to rise above, or for runs of negative power."""
    lesson = Lesson.of(samples, labels)
    best: tuple[tuple[int, int, int], float, DetectorProfile] | None = None
    for rank, (ceiling_w, profile) in enumerate(lesson.candidates()):
        faults, wrong, tolerated = lesson.tried(profile, _TRIALS)
        # The plain rule comes first and stays, unless it errs by more than the edges of its runs explain.
        score = (faults, max(0, wrong - tolerated) // 1000, rank)
        if best is None or score < best[0]:
            best = score, ceiling_w, profile
        if score[:2] == (0, 0):
            break
    assert best is not None
    _, ceiling_w, profile = best
    working_w = lesson.working_w(ceiling_w)
    _, wrong, _ = lesson.tried(profile, [(0, 1.0)])
    return Teaching(
        profile=profile,
        period_ms=lesson.period_ms,
        idle_ceiling_w=round(ceiling_w, 3),
        run_median_w=None if working_w is None else round(working_w, 3),
        longest_idle_spike_ms=lesson.longest_spike(profile.on_w),
        longest_pause_ms=lesson.longest_pause(profile.off_w),
        run_ms=sum(b - a for a, b in lesson.runs),
        wrong_ms=wrong,
        warnings=tuple(lesson.warnings(profile, wrong, ceiling_w, working_w)),
    )
