"""What is remembered of one instrument between two readings: the values that `sessions` works on. Pure.

All of it is frozen and carried by JSON: the spool keeps it in the same transaction as the records.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import median_low

from edge_agents.detector import BILLABLE_PERIOD_MS
from edge_agents.drivers.base import Quality, Reading
from edge_agents.hole_evidence import BELIEVED_AHEAD_MS, HOUR_MS, ROUNDING_WH, HoleEvidence
from wire.messages import ClockQuality, Odometer, Power, PowerState

MAX_WAITING_SAMPLES = 4_000
SLOW_SPACING_MS = round(1.05 * BILLABLE_PERIOD_MS)
"""Readings are never quite on time: a meter that is asked every ten seconds is not slow."""
PACE_SAMPLES = 9
LEAST_PACE_SAMPLES = 5


@dataclass(frozen=True)
class Meter:
    """What stays the same while a meter speaks for an instrument. `most_w`: more than this it cannot draw. `stop_w`,
    `dwell_ms`: a run is over after so long below so many watts."""

    inst: str
    period_ms: int
    tick_ms: int = 60_000
    narrow: bool = False
    most_w: float | None = None
    stop_w: float | None = None
    dwell_ms: int = 0


@dataclass(frozen=True)
class Labels:
    """How this boot's monotonic time is called in wall time, and how far to trust that."""

    boot: str
    wall_offset_ms: int
    quality: ClockQuality


@dataclass(frozen=True, slots=True)
class Sum:
    """What has been seen since `from_ms` of the record in the making: power weighed by how long it held."""

    samples: int = 0
    weight_ms: int = 0
    watt_ms: float = 0.0
    low_w: float = 0.0
    high_w: float = 0.0

    def with_sample(self, power_w: float, held_ms: int) -> "Sum":
        low = power_w if self.samples == 0 else min(self.low_w, power_w)
        high = power_w if self.samples == 0 else max(self.high_w, power_w)
        return Sum(self.samples + 1, self.weight_ms + held_ms, self.watt_ms + power_w * held_ms, low, high)

    def power(self) -> Power | None:
        if self.weight_ms <= 0:
            return None
        # Rounded sums may leave the average a hair outside of what was seen.
        average = min(max(self.watt_ms / self.weight_ms, self.low_w), self.high_w)
        return Power(avg=round(average, 3), min=self.low_w, max=self.high_w)


def _usually_slow(spacings: tuple[int, ...]) -> bool:
    return len(spacings) >= LEAST_PACE_SAMPLES and median_low(spacings) > SLOW_SPACING_MS


@dataclass(frozen=True, slots=True)
class Pace:
    """How often samples really come, whatever the settings say. `spacings` are the newest ones between two samples with
    no hole between them; `was_slow`: at some sample of the record in the making they were mostly above ten seconds."""

    sampled_ms: int | None = None
    spacings: tuple[int, ...] = ()
    was_slow: bool = False

    @property
    def is_slow(self) -> bool:
        """Whether samples usually come too seldom now."""
        return _usually_slow(self.spacings)

    def with_samples(self, times: Iterable[int]) -> "Pace":
        """Return the pace with more samples. One late reading, or two, make no meter slow: the usual spacing counts."""
        last, spacings, slow = self.sampled_ms, self.spacings, self.was_slow
        for at in times:
            if last is not None:
                spacings = (*spacings, at - last)[-PACE_SAMPLES:]
                slow = slow or (at - last > SLOW_SPACING_MS and _usually_slow(spacings))
            last = at
        return Pace(last, spacings, slow)

    def behind_hole(self) -> "Pace":
        """Return the pace at the end of a hole: how long that was says nothing of the pace."""
        return replace(self, sampled_ms=None)

    def begun(self) -> "Pace":
        """Return the pace at the begin of a record."""
        return replace(self, was_slow=False) if self.was_slow else self


@dataclass(frozen=True, slots=True)
class BootGap:
    """The hole before this boot, which only the wall clock measures: its length is `base_ms` + the clock's offset.

    `told_ms` is the length that a reader of the stream was told last, None while nobody can know it.
    """

    seq: int
    base_ms: int
    recorded_ms: int
    told_ms: int | None


@dataclass(frozen=True, slots=True)
class SessionState:
    """All that is remembered of one instrument. `odo` includes time that no record has told yet.

    The record in the making is [from_ms, upto_ms) in `state`; `before` is the last state that was known.
    `recorded` is the odometer of the last record: what a reader of the stream knows.
    `hole_ms` is the length of the hole just left, `new_boot` that the agent waits for the first time of another boot.
    `boot_gap` is kept until the clock is sure: then the length of the hole before this boot is known.
    `evidence` is what the next gap record can say of its hole, `pace` how often samples really come.
    """

    boot: str
    wall_offset_ms: int = 0
    quality: ClockQuality = ClockQuality.RTC
    from_ms: int | None = None
    upto_ms: int | None = None
    state: PowerState | None = None
    before: PowerState | None = None
    session: str | None = None
    odo: tuple[int, int, int, int] = (0, 0, 0, 0)
    recorded: tuple[int, int, int, int] = (0, 0, 0, 0)
    opened: int = 0
    closed: int = 0
    sum: Sum = field(default_factory=Sum)
    waiting: tuple[tuple[int, float], ...] = ()
    energy_wh: float | None = None
    energy_ms: int | None = None
    energy_fell: bool = False
    energy_jumped: bool = False
    went_stale: bool = False
    inferred: bool = False
    hole_ms: int = 0
    new_boot: bool = False
    boot_gap: BootGap | None = None
    evidence: HoleEvidence = field(default_factory=HoleEvidence)
    pace: Pace = field(default_factory=Pace)

    @property
    def odometer(self) -> Odometer:
        """Time accounted for so far, in this stream."""
        return odometer(self.odo)


_ORDER = (PowerState.OFF, PowerState.STANDBY, PowerState.RUNNING, PowerState.UNKNOWN)


def odometer(values: tuple[int, int, int, int]) -> Odometer:
    """Return the wire's odometer of four running totals (off, standby, running, unknown)."""
    return Odometer(off=values[0], standby=values[1], running=values[2], unknown=values[3])


def driven(odo: tuple[int, int, int, int], state: PowerState, ms: int) -> tuple[int, int, int, int]:
    at = _ORDER.index(state)
    off, standby, running, unknown = (value + ms if n == at else value for n, value in enumerate(odo))
    return off, standby, running, unknown


def observe(state: SessionState, reading: Reading, most_w: float | None = None) -> SessionState:
    """Remember a reading until the detector has settled its time. A register that goes on by more than `most_w`
    allows is no energy: it is remembered that it jumped, and it counts on from there."""
    if reading.quality is not Quality.GOOD or reading.power_w is None:
        return state if state.went_stale else replace(state, went_stale=True)
    state = replace(state, waiting=(*state.waiting, (reading.mono_ms, reading.power_w))[-MAX_WAITING_SAMPLES:])
    new, old, at = reading.energy_wh, state.energy_wh, state.energy_ms
    if new is None:
        return state
    fell = old is not None and new < old - ROUNDING_WH
    jumped = False
    if most_w is not None and old is not None and at is not None:
        jumped = new - old > most_w * (reading.mono_ms - at + BELIEVED_AHEAD_MS) / HOUR_MS
    return replace(
        state,
        energy_wh=new,
        energy_ms=reading.mono_ms,
        energy_fell=state.energy_fell or fell,
        energy_jumped=state.energy_jumped or jumped,
        evidence=state.evidence.read(reading.mono_ms, new, old),
    )
