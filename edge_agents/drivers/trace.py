"""Plays a recorded power curve: a CSV with the columns `t_s,power_w` (seconds, watts).

Readings come at the recorded times, shifted so that the first one is due at the start. Faster time is the
clock's business. A pause in the recording is a meter that did not answer, never a power that was held.
"""

from bisect import bisect_right
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from edge_agents.drivers.base import BadDriverSetting, DriverContext, Reading, stale
from edge_agents.drivers.recording import BadFile, read_samples
from edge_agents.wall import wall_offset_ms
from wire.clock import Clock, to_ms


class TraceDriver:
    """One recording, played once. `finished` says that a reading beyond its last sample was asked for."""

    name = "trace"

    def __init__(
        self,
        samples: list[tuple[int, float]],
        clock: Clock,
        *,
        start_ms: int | None = None,
        period_ms: int | None = None,
        hole_periods: int = 5,
    ) -> None:
        """`samples` are (milliseconds, watts), rising; `start_ms` is the UTC wall time at which the first is due.

        Without `start_ms` the recording begins when it is first asked for. Raises ValueError for an empty or
        unordered recording.
        """
        if not samples:
            raise ValueError("the recording holds no sample")
        if any(b[0] <= a[0] for a, b in pairwise(samples)):
            raise ValueError("the recording's times do not rise from sample to sample")
        first = samples[0][0]
        self._offsets = [t - first for t, _ in samples]
        self._power = [power for _, power in samples]
        steps = [b - a for a, b in pairwise(self._offsets)]
        self.period_ms = period_ms or int(median(steps) if steps else 1000)
        self._longest_hold_ms = self.period_ms * hole_periods
        self._clock = clock
        self._start_ms = start_ms
        self._origin_mono: int | None = None
        self.finished = False

    @staticmethod
    def from_csv(
        path: Path, clock: Clock, *, start_ms: int | None = None, period_ms: int | None = None, hole_periods: int = 5
    ) -> "TraceDriver":
        """Read a recording. Raises BadDriverSetting with the file and line where it is not `t_s,power_w`."""
        try:
            samples = read_samples(path)
        except BadFile as error:
            raise BadDriverSetting(str(error)) from None
        return TraceDriver(samples, clock, start_ms=start_ms, period_ms=period_ms, hole_periods=hole_periods)

    def next_due(self, after_ms: int) -> int:
        """The time of the next recorded sample, or one hold time further where the recording pauses."""
        origin = self._origin(after_ms + 1)
        index = bisect_right(self._offsets, after_ms - origin)
        limit = max(after_ms, origin - 1) + self._longest_hold_ms
        if index == len(self._offsets):
            return limit
        due = origin + self._offsets[index]
        return due if index == 0 else min(due, limit)

    def read(self, due_ms: int) -> Reading:
        since_start = due_ms - self._origin(due_ms)
        index = bisect_right(self._offsets, since_start) - 1
        if index < 0:
            return stale(due_ms)
        if since_start > self._offsets[-1]:
            self.finished = True
        if since_start - self._offsets[index] >= self._longest_hold_ms or self.finished:
            return stale(due_ms)
        return Reading(due_ms, self._power[index])

    def close(self) -> None:
        """Nothing is held: the recording was read when it was opened."""

    def _origin(self, first_asked_ms: int) -> int:
        if self._origin_mono is None:
            if self._start_ms is None:
                self._origin_mono = first_asked_ms
            else:
                self._origin_mono = self._start_ms - wall_offset_ms(self._clock)
        return self._origin_mono


def build(context: DriverContext) -> TraceDriver:
    """Build from `path`, optional `start_at` (RFC 3339 with offset) and `hole_periods`. Raises BadDriverSetting."""
    path = context.params.get("path")
    if not isinstance(path, str):
        raise BadDriverSetting('the trace driver needs path = "recording.csv"')
    start_at = context.params.get("start_at")
    try:
        start_ms = None if start_at is None else to_ms(datetime.fromisoformat(str(start_at)))
    except ValueError as error:
        raise BadDriverSetting(f"start_at of the trace driver: {error}") from None
    hole_periods = context.params.get("hole_periods", 5)
    if not isinstance(hole_periods, int) or isinstance(hole_periods, bool) or hole_periods < 1:
        raise BadDriverSetting(f"hole_periods of the trace driver is a whole number from 1, not {hole_periods!r}")
    return TraceDriver.from_csv(Path(path), context.clock, start_ms=start_ms, hole_periods=hole_periods)
