"""What one boot's monotonic time is called in wall time, and how far to trust that. Used by the agent.

A machine whose clock has no battery wakes up in 1970, or goes on in the plausible past where it stopped. What its
checkpoint knows to have passed before this boot is a floor: a clock below it is `unset` until it is set. That it
runs on past the floor does not make it right, so boots are compared and not readings.

A clock that was synchronised and is not any more (the network is cut) goes on right for days: it is in `holdover` until
somebody sets it.
"""

from collections.abc import Mapping
from typing import Any

from edge_agents.session_state import Labels
from edge_agents.wall import wall_offset_ms, wall_quality
from wire.clock import Clock
from wire.messages import ClockQuality

HELD_WITHIN_MS = 1_000
"""A clock that nobody sets keeps its offset: monotonic time is slewed along with it. A larger change is a setting."""


class Dating:
    """The labels of this boot. `stepped_from` are those of its last checkpoint, where that is of the same boot."""

    def __init__(self, clock: Clock, saved: Mapping[str, Any]) -> None:
        """`saved` is what `saved` returned when the agent last wrote it down, or nothing."""
        self._clock = clock
        offset = wall_offset_ms(clock)
        self._passed_ms: int = saved.get("wall_ms", 0)
        same_boot = saved.get("boot") == clock.boot
        self._synchronised_ms: int | None = saved.get("synchronised_offset_ms") if same_boot else None
        self._floor_ms: int = saved.get("floor_offset_ms", 0) if same_boot else self._passed_ms - clock.mono_ms()
        self.labels = Labels(clock.boot, offset, self._quality(offset))
        self.stepped_from: Labels | None = None
        if same_boot and saved.get("wall_offset_ms") is not None:
            trusted = ClockQuality(saved.get("clock", self.labels.quality))
            self.stepped_from = Labels(clock.boot, saved["wall_offset_ms"], trusted)

    def look(self) -> bool:
        """Look at the clock again; whether labels are others from now on."""
        before = self.labels
        offset = wall_offset_ms(self._clock, before.wall_offset_ms)
        self.labels = Labels(before.boot, offset, self._quality(offset))
        return self.labels != before

    def saved(self) -> dict[str, Any]:
        """Return what belongs into the checkpoint. `wall_ms` is wall time that has passed for sure."""
        if self.labels.quality is not ClockQuality.UNSET:
            self._passed_ms = self._clock.mono_ms() + self.labels.wall_offset_ms
        return {
            "boot": self.labels.boot,
            "wall_offset_ms": self.labels.wall_offset_ms,
            "clock": self.labels.quality.value,
            "floor_offset_ms": self._floor_ms,
            "wall_ms": self._passed_ms,
            "synchronised_offset_ms": self._synchronised_ms,
        }

    def _quality(self, offset_ms: int) -> ClockQuality:
        quality = wall_quality(self._clock)
        if quality is ClockQuality.NTP:
            self._synchronised_ms = offset_ms
        if quality is not ClockQuality.RTC:
            return quality
        if self._synchronised_ms is not None and abs(offset_ms - self._synchronised_ms) <= HELD_WITHIN_MS:
            return ClockQuality.HOLDOVER
        self._synchronised_ms = None
        return ClockQuality.UNSET if offset_ms < self._floor_ms else ClockQuality.RTC
