"""What an instrument is doing, from its power: threshold, hysteresis and dwell, one reading at a time. Pure.

The heart of the line. `step` gives out *settled* time only: time whose state no later reading can change.
Edges lie at the first sample beyond the threshold, however long the dwell took to believe it. A sample's power
holds until the next sample. Time without samples is `unknown`, and so is time that was still undecided when the
samples stopped: nothing is guessed. The state is a frozen value that JSON carries, so a restart at any sample,
or any way of cutting the readings into portions, gives the same intervals.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from edge_agents.drivers.base import Quality, Reading
from wire.messages import PowerState
from wire.profiles import ProfileSettings

BILLABLE_PERIOD_MS = 10_000
"""A meter that is read less often than this is good for a hint, not for an invoice."""
_STANDBY_LEFT_AT = 0.8
"""Standby is left below this part of `standby_w`, so that a power that plays around it does not chatter."""


@dataclass(frozen=True)
class DetectorProfile:
    """How to read one instrument's power: watts and milliseconds, fixed at commissioning and named by its hash.

    Running starts after `up_ms` above `on_w` and ends after `down_ms` below `off_w`. While it does not run, above
    `standby_w` is standby and below is off, after `level_ms`. More than `max_hole_ms` between two samples is
    unknown. `narrow` says that idle and running lie so close that a vendor interface would be better.
    Raises ValueError for thresholds that contradict each other.
    """

    on_w: float
    off_w: float
    standby_w: float
    up_ms: int = 10_000
    down_ms: int = 60_000
    max_hole_ms: int = 30_000
    level_ms: int = 10_000
    narrow: bool = False
    version: int = 1

    def __post_init__(self) -> None:
        watts = (self.standby_w, self.off_w, self.on_w)
        if not all(math.isfinite(w) for w in watts) or not 0 <= self.standby_w <= self.off_w <= self.on_w:
            raise ValueError(
                f"a profile needs 0 <= standby_w <= off_w <= on_w; "
                f"got {self.standby_w:g}, {self.off_w:g} and {self.on_w:g}"
            )
        if min(self.up_ms, self.down_ms, self.level_ms) < 0 or self.max_hole_ms < 1:
            raise ValueError("a profile's times cannot be negative, and max_hole_ms is at least 1 ms")

    def canonical(self) -> str:
        """Return the one JSON text of this profile."""
        return ProfileSettings(**asdict(self)).canonical()

    @property
    def sha256(self) -> str:
        """Return the hash by which records and people cite this profile."""
        return ProfileSettings(**asdict(self)).sha256


def profile_from_catalogue(
    standby_w: float,
    idle_w: float,
    running_w: float,
    run_threshold_w: float,
    *,
    up_ms: int = 10_000,
    down_ms: int = 60_000,
    max_hole_ms: int = 30_000,
) -> DetectorProfile:
    """Return a first profile from the levels the catalogue states, until the instrument is taught.

    Raises ValueError unless idle < threshold < running and 0 <= standby <= idle.
    """
    if not 0 <= standby_w <= idle_w < run_threshold_w < running_w:
        raise ValueError(
            "catalogue levels must rise: 0 <= standby <= idle < run threshold < running; "
            f"got {standby_w:g}, {idle_w:g}, {run_threshold_w:g}, {running_w:g}"
        )
    return DetectorProfile(
        on_w=run_threshold_w,
        off_w=round(idle_w + 0.6 * (run_threshold_w - idle_w), 3),
        standby_w=round(max(standby_w / 2, 0.5), 3) if standby_w else min(1.0, idle_w),
        up_ms=up_ms,
        down_ms=down_ms,
        max_hole_ms=max_hole_ms,
        narrow=running_w < 1.5 * idle_w,
    )


@dataclass(frozen=True, slots=True)
class Interval:
    """[from_ms, to_ms) in one state, monotonic milliseconds."""

    from_ms: int
    to_ms: int
    state: PowerState


@dataclass(frozen=True, slots=True)
class DetectorState:
    """All that the detector remembers. `settled_ms`: everything before it has been given out.

    `*_since_ms` is the first sample of a change that its dwell has not confirmed yet; `level_changes` are
    confirmed changes between off and standby that lie at or after `settled_ms`.
    """

    settled_ms: int | None = None
    sample_ms: int | None = None
    seen_ms: int | None = None
    blind: bool = True
    running: bool = False
    run_since_ms: int | None = None
    level: PowerState = PowerState.OFF
    level_since_ms: int | None = None
    level_changes: tuple[tuple[int, PowerState], ...] = ()

    @property
    def shown(self) -> PowerState:
        """What a display may say now; unlike a settled interval it can be corrected later."""
        if self.blind:
            return PowerState.UNKNOWN
        return PowerState.RUNNING if self.running else self._latest_level

    @property
    def _latest_level(self) -> PowerState:
        return self.level_changes[-1][1] if self.level_changes else self.level


def step(profile: DetectorProfile, state: DetectorState, reading: Reading) -> tuple[DetectorState, list[Interval]]:
    """Return the state after `reading` and the intervals it settled; they touch each other and all before them.

    A reading that is not later than the one before is ignored.
    """
    at = reading.mono_ms
    if state.seen_ms is not None and at <= state.seen_ms:
        return state, []
    power = reading.power_w
    if reading.quality is not Quality.GOOD or power is None or not math.isfinite(power):
        return _without_sample(profile, state, at)
    return _with_sample(profile, state, at, power)


def run(
    profile: DetectorProfile, state: DetectorState, readings: Iterable[Reading]
) -> tuple[DetectorState, list[Interval]]:
    """Step through `readings` and return the intervals with neighbours of one state joined."""
    joined: list[Interval] = []
    for reading in readings:
        state, settled = step(profile, state, reading)
        for interval in settled:
            if joined and joined[-1].state == interval.state:
                joined[-1] = Interval(joined[-1].from_ms, interval.to_ms, interval.state)
            else:
                joined.append(interval)
    return state, joined


def interrupted(state: DetectorState) -> DetectorState:
    """Return the state of a detector that did not watch for a while (its process was restarted).

    Whatever time follows `settled_ms` up to the next sample is a hole; what was confirmed stays confirmed.
    """
    return replace(state, blind=True, run_since_ms=None, level_since_ms=None, level_changes=())


def rebased(state: DetectorState) -> DetectorState:
    """Return the state for a new boot: what was confirmed is kept, the times of the old boot mean nothing here."""
    return DetectorState(running=state.running, level=state.level)


def _without_sample(profile: DetectorProfile, state: DetectorState, at: int) -> tuple[DetectorState, list[Interval]]:
    if state.settled_ms is None:
        return replace(state, settled_ms=at, seen_ms=at, blind=True), []
    silent = state.sample_ms is None or at - state.sample_ms > profile.max_hole_ms
    if not state.blind and not silent:
        return replace(state, seen_ms=at), []
    hole = [Interval(state.settled_ms, at, PowerState.UNKNOWN)] if at > state.settled_ms else []
    return replace(interrupted(state), settled_ms=at, seen_ms=at), hole


def _with_sample(
    profile: DetectorProfile, state: DetectorState, at: int, power: float
) -> tuple[DetectorState, list[Interval]]:
    out: list[Interval] = []
    settled, sample, running = state.settled_ms, state.sample_ms, state.running
    if settled is None or sample is None or state.blind or at - sample > profile.max_hole_ms:
        if settled is not None and at > settled:
            out.append(Interval(settled, at, PowerState.UNKNOWN))
        settled = at
        level = PowerState.STANDBY if power > profile.standby_w else PowerState.OFF
        changes: tuple[tuple[int, PowerState], ...] = ()
        run_since = level_since = None
    else:
        level, changes = state.level, state.level_changes
        run_since, level_since = state.run_since_ms, state.level_since_ms

    # Off or standby: followed all the time, so that it is known from the very sample at which a run ends.
    is_off = (changes[-1][1] if changes else level) is PowerState.OFF
    if (power > profile.standby_w) if is_off else (power < _STANDBY_LEFT_AT * profile.standby_w):
        level_since = at if level_since is None else level_since
        if at - level_since >= profile.level_ms:
            changes = (*changes, (level_since, PowerState.STANDBY if is_off else PowerState.OFF))
            level_since = None
    else:
        level_since = None

    # Running or not.
    if (power < profile.off_w) if running else (power > profile.on_w):
        run_since = at if run_since is None else run_since
        if at - run_since >= (profile.down_ms if running else profile.up_ms):
            if not running and level_since is not None:
                # The climb to the run decides it: the power has been above standby ever since.
                changes = (*changes, (level_since, PowerState.STANDBY))
                level_since = None
            out += _pieces(settled, run_since, running, level, changes)
            settled, running, run_since = max(settled, run_since), not running, None
            level, changes = _folded(level, changes, settled)
    else:
        run_since = None

    horizon = at if run_since is None else run_since
    if not running and level_since is not None:
        horizon = min(horizon, level_since)
    if horizon > settled:
        out += _pieces(settled, horizon, running, level, changes)
        settled = horizon
    level, changes = _folded(level, changes, settled)
    return DetectorState(settled, at, at, False, running, run_since, level, level_since, changes), out


def _pieces(
    from_ms: int, to_ms: int, running: bool, level: PowerState, changes: tuple[tuple[int, PowerState], ...]
) -> list[Interval]:
    if to_ms <= from_ms:
        return []
    if running:
        return [Interval(from_ms, to_ms, PowerState.RUNNING)]
    pieces = []
    for at, new_level in changes:
        if at >= to_ms:
            break
        if at > from_ms:
            pieces.append(Interval(from_ms, at, level))
            from_ms = at
        level = new_level
    pieces.append(Interval(from_ms, to_ms, level))
    return pieces


def _folded(
    level: PowerState, changes: tuple[tuple[int, PowerState], ...], settled: int
) -> tuple[PowerState, tuple[tuple[int, PowerState], ...]]:
    while changes and changes[0][0] <= settled:
        level, changes = changes[0][1], changes[1:]
    return level, changes
