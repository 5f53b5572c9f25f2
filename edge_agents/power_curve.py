"""Arithmetic on power curves: levels, stretches, and how far two readings of one curve are apart. Pure.

Used by teaching and by the `detect` command.
"""

import math
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from statistics import median

from edge_agents.detector import DetectorProfile, DetectorState, run
from edge_agents.drivers.base import Reading
from wire.messages import PowerState

Sample = tuple[int, float]
"""Milliseconds of the recording, watts."""

SPIKE_WINDOW_MS = 31_000
LEVEL_WINDOW_MS = 121_000
LONGEST_HELD_MS = 30_000


def sample_period_ms(samples: Sequence[Sample]) -> int:
    """Return the usual time between two samples, at least 1 ms; 1000 where there is only one."""
    return max(1, round(median(b[0] - a[0] for a, b in pairwise(samples)))) if len(samples) > 1 else 1000


def running_intervals(profile: DetectorProfile, samples: Iterable[Sample]) -> list[tuple[int, int]]:
    """Return when the detector says `running`, in milliseconds of the recording, as far as it is settled."""
    _, found = run(profile, DetectorState(), (Reading(t, power) for t, power in samples))
    return [(i.from_ms, i.to_ms) for i in found if i.state is PowerState.RUNNING]


def thinned_to(samples: Sequence[Sample], period_ms: int) -> list[Sample]:
    """Return what a meter read every `period_ms` would have seen: of each period its first sample, unchanged."""
    if period_ms <= 0:
        return list(samples)
    return [next(group) for _, group in groupby(samples, key=lambda sample: sample[0] // period_ms)]


def apart(
    truth: Sequence[tuple[int, int]],
    found: Sequence[tuple[int, int]],
    unscored: Sequence[tuple[int, int]],
    first_ms: int,
    last_ms: int,
) -> int:
    """Return how long exactly one of `truth` and `found` says running, outside `unscored`, while samples lasted."""
    borders = sorted({first_ms, last_ms, *(x for part in (*truth, *found, *unscored) for x in part)})

    def within(parts: Sequence[tuple[int, int]], moment: int) -> bool:
        return any(a <= moment < b for a, b in parts)

    return sum(
        b - a
        for a, b in pairwise(borders)
        if first_ms <= a < last_ms and not within(unscored, a) and within(truth, a) != within(found, a)
    )


def percentile(rising: Sequence[float], part: float) -> float:
    """Return the smallest value that `part` of them do not exceed; 0 of none."""
    return rising[min(len(rising) - 1, math.ceil(part * len(rising)) - 1)] if rising else 0.0


def running_median(part: Sequence[Sample], window_ms: int, share: float = 0.5) -> list[float]:
    """For each sample the median of those at most half a window before or after it.

    With another `share`, the smallest power that so much of the window does not exceed.
    """
    out, window = [], list[float]()
    first = last = 0
    for t, _ in part:
        while last < len(part) and part[last][0] <= t + window_ms // 2:
            insort(window, part[last][1])
            last += 1
        while part[first][0] < t - window_ms // 2:
            del window[bisect_right(window, part[first][1]) - 1]
            first += 1
        out.append(percentile(window, share))
    return out


def stretches(part: Sequence[Sample], beyond: Callable[[float], bool]) -> Iterator[tuple[bool, int, int]]:
    """Yield (is beyond, its first sample's time, the time of the first sample after it) for each stretch.

    The last sample of a stretch holds until the next one, but no longer than half a minute.
    """
    start = 0
    for is_beyond, group in groupby(range(len(part)), key=lambda n: bool(beyond(part[n][1]))):
        end = start + sum(1 for _ in group)
        until = part[end][0] if end < len(part) else part[-1][0]
        yield is_beyond, part[start][0], min(until, part[end - 1][0] + LONGEST_HELD_MS)
        start = end
