"""A simulated instrument: the power of a catalogue entry that follows its bookings, more or less.

Product code, not a test double: the demo and a lab that tries the software out both use it. Its power is a
deterministic function of (seed, wall time, plan), and it answers for exactly the instant it is asked about.
"""

import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge_agents.drivers.base import BadDriverSetting, DriverContext, Reading
from edge_agents.drivers.habits import HOUR, Habits, Span, local_day, off_at_night, runs_of_day, working_hours
from edge_agents.wall import wall_offset_ms
from wire.clock import Clock

log = structlog.get_logger(__name__)

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Levels:
    """The power levels of a catalogue entry, watts. Raises ValueError where they do not rise."""

    rated_w: float
    standby_w: float
    idle_w: float
    running_w: float
    run_threshold_w: float

    def __post_init__(self) -> None:
        if not 0 <= self.standby_w <= self.idle_w < self.run_threshold_w < self.running_w <= self.rated_w:
            raise ValueError(
                "levels must rise: 0 <= standby <= idle < run threshold < running <= rated; "
                f"got {self.standby_w:g}, {self.idle_w:g}, {self.run_threshold_w:g}, "
                f"{self.running_w:g}, {self.rated_w:g}"
            )

    @property
    def idle_noise_w(self) -> float:
        """Largest deviation while idle: small against the level, and against the way to the threshold."""
        return min(0.05 * self.idle_w, 0.25 * (self.run_threshold_w - self.idle_w))

    @property
    def running_noise_w(self) -> float:
        """Largest deviation while running."""
        return min(0.08 * self.running_w, 0.25 * (self.running_w - self.run_threshold_w))


def noise(seed: int, second: int) -> float:
    """Return a number in [-1, 1], most often near 0, that depends on the seed and the second alone."""
    x = (seed * 0x9E3779B97F4A7C15 + second * 0xD1B54A32D192ED03) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    x ^= x >> 31
    return ((x & 0xFFFFFFFF) + (x >> 32)) / 0xFFFFFFFF - 1.0


class SimulatedDriver:
    """One simulated instrument. The plan file, where given, is a JSON list of [from_ms, to_ms] in UTC wall time."""

    name = "simulated"

    def __init__(
        self,
        levels: Levels,
        clock: Clock,
        seed: str,
        *,
        plan: Path | None = None,
        period_ms: int = 1000,
        habits: Habits | None = None,
    ) -> None:
        self.period_ms = period_ms
        self._levels = levels
        self._clock = clock
        self._seed = seed
        self._noise_seed = zlib.crc32(seed.encode())
        self._plan = plan
        self._plan_stamp: tuple[int, int] | None = None
        self._plan_looked_at: int | None = None
        self._booked: list[Span] = []
        self._habits = habits or Habits()
        self._days: dict[int, tuple[Span | None, list[Span], bool]] = {}
        self._offset_ms: int | None = None

    def next_due(self, after_ms: int) -> int:
        return after_ms - after_ms % self.period_ms + self.period_ms

    def read(self, due_ms: int) -> Reading:
        self._offset_ms = wall_offset_ms(self._clock, self._offset_ms)
        wall_ms = due_ms + self._offset_ms
        # Looking at the file once a minute of the instrument's time is soon enough for a booking.
        if self._plan_looked_at is None or abs(wall_ms - self._plan_looked_at) >= 60_000:
            self.look_at_plan()
            self._plan_looked_at = wall_ms
        return Reading(due_ms, self.power_at(wall_ms))

    def close(self) -> None:
        """Nothing is held."""

    def plan_for(self, booked: Iterable[Span]) -> None:
        """Follow these bookings (UTC wall time) from now on, as if they had been read from a plan file."""
        self._booked = sorted(span for span in booked if span[0] < span[1])
        self._days.clear()

    def look_at_plan(self) -> None:
        """Read the plan again if its file has changed. A file that cannot be read leaves the plan as it was."""
        if self._plan is None:
            return
        try:
            info = self._plan.stat()
            stamp = (info.st_mtime_ns, info.st_size)
            if stamp == self._plan_stamp:
                return
            booked = [(int(start), int(end)) for start, end in json.loads(self._plan.read_text())]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError) as error:
            log.warning("the plan of a simulated instrument cannot be read", file=str(self._plan), error=repr(error))
            return
        self._plan_stamp = stamp
        self.plan_for(booked)

    def running_at(self, wall_ms: int) -> Span | None:
        """Return the run that takes place at `wall_ms`, if any."""
        _, runs, _ = self._day(local_day(wall_ms))
        return next((run for run in runs if run[0] <= wall_ms < run[1]), None)

    def power_at(self, wall_ms: int) -> float:
        """Return the watts at a UTC instant, for the plan as it was last read."""
        levels, wobble = self._levels, noise(self._noise_seed, wall_ms // 1000)
        day = local_day(wall_ms)
        hours, runs, is_switched_off = self._day(day)
        run = next((run for run in runs if run[0] <= wall_ms < run[1]), None)
        if run is not None:
            # Motors and heaters take more in the first minutes of a run.
            warm_up = 0.1 * levels.running_w * math.exp(-(wall_ms - run[0]) / 90_000)
            return min(levels.rated_w, levels.running_w + warm_up + wobble * levels.running_noise_w)
        # Whoever runs it out of hours switches it on half an hour before and leaves half an hour later.
        attended = any(start - HOUR // 2 <= wall_ms < end + HOUR // 2 for start, end in runs)
        if attended or (hours is not None and hours[0] <= wall_ms < hours[1]):
            return levels.idle_w + wobble * levels.idle_noise_w
        if hours is None or wall_ms < hours[0]:
            is_switched_off = off_at_night(self._seed, day - 1, self._habits)
        if is_switched_off:
            return 0.0
        return levels.standby_w * (1 + 0.05 * wobble)

    def _day(self, day: int) -> tuple[Span | None, list[Span], bool]:
        known = self._days.get(day)
        if known is None:
            if len(self._days) > 8:
                self._days.clear()
            known = self._days[day] = (
                working_hours(self._seed, day, self._habits),
                runs_of_day(self._seed, day, self._booked, self._habits),
                off_at_night(self._seed, day, self._habits),
            )
        return known


def build(context: DriverContext) -> SimulatedDriver:
    """Build from the levels `rated_w, standby_w, idle_w, running_w, run_threshold_w`, optional `seed` and `plan`.

    Raises BadDriverSetting where a level is missing or they do not rise.
    """
    names = ("rated_w", "standby_w", "idle_w", "running_w", "run_threshold_w")
    missing = [name for name in names if name not in context.params]
    if missing:
        raise BadDriverSetting(f"the simulated driver needs {', '.join(missing)}")
    try:
        levels = Levels(**{name: float(context.params[name]) for name in names})
        habits = Habits(**context.params.get("habits", {}))
    except (TypeError, ValueError) as error:
        raise BadDriverSetting(f"the simulated driver: {error}") from None
    plan = context.params.get("plan")
    return SimulatedDriver(
        levels,
        context.clock,
        str(context.params.get("seed", context.instrument)),
        plan=None if plan is None else Path(str(plan)),
        period_ms=context.period_ms,
        habits=habits,
    )
