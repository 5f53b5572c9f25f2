"""A plain Python function that returns watts is a driver. The easy path for a lab with a meter of its own.

driver = CallableDriver(lambda: my_meter.read_watts(), clock, period_ms=1000)

One that knows more returns it by name: {"power_w": 12.5, "energy_wh": 80412.0, "celsius": 23.5}.
"""

import importlib
from collections.abc import Callable, Mapping

import structlog

from edge_agents.drivers.base import BadDriverSetting, DriverContext, Quality, Reading, stale
from wire.clock import Clock

Answer = float | Mapping[str, float | None] | None

log = structlog.get_logger(__name__)


class CallableDriver:
    """Asks `function` for watts, now. One that returns None or no number, or raises, does not answer.

    Of a mapping, `power_w` is needed, `energy_wh` (the register) may be there, and everything else is a further value.
    """

    name = "callable"

    def __init__(self, function: Callable[[], Answer], clock: Clock, period_ms: int = 1000) -> None:
        self.period_ms = period_ms
        self._function = function
        self._clock = clock
        self._failing = False

    def next_due(self, after_ms: int) -> int:
        """The next multiple of the period: a late reading shifts none after it, a missed one is not made up."""
        return after_ms - after_ms % self.period_ms + self.period_ms

    def read(self, due_ms: int) -> Reading:
        try:
            reading = _read(self._function(), self._clock)
        except Exception as error:  # noqa: BLE001 - whatever a lab's own function raises, its meter is what failed
            if not self._failing:
                log.warning("the meter function failed", error=repr(error))
            self._failing = True
            return stale(self._clock.mono_ms())
        self._failing = False
        return reading

    def close(self) -> None:
        """Nothing is held."""


def _read(answer: Answer, clock: Clock) -> Reading:
    """Return what an answer says now. Raises TypeError or ValueError for one that is no number."""
    said = dict(answer) if isinstance(answer, Mapping) else {"power_w": answer}
    known = {name: float(value) for name, value in said.items() if value is not None}
    power, energy = known.pop("power_w", None), known.pop("energy_wh", None)
    now = clock.mono_ms()
    return stale(now) if power is None else Reading(now, power, energy, Quality.GOOD, known)


def build(context: DriverContext) -> CallableDriver:
    """Build from `function = "package.module:name"`. Raises BadDriverSetting where that names nothing to call."""
    target = context.params.get("function")
    if not isinstance(target, str) or ":" not in target:
        raise BadDriverSetting('the callable driver needs function = "package.module:name"')
    module, _, name = target.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - a lab's own module may fail in any way while it is loaded
        raise BadDriverSetting(f"function {target!r} cannot be loaded: {type(error).__name__}: {error}") from None
    if not callable(function):
        raise BadDriverSetting(f"function {target!r} is not something that can be called")
    return CallableDriver(function, context.clock, context.period_ms)
