"""What a driver promises: readings of one instrument's power, and the truth when there is none.

Called by the agent's stepping thread only; a driver knows neither MQTT nor the spool, and has no threads of its own,
except one for a line that several meters share (`modbus_line`): it must never hold the stepping thread up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from wire.clock import Clock
from wire.ids import is_quantity
from wire.messages import MAX_EXTRA


class Quality(StrEnum):
    """How far a reading may be trusted. Only `good` ones are evidence."""

    GOOD = "good"
    STALE = "stale"
    FAULT = "fault"


class BadDriverSetting(ValueError):
    """A driver cannot be built from these settings; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Power (W) and energy register (Wh) at one monotonic instant; `None` where the meter does not tell.

    `extra`: what else it showed at that moment, by quantity and unit (`volts_l1`, `celsius`); most say only some of it
    with each reading.
    """

    mono_ms: int
    power_w: float | None
    energy_wh: float | None = None
    quality: Quality = Quality.GOOD
    extra: Mapping[str, float] = field(default_factory=dict)


def stale(mono_ms: int) -> Reading:
    """Return the reading of a meter that does not answer."""
    return Reading(mono_ms, None, None, Quality.STALE)


MAX_POWER_W = 1e8
MAX_ENERGY_WH = 1e13


def credible(reading: Reading) -> Reading:
    """Return what may be believed of a reading: power that is no number, or more than any instrument draws, is a meter
    that does not answer; such an energy register, and such a further value, was not read."""
    power, energy = reading.power_w, reading.energy_wh
    if power is not None and not (math.isfinite(power) and abs(power) <= MAX_POWER_W):
        return stale(reading.mono_ms)
    if energy is not None and not (math.isfinite(energy) and abs(energy) <= MAX_ENERGY_WH):
        reading = replace(reading, energy_wh=None)
    if reading.extra:
        reading = replace(reading, extra=_credible_extra(reading.extra))
    return reading


def _credible_extra(extra: Mapping[str, float]) -> dict[str, float]:
    kept = {name: float(value) for name, value in extra.items() if is_quantity(name) and abs(value) <= MAX_ENERGY_WH}
    return dict(list(kept.items())[:MAX_EXTRA])


class Driver(Protocol):
    """One source of power readings. `period_ms` is the nominal time between two of them. A driver whose meter always
    has an energy register may say `tells_energy = True`: the birth tells it before the first reading."""

    name: str
    period_ms: int

    def next_due(self, after_ms: int) -> int:
        """Return the monotonic time, later than `after_ms`, at which the next reading is due."""
        ...

    def read(self, due_ms: int) -> Reading:
        """Return the reading due at `due_ms`. Never raises for a dead meter: its quality is `stale`.

        A real meter answers now, with the time at which it answered; a simulated or recorded one answers for
        exactly `due_ms`, so that readings are caught up in due order however late the caller is.
        """
        ...

    def close(self) -> None:
        """Give back what the driver holds. Safe to call twice."""
        ...


@dataclass(frozen=True)
class DriverContext:
    """What every driver is built with: the instrument it speaks for, the clock, and its own settings."""

    instrument: str
    clock: Clock
    period_ms: int
    params: Mapping[str, Any]
