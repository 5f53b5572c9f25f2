"""Scores found running intervals against labels, and makes second days out of a recorded one.

Independent of the product's own arithmetic. `ambiguous` time counts neither for nor against. Seconds throughout.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Interval = tuple[float, float]
Sample = tuple[float, float]


@dataclass
class Score:
    """Sums over any number of traces: add with `+`."""

    run_s: float = 0.0
    missed_s: float = 0.0
    false_s: float = 0.0
    missed_runs: list[Interval] = field(default_factory=list)
    spurious_runs: list[Interval] = field(default_factory=list)
    edges: int = 0
    edges_near: int = 0

    @property
    def gross_percent(self) -> float:
        """False plus missed seconds, in percent of the true ones."""
        return 100 * (self.missed_s + self.false_s) / self.run_s if self.run_s else 0.0

    @property
    def edges_near_percent(self) -> float:
        return 100 * self.edges_near / self.edges if self.edges else 100.0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.run_s + other.run_s,
            self.missed_s + other.missed_s,
            self.false_s + other.false_s,
            self.missed_runs + other.missed_runs,
            self.spurious_runs + other.spurious_runs,
            self.edges + other.edges,
            self.edges_near + other.edges_near,
        )


def score(
    labels: Iterable[tuple[float, float, str]], found: Sequence[Interval], watched: Interval, period_s: float
) -> Score:
    """Score `found` against `labels` (start, end, state) within `watched`, the first and last sample's times.

    A run of at least 30 s that nothing overlaps is missed; a found one that overlaps neither a run nor ambiguous
    time is spurious. An edge is near within two periods; an edge of a run that borders on ambiguous time is not
    judged, for nobody knows where it is.
    """
    first, last = watched
    labels = [(max(a, first), min(b, last), state) for a, b, state in labels if a < last and b > first]
    runs = [(a, b) for a, b, state in labels if state == "running"]
    unsure = [(a, b) for a, b, state in labels if state == "ambiguous"]
    out = Score()
    borders = sorted({first, last, *(x for one in (*runs, *unsure, *found) for x in one)})
    for a, b in pairwise(borders):
        if not first <= a < last or _inside(unsure, a):
            continue
        truly, said = _inside(runs, a), _inside(found, a)
        out.run_s += (b - a) * truly
        out.missed_s += (b - a) * (truly and not said)
        out.false_s += (b - a) * (said and not truly)
    out.missed_runs = [run for run in runs if run[1] - run[0] >= 30 and not _overlaps(run, found)]
    out.spurious_runs = [one for one in found if not _overlaps(one, [*runs, *unsure])]
    for a, b in runs:
        for at, said_at in ((a, [x for x, _ in found]), (b, [y for _, y in found])):
            if any(abs(at - border) < 0.001 for one in unsure for border in one) or at in (first, last):
                continue
            out.edges += 1
            out.edges_near += any(abs(at - x) <= 2 * period_s for x in said_at)
    return out


def _inside(parts: Sequence[Interval], moment: float) -> bool:
    return any(a <= moment < b for a, b in parts)


def _overlaps(one: Interval, others: Iterable[Interval]) -> bool:
    return any(one[0] < b and a < one[1] for a, b in others)


def scaled(samples: Sequence[Sample], factor: float) -> list[Sample]:
    """The same day on a meter, or in a network, with `factor` of the power."""
    return [(t, round(power * factor, 3)) for t, power in samples]


def noisy(samples: Sequence[Sample], dice: random.Random, part: float = 0.02, watts: float = 0.3) -> list[Sample]:
    """Each sample off by a part of its power and by some watts (standard deviations); never below 0 W."""
    return [(t, max(0.0, round(p + dice.gauss(0, part * p + watts), 3))) for t, p in samples]


def jittered(samples: Sequence[Sample], dice: random.Random, seconds: float = 0.4) -> list[Sample]:
    """Each sample a little earlier or later, in order still."""
    moved: list[Sample] = []
    for t, power in samples:
        at = round(t + dice.uniform(-seconds, seconds), 3)
        moved.append((max(at, moved[-1][0] + 0.01) if moved else at, power))
    return moved


def dropped(samples: Sequence[Sample], dice: random.Random, part: float = 0.1) -> list[Sample]:
    """Some samples lost, each on its own."""
    return [s for n, s in enumerate(samples) if n in (0, len(samples) - 1) or dice.random() >= part]


def resampled(samples: Sequence[Sample], period_s: float, phase_s: float = 0.0) -> list[Sample]:
    """What a meter polled each `period_s` would have shown: the power that held at that moment.

    A pause of the recording stays one: nothing is invented inside it.
    """
    out, n, at = [], 0, samples[0][0] + phase_s
    while at <= samples[-1][0]:
        while n + 1 < len(samples) and samples[n + 1][0] <= at:
            n += 1
        if at - samples[n][0] <= 15:
            out.append((round(at, 3), samples[n][1]))
        at += period_s
    return out
